"""Search on a real server: filters, named vectors, neighbours, tenants."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from shared.domain.memory import Memory
from shared.domain.scope import Scope
from shared.vectors import VectorQuery, VectorStore
from shared.vectors.sparse import sparse_query
from tests.support.stores.vector_stores import emptied, memory, point, unit

QUERY = unit(1)


@pytest.fixture
async def store(vectors: VectorStore) -> AsyncIterator[VectorStore]:
    yield vectors
    await emptied(vectors, ("a", "b"))


async def found(store: VectorStore, wanted: Scope, tenant: str = "a") -> set[str]:
    (hits,) = await store.search(tenant, [VectorQuery("dense", QUERY, 50, wanted)])
    return {hit.id for hit in hits}


async def keep(store: VectorStore, *memories: Memory, tenant: str = "a") -> None:
    await store.upsert(tenant, [point(tenant, each, unit(1, 0.1)) for each in memories])


NOW = 1_000_000
PLAIN = memory()
FILTERS = [
    (Scope(project="p"), memory(project="p"), PLAIN),
    (Scope(session_id="s"), memory(session_id="s"), PLAIN),
    (Scope(layer="semantic"), memory(layer="semantic"), PLAIN),
    (Scope(exclude_types=("Habit",)), PLAIN, memory(type="Habit")),
    (Scope(start_ms=10), memory(timestamp=10), memory(timestamp=9)),
    (Scope(end_ms=10), memory(timestamp=10), memory(timestamp=11)),
    (Scope(tags=("x", "DB")), memory(tags=("db",)), memory(tags=("dbx",))),
    (Scope(tags=("proj",)), memory(tags=("Proj/Alpha:x",)), memory(tags=("project",))),
    (Scope(tags=("proj/alpha",)), memory(tags=("proj:alpha:x",)), memory(tags=("proj",))),
    (
        Scope(tags=("proj",), tag_match="exact"),
        memory(tags=("PROJ",)),
        memory(tags=("proj:alpha",)),
    ),
    (
        Scope(tags=("a", "b"), tag_mode="all"),
        memory(tags=("a:x", "b")),
        memory(tags=("a",)),
    ),
    (
        Scope(tags=("a", "b"), tag_mode="all", tag_match="exact"),
        memory(tags=("A", "b")),
        memory(tags=("a:x", "b")),
    ),
    (Scope(exclude_tags=("A",)), memory(tags=("b",)), memory(tags=("a:x",))),
    (Scope(current_at_ms=NOW), PLAIN, memory(archived=True)),
    (Scope(current_at_ms=NOW), memory(t_valid=NOW), memory(t_valid=NOW + 1)),
    (Scope(current_at_ms=NOW), memory(t_invalid=NOW + 1), memory(t_invalid=NOW)),
]


@pytest.mark.parametrize(("wanted", "inside", "outside"), FILTERS)
async def test_a_filter_keeps_what_fits(
    store: VectorStore, wanted: Scope, inside: Memory, outside: Memory
) -> None:
    await keep(store, inside, outside)
    assert await found(store, wanted) == {inside.id}
    assert await found(store, Scope()) == {inside.id, outside.id}


async def test_a_batch_answers_each_query_in_its_place(store: VectorStore) -> None:
    near, far = memory("the disk was full"), memory("a walk in Berlin")
    await store.upsert("a", [point("a", near, unit(1, 0.2)), point("a", far, unit(0, 1))])
    dense, nothing, words, context, limited = await store.search(
        "a",
        [
            VectorQuery("dense", QUERY, 5),
            VectorQuery("bm25", sparse_query("who is it"), 5),
            VectorQuery("bm25", sparse_query("walks"), 5),
            VectorQuery("context", unit(0, 0, 0, 0, 0, 0, 1, 0), 5),
            VectorQuery("dense", QUERY.tolist(), 1),
        ],
    )
    assert [hit.id for hit in dense] == [near.id, far.id]
    assert dense[0].score == pytest.approx(float(QUERY @ unit(1, 0.2)), abs=1e-4)
    assert nothing == []
    assert [hit.id for hit in words] == [far.id]
    assert words[0].score > 0
    assert context[0].id == far.id
    assert [hit.id for hit in limited] == [near.id]


async def test_no_query_and_no_words_ask_nobody(store: VectorStore) -> None:
    before = calls("search")
    assert await store.search("a", []) == []
    assert await store.search("a", [VectorQuery("bm25", sparse_query("the"), 5)]) == [[]]
    assert calls("search") == before


async def test_a_search_is_one_call(store: VectorStore) -> None:
    before = calls("search")
    await store.search("a", [VectorQuery("dense", QUERY, 5)] * 5)
    assert calls("search") == before + 1


async def test_neighbours_are_the_tenants_own_without_itself(store: VectorStore) -> None:
    first, second, third, foreign = (memory() for _ in range(4))
    await store.upsert(
        "a",
        [
            point("a", first, unit(1)),
            point("a", second, unit(1, 0.1)),
            point("a", third, unit(0, 1)),
        ],
    )
    await store.upsert("b", [point("b", foreign, unit(1))])
    before = calls("stored"), calls("neighbours")
    near = await store.neighbours(
        "a", [first.id, second.id, foreign.id, str(uuid4())], limit=5, threshold=0.8
    )
    assert {key: [hit.id for hit in hits] for key, hits in near.items()} == {
        first.id: [second.id],
        second.id: [first.id],
    }
    assert (calls("stored"), calls("neighbours")) == (before[0] + 1, before[1] + 1)
    assert await store.neighbours("a", [], limit=5, threshold=0) == {}


async def test_neighbours_are_limited_to_the_nearest(store: VectorStore) -> None:
    centre = memory()
    around = [memory() for _ in range(8)]
    vectors = [unit(1, 0.05 * (at + 1)) for at in range(8)]
    pairs = zip(around, vectors, strict=True)
    await store.upsert("a", [point("a", centre, unit(1)), *(point("a", m, v) for m, v in pairs)])
    near = await store.neighbours("a", [centre.id], limit=3, threshold=0.5)
    assert [hit.id for hit in near[centre.id]] == [each.id for each in around[:3]]


async def test_one_tenant_never_sees_anothers(store: VectorStore) -> None:
    own, theirs = memory("disk"), memory("disk")
    await keep(store, own, tenant="a")
    await keep(store, theirs, tenant="b")
    words = VectorQuery("bm25", sparse_query("disk"), 50)
    assert await found(store, Scope(), "a") == {own.id}
    assert [hit.id for hit in (await store.search("a", [words]))[0]] == [own.id]
    assert await store.stored("a", [own.id, theirs.id]) == await store.stored("a", [own.id])
    assert await store.count("a") == 1
    assert [[each.id for each in page] async for page in store.scroll("a")] == [[own.id]]
    with pytest.raises(ValueError, match="tenant"):
        await store.search("", [words])


async def test_scroll_gives_every_point_once_in_pages(store: VectorStore) -> None:
    memories = [memory(tags=("x",)) for _ in range(25)]
    await keep(store, *memories)
    pages = [page async for page in store.scroll("a", page=10)]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert {each.id for page in pages for each in page} == {each.id for each in memories}
    [first] = [each for page in pages for each in page if each.id == memories[0].id]
    assert first.payload == point("a", memories[0], unit(1)).payload
    assert (first.payload_version, first.text_hash, first.dense) == (1, "h", None)
    assert [page async for page in store.scroll("nobody")] == []


def calls(operation: str) -> float:
    labels = {"store": "vectors", "operation": operation}
    return REGISTRY.get_sample_value("eunoe_store_request_duration_seconds_count", labels) or 0.0
