"""Passes over a whole graph: fenced per chunk, every memory once, reads stay quick."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from shared.config import ConsolidationSettings, GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.errors import Fenced
from shared.graph.records import SLOTS, Idem
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing, Sweep
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher

DAY_MS = 86_400_000
NOW = 1_767_700_000_000
FENCE = Fencing("decay", 7)
SETTINGS = ConsolidationSettings()


def _formula(age: float, access: float, degree: int, memory: Memory) -> float:
    return (
        math.exp(-0.01 * age)
        * (0.3 + 0.3 * access)
        * (1 + 0.3 * math.log(1 + degree))
        * (0.5 + memory.importance)
        * (0.7 + 0.3 * memory.confidence)
    )


def _relevance(memory: Memory, degree: int, threshold: float | None = 0.3) -> float:
    """The architecture's formula, written again from its text."""
    age = max(0.0, (NOW - memory.timestamp) / DAY_MS)
    idle = max(0.0, (NOW - memory.last_accessed) / DAY_MS)
    score = _formula(age, 1.0 if idle < 1 else math.exp(-0.05 * idle), degree, memory)
    if threshold is not None and memory.importance > threshold:
        when_accessed = max(0.0, (memory.last_accessed - memory.timestamp) / DAY_MS)
        score = max(score, _formula(when_accessed, 1.0, degree, memory))
    return min(1.0, max(score, memory.importance * 0.3))


async def _swept(store: GraphStore, settings: ConsolidationSettings = SETTINGS) -> int:
    scored = 0
    sweep = Sweep(chunk_ms=5, duty_ratio=1)
    async for lo, hi in sweep:
        chunk = await store.sweeps.decay_chunk(TENANT, FENCE, lo, hi, now_ms=NOW, settings=settings)
        sweep.took(chunk.server_ms)
        scored += chunk.rows
    return scored


async def _scores(store: GraphStore, memories: list[Memory]) -> dict[str, float | None]:
    found = await store.memories.get(TENANT, [memory.id for memory in memories])
    return {memory.id: memory.relevance_score for memory in found.values()}


@pytest.fixture
async def aged(store: GraphStore) -> list[Memory]:
    """Memories of every age, access, importance and confidence that the formula tells apart."""
    memories = [
        a_memory(
            importance=importance,
            confidence=confidence,
            timestamp=NOW - int(age * DAY_MS),
            last_accessed=NOW - int(idle * DAY_MS),
        )
        for age in (-3, 0, 0.5, 30, 400)
        for idle in (-1, 0.2, 1.0, 25, 500)
        for importance in (0.0, 0.3, 0.31, 1.0)
        for confidence in (0.0, 0.9)
    ]
    await store.memories.create_many(TENANT, memories)
    return memories


@pytest.mark.parametrize("threshold", [0.3, None, 0.9])
async def test_every_memory_gets_the_formulas_score(
    store: GraphStore, aged: list[Memory], threshold: float | None
) -> None:
    settings = SETTINGS.model_copy(update={"decay_importance_threshold": threshold})
    assert await _swept(store, settings) == len(aged)
    scores = await _scores(store, aged)
    for memory in aged:
        assert scores[memory.id] == pytest.approx(_relevance(memory, 0, threshold), abs=1e-9)


async def test_only_relations_to_memories_count_and_not_what_came_before(
    store: GraphStore, settings: GraphSettings
) -> None:
    quiet = a_memory(importance=0.2, confidence=0.1, timestamp=NOW - 90 * DAY_MS, last_accessed=0)
    hub = replace(quiet, id=str(uuid4()))
    others = [a_memory(timestamp=NOW, last_accessed=NOW) for _ in range(3)]
    await store.memories.create_many(TENANT, [quiet, hub, *others])
    for other in others:
        await associate(store, TENANT, hub.id, other.id, "RELATES_TO")
        await associate(store, TENANT, other.id, hub.id, "EXEMPLIFIES")
    await cypher(
        settings,
        f"MATCH (h:Memory {{id: '{hub.id}'}}) MATCH (q:Memory {{id: '{quiet.id}'}})"
        " CREATE (h)-[:EXEMPLIFIES]->(:Pattern {id: 'p', type: 'Habit'})"
        " CREATE (:Entity {id: 'e'})-[:REFERENCED_IN]->(h)"
        " CREATE (h)-[:PRECEDED_BY]->(q)",
    )
    await _swept(store)
    scores = await _scores(store, [quiet, hub])
    assert scores[hub.id] == pytest.approx(_relevance(hub, 6), abs=1e-9)
    assert scores[quiet.id] == pytest.approx(_relevance(quiet, 0), abs=1e-9)


async def test_archived_memories_are_left_alone(
    store: GraphStore, settings: GraphSettings, aged: list[Memory]
) -> None:
    await cypher(settings, f"MATCH (m:Memory {{id: '{aged[0].id}'}}) SET m.archived = true")
    assert await _swept(store) == len(aged) - 1
    assert (await _scores(store, aged))[aged[0].id] is None


async def test_an_old_token_changes_nothing_and_ends_the_sweep(
    store: GraphStore, aged: list[Memory]
) -> None:
    """A leader whose lease ended while it slept gets Fenced at its next write."""
    await store.sweeps.raise_fence(TENANT, Fencing("decay", 5))
    await store.sweeps.raise_fence(TENANT, FENCE)
    old = Fencing("decay", 6)
    with pytest.raises(Fenced):
        await store.sweeps.decay_chunk(TENANT, old, 0, SLOTS, now_ms=NOW, settings=SETTINGS)
    with pytest.raises(Fenced):
        await store.sweeps.raise_fence(TENANT, old)
    assert set((await _scores(store, aged)).values()) == {None}
    # The same token goes on, other schedules and other tenants have fences of their own.
    await store.sweeps.raise_fence(TENANT, FENCE)
    await store.sweeps.raise_fence(TENANT, Fencing("creative", 1))
    await store.sweeps.raise_fence("other", Fencing("decay", 1))


async def test_a_chunk_without_memories_is_not_a_fenced_one(store: GraphStore) -> None:
    await store.ensure(TENANT)
    chunk = await store.sweeps.decay_chunk(TENANT, FENCE, 0, SLOTS, now_ms=NOW, settings=SETTINGS)
    assert chunk.rows == 0
    with pytest.raises(Fenced):
        await store.sweeps.decay_chunk(
            TENANT, Fencing("decay", 6), 0, SLOTS, now_ms=NOW, settings=SETTINGS
        )


async def test_of_two_leaders_at_once_only_the_newer_writes_from_then_on(
    store: GraphStore, aged: list[Memory]
) -> None:
    async def lead(fence: Fencing, at: int) -> None:
        for _ in range(30):
            await store.sweeps.decay_chunk(TENANT, fence, 0, SLOTS, now_ms=at, settings=SETTINGS)

    year = 365 * DAY_MS
    ends = await asyncio.gather(
        lead(Fencing("decay", 1), NOW + year),
        lead(Fencing("decay", 2), NOW),
        return_exceptions=True,
    )
    assert isinstance(ends[0], Fenced)
    assert ends[1] is None
    scores = await _scores(store, aged)
    assert scores[aged[0].id] == pytest.approx(_relevance(aged[0], 0), abs=1e-9)


async def test_a_sweep_covers_all_slots_once_in_chunks_of_the_size_asked_for() -> None:
    sweep = Sweep(chunk_ms=5, duty_ratio=0.999)
    ranges = []
    async for lo, hi in sweep:
        ranges.append((lo, hi))
        sweep.took((hi - lo) / SLOTS * 200)  # the whole would take 200 ms
    assert ranges[0][0] == 0
    assert ranges[-1][1] == SLOTS
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))
    took = [(hi - lo) / SLOTS * 200 for lo, hi in ranges]
    assert max(took) <= 5
    assert len(ranges) < 120


async def test_a_sweep_rests_for_its_duty() -> None:
    sweep = Sweep(chunk_ms=5, duty_ratio=0.1)
    started, busy = time.monotonic(), 0.0
    async for _ in sweep:
        sweep.took(2.5)
        busy += 2.5
        if busy >= 25:
            break
    assert time.monotonic() - started >= 9 * 0.009 * 2.5


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_pages_show_every_memory_once_in_order(store: GraphStore, limit: int) -> None:
    memories = [a_memory() for _ in range(150)]
    memories += [a_memory(id=f"{uuid4().hex[:8]}-same-slot-{n}") for n in range(3)]
    memories += [a_memory(id=memories[-1].id[:8] + f"-x{n}") for n in range(5)]
    memories += [a_memory(id=f"no-uuid-{n}") for n in range(5)]
    await store.memories.create_many(TENANT, memories)
    seen: list[str] = []
    after = ""
    while page := await store.sweeps.memories_page(TENANT, after, limit):
        assert len(page) <= limit
        seen += [row.id for row in page]
        after = page[-1].id
    assert len(seen) == len(set(seen))
    assert set(seen) == {memory.id for memory in memories}
    (first,) = [
        row for row in await store.sweeps.memories_page(TENANT, "", 1000) if row.id == after
    ]
    memory = next(memory for memory in memories if memory.id == after)
    read = first.memory
    assert (read.version, read.payload_version) == (memory.version, memory.payload_version)
    assert (read.embedded_version, read.text_hash, read.type) == (0, None, "Memory")
    assert read.content == memory.content
    assert first.embed_due is not None


async def test_old_idempotency_keys_are_forgotten_by_the_leader_only(store: GraphStore) -> None:
    for key, made in (("old", 1000), ("new", now_ms())):
        memory = a_memory()
        idem = Idem(key, "h", (memory.id,), "{}", created_at=made)
        await store.memories.create(TENANT, memory, idem=idem)
    await store.sweeps.raise_fence(TENANT, Fencing("janitor", 2))
    with pytest.raises(Fenced):
        await store.sweeps.expire_keys(TENANT, Fencing("janitor", 1), 5000)
    assert await store.sweeps.expire_keys(TENANT, Fencing("janitor", 2), 5000) == 1
    assert await store.sweeps.expire_keys(TENANT, Fencing("janitor", 2), 5000) == 0
    assert await store.memories.idem(TENANT, "old") is None
    assert await store.memories.idem(TENANT, "new") is not None


async def test_reads_go_on_during_a_sweep_over_many(store: GraphStore) -> None:
    """One statement over all of them would hold every read for its whole length."""
    ids = []
    for _ in range(20):
        memories = [a_memory() for _ in range(500)]
        await store.memories.create_many(TENANT, memories)
        ids += [memory.id for memory in memories]
    waits: list[float] = []
    sweeping = asyncio.create_task(_swept(store))
    while not sweeping.done():
        started = time.perf_counter()
        assert await store.memories.get(TENANT, [ids[len(waits) % len(ids)]])
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(0.001)
    assert await sweeping == len(ids)
    assert len(waits) > 20
