"""Due times: the outbox that the relay reads."""

from __future__ import annotations

import asyncio

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.graph.records import Due
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, cypher, opened

DELAY_MS = 60_000


@pytest.fixture
async def memories(store: GraphStore) -> list[Memory]:
    memories = [a_memory(str(n)) for n in range(5)]
    await store.memories.create_many(TENANT, memories)
    return memories


async def test_only_what_is_due_is_claimed_and_each_by_one(
    store: GraphStore, memories: list[Memory]
) -> None:
    due = await store.work.next_due(TENANT)
    assert due is not None
    assert await store.work.claim_due(TENANT, Stage.ENRICH, due - 1000, 10) == []
    later = due + 1000
    claims = await asyncio.gather(
        *(store.work.claim_due(TENANT, Stage.ENRICH, later, 2) for _ in range(4))
    )
    claimed = [row for claim in claims for row in claim]
    assert {row.id for row in claimed} == {memory.id for memory in memories}
    assert [len(claimed), max(map(len, claims))] == [5, 2]
    versions = {memory.id: memory.version for memory in memories}
    assert all(row.version == row.payload_version == versions[row.id] for row in claimed)
    assert await store.work.claim_due(TENANT, Stage.ENRICH, later, 10) == []


async def test_waits_double_up_to_an_hour(store: GraphStore) -> None:
    memory = a_memory()
    await store.memories.create(TENANT, memory)
    await store.work.requeue(TENANT, Stage.RELATE, [memory.id])
    waits, now = [], 10**14
    for _ in range(25):
        assert await store.work.claim_due(TENANT, Stage.RELATE, now, 1)
        due = now + 1
        while not await store.work.claim_due(TENANT, Stage.RELATE, due, 0):
            (found,) = [await _relate_due(store, memory)]
            waits.append(found - now)
            break
        now = found + 1
    assert waits[:7] == [DELAY_MS * 2**n if n < 6 else 3_600_000 for n in range(7)]
    assert set(waits[6:]) == {3_600_000}


@pytest.mark.parametrize("stage", [Stage.ENRICH, Stage.EMBED])
async def test_a_due_time_that_was_left_behind_is_cleared_and_not_claimed(
    store: GraphStore, settings: GraphSettings, memories: list[Memory], stage: Stage
) -> None:
    done, *waiting = memories
    reached = "m.enriched_version = m.version, m.embedded_version = m.payload_version"
    await cypher(settings, f"MATCH (m:Memory {{id: '{done.id}'}}) SET {reached}")
    claimed = await store.work.claim_due(TENANT, stage, 10**14, 10)
    assert {row.id for row in claimed} == {memory.id for memory in waiting}
    due = f"MATCH (m:Memory) WHERE m.{stage}_due IS NULL RETURN m.id"
    assert await cypher(settings, due) == [[done.id]]


async def _relate_due(store: GraphStore, memory: Memory) -> int:
    rows = await store._client.query(
        TENANT, "test", "MATCH (m:Memory {id: $id}) RETURN m.relate_due", id=memory.id
    )
    return int(rows[0]["relate_due"])


async def test_what_was_given_up_stays_until_it_is_requested(
    store: GraphStore, memories: list[Memory]
) -> None:
    one = memories[0]
    assert await store.work.give_up(
        TENANT, Stage.EMBED, [(one.id, one.payload_version), ("absent", 1)]
    ) == {one.id}
    claimed = await store.work.claim_due(TENANT, Stage.EMBED, 10**14, 10)
    assert {row.id for row in claimed} == {memory.id for memory in memories[1:]}
    assert await store.work.requeue(TENANT, Stage.EMBED, [one.id, "absent"]) == [
        Due(one.id, one.version, one.payload_version)
    ]
    assert (await store.memories.counts(TENANT)).failed[Stage.EMBED] == 0
    assert [row.id for row in await store.work.claim_due(TENANT, Stage.EMBED, 10**14, 10)] == [
        one.id
    ]


async def test_the_delay_is_the_stores_own(settings: GraphSettings) -> None:
    memory = a_memory()
    async with opened(settings, outbox_delay_s=0.5) as store:
        await store.memories.create(TENANT, memory)
        due = await store.work.next_due(TENANT)
        assert due is not None
        assert memory.version + 500 <= due <= memory.version + 5_500
