"""Who was said before whom: FalkorDB once made a memory its own predecessor (see dialogue.py)."""

from __future__ import annotations

import pytest

from shared.domain.memory import Memory, now_ms
from shared.graph.store import GraphStore
from tests.support.stores.graphs import TENANT, a_memory


async def _session(store: GraphStore, session: str, *seconds: int) -> list[Memory]:
    """One memory per entry, stored in that order, said that many seconds into the session."""
    memories = [
        a_memory(f"turn at {at}", session_id=session, timestamp=1_700_000_000_000 + at * 1000)
        for at in seconds
    ]
    for memory in memories:
        await store.memories.create(TENANT, memory)
    return memories


async def test_a_memory_sees_the_two_before_it_nearest_first(store: GraphStore) -> None:
    first, second, third, fourth = await _session(store, "s", 0, 20, 40, 60)
    await _session(store, "another", 10, 30, 50)
    before = await store.dialogue.before(TENANT, [m.id for m in (first, second, third, fourth)])
    assert first.id not in before
    assert [each.id for each in before[second.id]] == [first.id]
    assert [each.id for each in before[third.id]] == [second.id, first.id]
    assert [each.content for each in before[fourth.id]] == [third.content, second.content]


async def test_equal_times_are_ordered_by_id(store: GraphStore) -> None:
    memories = sorted(await _session(store, "s", 5, 5, 5), key=lambda memory: memory.id)
    before = await store.dialogue.before(TENANT, [memory.id for memory in memories])
    assert [[each.id for each in before.get(memory.id, [])] for memory in memories] == [
        [],
        [memories[0].id],
        [memories[1].id, memories[0].id],
    ]


async def test_a_late_turn_makes_its_two_successors_due_again(store: GraphStore) -> None:
    """The late one has a newer version than those it comes before."""
    early, after, later, last = await _session(store, "s", 0, 40, 60, 80)
    late = a_memory("late", session_id="s", timestamp=early.timestamp + 20_000)
    late_version = now_ms() + 5
    late = Memory(
        **{
            **{name: getattr(late, name) for name in late.__slots__},
            "version": late_version,
            "payload_version": late_version,
        }
    )
    await store.memories.create(TENANT, late)
    due = await store.dialogue.refresh_after(TENANT, [late.id])
    assert {each.id for each in due} == {after.id, later.id}
    found = await store.memories.get(TENANT, [after.id, later.id, last.id])
    assert found[after.id].payload_version > after.payload_version
    assert found[later.id].payload_version > later.payload_version
    assert found[last.id].payload_version == last.payload_version
    assert found[after.id].version == after.version


@pytest.mark.parametrize("anyway", [False, True])
async def test_in_order_nothing_is_due_unless_anyway(store: GraphStore, anyway: bool) -> None:
    first, second, third = await _session(store, "s", 0, 20, 40)
    due = await store.dialogue.refresh_after(TENANT, [first.id], anyway=anyway)
    assert {each.id for each in due} == ({second.id, third.id} if anyway else set())


async def test_a_memory_without_a_session_has_no_neighbours(store: GraphStore) -> None:
    alone = a_memory("alone")
    await store.memories.create(TENANT, alone)
    assert await store.dialogue.before(TENANT, [alone.id]) == {}
    assert await store.dialogue.refresh_after(TENANT, [alone.id], anyway=True) == []
