"""PRECEDED_BY tells the order of the graph as it is, whatever came or moved when."""

from __future__ import annotations

import random

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory, iso
from shared.graph.stages.preceded_by import WEEK_MS
from tests.support.stores.graphs import cypher
from tests.support.workers.enriching import Enriching, typed_by_rule

NOON = 1_767_700_000_000
MINUTE_MS = 60_000
EDGES = "MATCH (s)-[x:PRECEDED_BY]->(o) RETURN s.id, o.id, x.count, x.updated_at"


def _memory_at(at: int, session: str | None = None) -> Memory:
    return typed_by_rule("Something was said", timestamp=at, session_id=session)


async def _edges(settings: GraphSettings) -> set[tuple[str, str]]:
    return {(edge[0], edge[1]) for edge in await cypher(settings, EDGES)}


def _expected(memories: list[Memory]) -> set[tuple[str, str]]:
    """The rule, by looking at everything."""
    edges: set[tuple[str, str]] = set()
    for each in memories:
        week = [m for m in memories if each.timestamp - WEEK_MS <= m.timestamp < each.timestamp]
        week.sort(key=lambda m: -m.timestamp)
        own = [m for m in week if each.session_id and m.session_id == each.session_id]
        nearest = dict.fromkeys(m.id for m in (*own[:5], *week))
        edges |= {(each.id, other) for other in [*nearest][:5]}
    return edges


async def _moved(work: Enriching, memory: Memory, at: int) -> Memory:
    moved = await work.patch(memory, timestamp=iso(at))
    await work.enrich(moved)
    return moved


async def test_a_moved_memory_leaves_no_edge_that_is_untrue(
    work: Enriching, settings: GraphSettings
) -> None:
    first, second = _memory_at(NOON), _memory_at(NOON + MINUTE_MS)
    await work.store(first, second)
    await work.enrich(first, second)
    assert await _edges(settings) == {(second.id, first.id)}
    await _moved(work, first, NOON + 2 * MINUTE_MS)
    assert await _edges(settings) == {(first.id, second.id)}
    await _moved(work, first, NOON + 60 * WEEK_MS)
    assert await _edges(settings) == set()
    await _moved(work, first, NOON - WEEK_MS)
    assert await _edges(settings) == set()
    await _moved(work, first, NOON + MINUTE_MS - WEEK_MS)
    assert await _edges(settings) == {(second.id, first.id)}


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_of_arrival_does_not_matter(
    work: Enriching, settings: GraphSettings, seed: int
) -> None:
    chance = random.Random(seed)
    times = chance.sample(range(NOON, NOON + 2 * WEEK_MS, MINUTE_MS), 14)
    times += chance.sample(range(NOON + 1, NOON + MINUTE_MS), 14)
    memories = [_memory_at(at, chance.choice([None, "a", "b"])) for at in times]
    for at in range(0, len(memories), 4):
        part = memories[at : at + 4]
        await work.store(*part)
        await work.enrich(*part)
    assert await _edges(settings) == _expected(memories)
    for at in (3, 17):
        memories[at] = await _moved(work, memories[at], NOON + chance.randrange(WEEK_MS))
        assert await _edges(settings) == _expected(memories)


async def test_a_rerun_changes_no_edge(work: Enriching, settings: GraphSettings) -> None:
    memories = [_memory_at(NOON + n // 2 * 1000, "a" if n % 3 else None) for n in range(20)]
    await work.store(*memories)
    for memory in reversed(memories):
        await work.enrich(memory)
    edges = sorted(await cypher(settings, EDGES))
    for memory in memories[::5]:
        await work.enrich(memory, run="again")
    assert sorted(await cypher(settings, EDGES)) == edges


async def test_who_waits_for_its_own_turn_is_left_alone(
    work: Enriching, settings: GraphSettings
) -> None:
    first, second = _memory_at(NOON), _memory_at(NOON + MINUTE_MS)
    await work.store(first, second)
    await work.enrich(first)
    assert await _edges(settings) == set()
