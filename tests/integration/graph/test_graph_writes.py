"""Creating, changing and deleting memories on the request path."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from shared.config import GraphSettings
from shared.domain.memory import Memory, next_version, now_ms
from shared.errors import Conflict, InvalidInput, PermanentError
from shared.graph.records import Embedding, Idem
from shared.graph.stages.enrich_query import Enriched
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher

TRICKY = (
    'quotes " \' ` and \\ and \\\\ and \\" end\\',
    "\\u0041 \\\\u0041 \\n is text, not an escape",
    "".join(map(chr, range(1, 0x20))) + "\x7f\x80\x85\u2028\u2029\ufeff",
    "日本語 العربية עברית हिन्दी 😀👩‍👩‍👧 e\u0301 \U0010ffff",
    "$param {a: 1}) MATCH (n) DETACH DELETE n // CYPHER x=1",
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


async def _stored(store: GraphStore, memory: Memory) -> Memory | None:
    return (await store.memories.get(TENANT, [memory.id])).get(memory.id)


def _changed(seen: Memory, **fields: object) -> Memory:
    version = next_version(seen.version, now_ms())
    return replace(seen, version=version, payload_version=version, **fields)  # type: ignore[arg-type]


async def test_a_memory_comes_back_as_it_was_written(store: GraphStore) -> None:
    memory = a_memory(
        tags=("Proj/Alpha:db", "x"),
        importance=0.1,
        confidence=1.0,
        t_invalid=-5,
        session_id="s",
        speaker="Ada",
        project="p",
        layer="semantic",
        metadata={"n": [1, {"k": None}], "text": 'a"b'},
        protected=True,
        protected_reason="asked",
    )
    await store.memories.create(TENANT, memory)
    assert await _stored(store, memory) == memory


@pytest.mark.parametrize("text", TRICKY)
async def test_awkward_text_comes_back_equal_everywhere(store: GraphStore, text: str) -> None:
    memory = a_memory(text, tags=(text,), session_id=text, metadata={text: text})
    await store.memories.create(TENANT, memory)
    assert await _stored(store, memory) == memory
    changed = _changed(memory, content=text + text, tags=(text, "other"))
    assert await store.memories.replace(TENANT, changed, seen=memory)
    assert await _stored(store, memory) == changed


@examples(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
async def test_any_text_comes_back_equal(store: GraphStore, texts: list[str]) -> None:
    memories = [a_memory(text, tags=tuple(texts), metadata={"t": texts}) for text in texts]
    await store.memories.create_many(TENANT, memories)
    found = await store.memories.get(TENANT, [memory.id for memory in memories])
    assert list(found.values()) == memories


async def test_a_write_makes_its_own_outbox_entry(
    store: GraphStore, settings: GraphSettings
) -> None:
    """Nothing is lost when the publish that follows never happens."""
    before = now_ms()
    memory = a_memory()
    await store.memories.create(TENANT, memory)
    due = await store.work.next_due(TENANT)
    assert due is not None
    assert before + 60_000 <= due <= now_ms() + 60_000
    counts = await store.memories.counts(TENANT)
    assert (counts.memories, counts.oldest_due_ms) == (1, due)
    assert counts.lagging == {Stage.ENRICH: 1, Stage.EMBED: 1, Stage.RELATE: 0}


async def test_creates_that_meet_share_queries_and_each_gets_its_own_answer(
    store: GraphStore,
) -> None:
    memories = [a_memory(f"number {n}") for n in range(200)]
    await asyncio.gather(*(store.memories.create(TENANT, memory) for memory in memories))
    found = await store.memories.get(TENANT, [memory.id for memory in memories])
    assert found == {memory.id: memory for memory in memories}


async def test_one_bad_row_in_a_group_fails_alone(store: GraphStore) -> None:
    there = a_memory("first")
    await store.memories.create(TENANT, there)
    good = [a_memory(f"number {n}") for n in range(20)]
    bad = [replace(there, content="second"), a_memory(importance=float("nan"))]
    results = await asyncio.gather(
        *(store.memories.create(TENANT, memory) for memory in (*good[:10], *bad, *good[10:])),
        return_exceptions=True,
    )
    assert isinstance(results[10], Conflict)
    assert isinstance(results[11], InvalidInput)
    assert [result for result in results if result is not None] == results[10:12]
    assert len(await store.memories.get(TENANT, [memory.id for memory in good])) == 20
    assert await _stored(store, there) == there


async def test_the_same_id_at_once_is_stored_once_and_else_refused(store: GraphStore) -> None:
    """In one UNWIND both would be reported and one kept, were the id not constrained."""
    first = a_memory("first")
    results = await asyncio.gather(
        *(store.memories.create(TENANT, replace(first, content=str(n))) for n in range(8)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7
    assert (await store.memories.counts(TENANT)).memories == 1
    stored = await _stored(store, first)
    assert stored is not None
    assert stored.content == str(results.index(None))


async def test_an_idempotency_key_is_taken_with_its_memory_or_not_at_all(
    store: GraphStore,
) -> None:
    memories = [a_memory(str(n)) for n in range(6)]
    results = await asyncio.gather(
        *(
            store.memories.create(TENANT, memory, idem=Idem("key", "hash", (memory.id,), "{}"))
            for memory in memories
        ),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    winner = memories[results.index(None)]
    kept = await store.memories.idem(TENANT, "key")
    assert kept is not None
    assert (kept.body_hash, kept.ids, kept.answer_json) == ("hash", [winner.id], "{}")
    assert kept.created_at > 0
    assert list(await store.memories.get(TENANT, [m.id for m in memories])) == [winner.id]
    assert await store.memories.idem(TENANT, "other") is None


@pytest.mark.parametrize("key", ["", " ", " k", "k\t", "k\x01k", "k" * 1025, "é" * 513])
async def test_a_key_that_would_kill_the_server_never_reaches_it(
    store: GraphStore, key: str
) -> None:
    """FalkorDB dies of unique values that its index trims, splits or does not hold."""
    memory = a_memory()
    with pytest.raises(InvalidInput):
        await store.memories.create(TENANT, memory, idem=Idem(key, "h", (memory.id,), "{}"))
    with pytest.raises(InvalidInput):
        await store.memories.create(TENANT, replace(memory, id=key))
    await store.memories.create(TENANT, memory)
    row = Enriched(memory.id, memory.version, (), (), {}, {}, entity_nodes=((key, "slug\n", "x"),))
    with pytest.raises(InvalidInput):
        await store.work.enriched(TENANT, [row])


@pytest.mark.parametrize("key", ["a b", "k" * 1024, "ключ", "-{a|b}*,\\"])
async def test_any_other_key_is_distinguished(store: GraphStore, key: str) -> None:
    memory = a_memory()
    await store.memories.create(TENANT, memory, idem=Idem(key, "h", (memory.id,), "{}"))
    with pytest.raises(Conflict):
        await store.memories.create(TENANT, a_memory(), idem=Idem(key, "h", (), "{}"))
    kept = await store.memories.idem(TENANT, key)
    assert kept is not None
    assert (kept.key, kept.ids) == (key, [memory.id])


async def test_many_are_stored_all_or_none(store: GraphStore) -> None:
    there = a_memory()
    await store.memories.create(TENANT, there)
    others = [a_memory() for _ in range(3)]
    with pytest.raises(Conflict):
        await store.memories.create_many(TENANT, [*others, there])
    with pytest.raises(PermanentError):
        await store.memories.create_many(TENANT, [others[0], others[0]])
    assert await store.memories.get(TENANT, [m.id for m in others]) == {}
    idem = Idem("batch", "hash", tuple(m.id for m in others), "[]")
    await store.memories.create_many(TENANT, others, idem=idem)
    kept = await store.memories.idem(TENANT, "batch")
    assert kept is not None
    assert kept.ids == list(idem.ids)
    assert len(await store.memories.get(TENANT, [m.id for m in others])) == 3


async def test_a_change_wins_only_over_what_its_author_saw(store: GraphStore) -> None:
    seen = a_memory("old", tags=("a",), t_invalid=5, session_id="s")
    await store.memories.create(TENANT, seen)
    changed = _changed(seen, content="mine", tags=("B",), t_invalid=None, session_id=None)
    theirs = _changed(seen, content="theirs")
    assert await store.memories.replace(TENANT, changed, seen=seen)
    assert not await store.memories.replace(TENANT, theirs, seen=seen)
    assert await _stored(store, seen) == changed
    assert await store.memories.by_tags(TENANT, ["a"], 5) == []
    assert await store.memories.by_tags(TENANT, ["b"], 5) == [changed]


async def test_of_many_changes_at_once_each_version_is_won_by_one(store: GraphStore) -> None:
    seen = a_memory()
    await store.memories.create(TENANT, seen)
    wins = await asyncio.gather(
        *(
            store.memories.replace(TENANT, _changed(seen, content=str(n)), seen=seen)
            for n in range(16)
        )
    )
    stored = await _stored(store, seen)
    assert stored is not None
    assert sum(wins) == 1
    assert stored.content == str(wins.index(True))


async def test_a_change_keeps_what_workers_own(store: GraphStore) -> None:
    """An author who saw the memory before its enrichment cannot take the tags back."""
    seen = a_memory(tags=("a",))
    await store.memories.create(TENANT, seen)
    row = Enriched(
        *(seen.id, seen.version, seen.tags, ("entity:people:ada",)),
        *({"people": ["Ada"]}, {"last_run": "now"}),
        summary="short",
    )
    assert await store.work.enriched(TENANT, [row])
    assert not await store.memories.replace(TENANT, _changed(seen, tags=()), seen=seen)
    enriched = await _stored(store, seen)
    assert enriched is not None
    changed = _changed(enriched, tags=("b",))
    assert await store.memories.replace(TENANT, changed, seen=enriched)
    assert await _stored(store, seen) == changed
    assert changed.entity_tags == ("entity:people:ada",)
    assert await store.memories.by_tags(TENANT, ["entity:people:ada"], 5) == [changed]
    assert await store.memories.by_tags(TENANT, ["entity:people"], 5, prefix=True) == [changed]
    assert await store.memories.by_tags(TENANT, ["entity:people"], 5) == []


async def test_a_changed_memory_is_due_again_even_when_it_was_given_up(store: GraphStore) -> None:
    seen = a_memory()
    await store.memories.create(TENANT, seen)
    for stage in (Stage.ENRICH, Stage.EMBED):
        assert await store.work.give_up(TENANT, stage, [(seen.id, seen.version)]) == {seen.id}
    assert await store.work.next_due(TENANT) is None
    assert await store.memories.replace(TENANT, _changed(seen, content="new"), seen=seen)
    counts = await store.memories.counts(TENANT)
    assert counts.lagging == {Stage.ENRICH: 1, Stage.EMBED: 1, Stage.RELATE: 0}
    assert counts.failed == {Stage.ENRICH: 0, Stage.EMBED: 0, Stage.RELATE: 0}


async def test_a_supplied_vector_stays_as_long_as_its_content(store: GraphStore) -> None:
    memory = a_memory("old")
    await store.memories.create(TENANT, memory, embedding=Embedding("m", [0.5, -1.25]))

    async def vector() -> Embedding | None:
        return (await store.memories.embeddings(TENANT, [memory.id])).get(memory.id)

    assert await vector() == Embedding("m", [0.5, -1.25])
    tagged = _changed(memory, tags=("t",))
    assert await store.memories.replace(TENANT, tagged, seen=memory)
    assert await vector() == Embedding("m", [0.5, -1.25])
    rewritten = _changed(tagged, content="new")
    assert await store.memories.replace(TENANT, rewritten, seen=tagged)
    assert await vector() is None
    given_again = _changed(rewritten, content="newer")
    supplied = Embedding("n", [2.0])
    assert await store.memories.replace(TENANT, given_again, seen=rewritten, embedding=supplied)
    assert await vector() == supplied


async def test_deleting_takes_the_edges_along_and_names_what_was_there(
    store: GraphStore, settings: GraphSettings
) -> None:
    one, two = a_memory(), a_memory()
    await store.memories.create_many(TENANT, [one, two])
    assert await associate(store, TENANT, one.id, two.id, "LEADS_TO")
    assert await store.memories.delete(TENANT, [one.id, "absent"]) == {one.id}
    assert await store.memories.delete(TENANT, [one.id]) == set()
    assert list(await store.memories.get(TENANT, [one.id, two.id])) == [two.id]
    assert await cypher(settings, "MATCH ()-[x]->() RETURN count(x)") == [[0]]


async def test_the_last_access_only_rises(store: GraphStore) -> None:
    memory = a_memory(last_accessed=1_000)
    await store.memories.create(TENANT, memory)
    for now in (3_000, 2_000):
        await store.memories.touch(TENANT, [memory.id, "absent"], now)
    assert await _stored(store, memory) == replace(memory, last_accessed=3_000)


async def test_properties_are_a_fixed_list_whatever_the_metadata(
    store: GraphStore, settings: GraphSettings
) -> None:
    """Past 65 536 keys FalkorDB returns another key's value without an error."""
    await store.memories.create(TENANT, a_memory())
    before = await cypher(settings, "CALL db.propertyKeys() YIELD propertyKey RETURN propertyKey")
    for n in range(5):
        await store.memories.create(TENANT, a_memory(metadata={f"key{n}": n}))
    after = await cypher(settings, "CALL db.propertyKeys() YIELD propertyKey RETURN propertyKey")
    assert after == before
