"""Writes on a real server: an older version never wins, another tenant's point never moves."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from shared.domain.memory import Memory
from shared.errors import PermanentError
from shared.vectors import StoredPoint, VectorQuery, VectorStore, point_for
from tests.support.stores.vector_stores import (
    change_payloads,
    emptied,
    memory,
    new_store,
    point,
    settings,
    unit,
)


@pytest.fixture
async def store(vectors: VectorStore) -> AsyncIterator[VectorStore]:
    yield vectors
    await emptied(vectors, ("a", "b"))


async def test_an_older_version_never_wins(store: VectorStore) -> None:
    newer = memory(payload_version=5, tags=("new",))
    older = replace(newer, payload_version=4, tags=("old",))
    await store.upsert("a", [point("a", newer, unit(1))])
    await store.upsert("a", [point("a", older, unit(0, 1))])
    stored = await only(store, newer)
    assert stored.payload["tags"] == ["new"]
    np.testing.assert_allclose(dense_of(stored), unit(1), atol=1e-6)


async def test_the_same_version_may_be_written_again(store: VectorStore) -> None:
    """A job that runs twice, or a text whose context came late."""
    known = memory(payload_version=5)
    await store.upsert("a", [point("a", known, unit(1))])
    await store.upsert("a", [point("a", known, unit(0, 1), text_hash="with context")])
    stored = await only(store, known)
    assert stored.text_hash == "with context"
    np.testing.assert_allclose(dense_of(stored), unit(0, 1), atol=1e-6)


async def test_each_point_of_a_batch_is_guarded_by_itself(store: VectorStore) -> None:
    stale, fresh, new = memory(payload_version=5), memory(payload_version=5), memory()
    await store.upsert("a", [point("a", stale, unit(1)), point("a", fresh, unit(1))])
    await store.upsert(
        "a",
        [
            point("a", replace(stale, payload_version=4), unit(0, 1)),
            point("a", replace(fresh, payload_version=6), unit(0, 1)),
            point("a", new, unit(0, 1)),
        ],
    )
    stored = await store.stored("a", [stale.id, fresh.id, new.id])
    assert [stored[each.id].payload_version for each in (stale, fresh, new)] == [5, 6, 1]


async def test_of_an_id_given_twice_the_newest_counts(store: VectorStore) -> None:
    known = memory(payload_version=9)
    older = replace(known, payload_version=8)
    await store.upsert("a", [point("a", known, unit(1)), point("a", older, unit(0, 1))])
    assert (await store.stored("a", [known.id]))[known.id].payload_version == 9


async def test_shuffled_writers_end_at_the_newest(store: VectorStore) -> None:
    known = memory()
    versions = list(range(1, 101))
    random.shuffle(versions)
    points = [point("a", replace(known, payload_version=each), unit(1, each)) for each in versions]
    for start in range(0, 100, 20):
        await asyncio.gather(*(store.upsert("a", [each]) for each in points[start : start + 20]))
    stored = await only(store, known)
    assert stored.payload_version == 100
    np.testing.assert_allclose(dense_of(stored), unit(1, 100), atol=1e-5)


async def test_a_payload_is_replaced_and_the_vectors_stay(store: VectorStore) -> None:
    known = memory("disk", tags=("old",), session_id="s")
    await store.upsert("a", [point("a", known, unit(1))])
    changed = replace(known, payload_version=2, tags=("new",), session_id=None)
    await store.write_payload("a", [point_for("a", changed, text_hash="h")])
    stored = await only(store, known)
    assert stored.payload == point_for("a", changed, text_hash="h").payload
    np.testing.assert_allclose(dense_of(stored), unit(1), atol=1e-6)


async def test_a_payload_never_goes_back_or_to_another_text(store: VectorStore) -> None:
    known = memory(payload_version=5, tags=("kept",))
    await store.upsert("a", [point("a", known, unit(1))])
    older = replace(known, payload_version=4, tags=("old",))
    newer = replace(known, payload_version=6, tags=("other text",))
    absent = memory()
    await store.write_payload(
        "a", [point_for("a", older, text_hash="h"), point_for("a", absent, text_hash="h")]
    )
    await store.write_payload("a", [point_for("a", newer, text_hash="another")])
    assert (await store.stored("a", [known.id]))[known.id].payload["tags"] == ["kept"]
    assert await store.count("a") == 1


async def test_deleting_twice_is_deleting_once(store: VectorStore) -> None:
    gone, kept = memory(), memory()
    await store.upsert("a", [point("a", gone, unit(1)), point("a", kept, unit(1))])
    await store.delete("a", [gone.id, str(uuid4())])
    await store.delete("a", [gone.id])
    assert set(await store.stored("a", [gone.id, kept.id])) == {kept.id}


async def test_no_write_reaches_another_tenants_point(store: VectorStore) -> None:
    """Even where it stands in the way, which only a payload written past the store brings."""
    known = memory(tags=("theirs",))
    await store.upsert("a", [point("a", known, unit(1))])
    [[before]] = [page async for page in store.scroll("a")]
    assert store.live.generation is not None
    await change_payloads(
        store._client,
        store.live.generation.collection,
        [before.point_id],
        lambda payload: payload | {"tenant": "b"},
    )
    own = point("a", replace(known, payload_version=9, tags=("mine",)), unit(0, 1))
    await store.upsert("a", [own])
    await store.write_payload("a", [own])
    await store.delete("a", [known.id])
    assert await store.stored("a", [known.id]) == {}
    [[after]] = [page async for page in store.scroll("b")]
    assert after.payload == {**before.payload, "tenant": "b"}
    await store.make_way("a", [known.id])
    await store.upsert("a", [own])
    assert (await only(store, known)).payload["tags"] == ["mine"]
    with pytest.raises(ValueError, match="another tenant"):
        await store.upsert("a", [point("b", known, unit(1))])


async def test_two_tenants_keep_a_memory_of_one_id_apart(store: VectorStore) -> None:
    """As after a restore into a second one; whichever is written first."""
    known = memory(payload_version=5, tags=("first",))
    other = replace(known, payload_version=3, tags=("second",))
    await store.upsert("a", [point("a", known, unit(1))])
    await store.upsert("b", [point("b", other, unit(0, 1))])
    await store.write_payload("b", [point_for("b", other, text_hash="h")])
    for tenant, tag, dense in (("a", "first", unit(1)), ("b", "second", unit(0, 1))):
        assert (await only(store, known, tenant)).payload["tags"] == [tag]
        [hits] = await store.search(tenant, [VectorQuery("dense", dense, 5)])
        assert [(hit.id, round(hit.score, 3)) for hit in hits] == [(known.id, 1.0)]
    await store.delete("b", [known.id])
    assert (await only(store, known, "a")).payload["tags"] == ["first"]
    assert await store.count("b") == 0


async def test_a_bad_vector_is_refused_and_writes_nothing(store: VectorStore) -> None:
    good, bad = memory(), memory()
    wrong_size = np.ones(3, np.float32)
    for vector in (wrong_size, unit(1) * np.float32("nan"), unit(1) * 0):
        with pytest.raises((PermanentError, ValueError)):
            await store.upsert("a", [point("a", good, unit(1)), point("a", bad, vector)])
    assert await store.count("a") == 0


async def test_nothing_to_write_asks_nobody(qdrant_url: str) -> None:
    async with new_store(settings(qdrant_url), opened=False) as unopened:
        await unopened.upsert("a", [])
        await unopened.write_payload("a", [])
        await unopened.delete("a", [])
        assert await unopened.stored("a", []) == {}


async def only(store: VectorStore, of: Memory, tenant: str = "a") -> StoredPoint:
    return (await store.stored(tenant, [of.id], with_dense=True))[of.id]


def dense_of(stored: StoredPoint) -> Any:
    assert stored.dense is not None
    return stored.dense
