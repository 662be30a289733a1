"""What came before: at most five of the seven days before, the own session's first."""

from __future__ import annotations

import random

import pytest

from shared.domain.memory import Memory
from shared.graph.stages.preceded_by import WINDOWS_MS
from shared.graph.store import GraphStore
from tests.support.stores.graphs import TENANT, a_memory

DAY_MS = 86_400_000
NOON = 1_767_700_000_000
WEEK_MS = WINDOWS_MS[-1]


def _expected(memories: list[Memory], at: int, session: str | None) -> list[str]:
    """The rule, by looking at everything."""
    week = [m for m in memories if at - WEEK_MS <= m.timestamp < at]
    week.sort(key=lambda m: (-m.timestamp, m.id))
    own = [m.id for m in week if session and m.session_id == session][:5]
    return list(dict.fromkeys(own + [m.id for m in week]))[:5]


async def test_the_own_session_comes_first_then_the_newest(store: GraphStore) -> None:
    own = [a_memory(timestamp=NOON - n * DAY_MS, session_id="s") for n in (1, 3, 8)]
    other = [a_memory(timestamp=NOON - n * 1000, session_id="t") for n in range(5)]
    await store.memories.create_many(TENANT, [*own, *other])
    found = await store.work.previous(TENANT, [("me", NOON, "s"), ("you", NOON, None)])
    assert found["me"] == [own[0].id, own[1].id, other[1].id, other[2].id, other[3].id]
    assert found["you"] == [*(m.id for m in other[1:]), own[0].id]


async def test_equal_times_precede_neither_and_order_by_id(store: GraphStore) -> None:
    same = sorted((a_memory(timestamp=NOON) for _ in range(7)), key=lambda m: m.id)
    await store.memories.create_many(TENANT, same)
    found = await store.work.previous(
        TENANT, [("me", NOON, None), ("later", NOON + 1, None), ("old", NOON - 1, None)]
    )
    assert found == {"me": [], "later": [m.id for m in same[:5]], "old": []}


@pytest.mark.parametrize("seed", range(4))
async def test_it_equals_looking_at_everything(store: GraphStore, seed: int) -> None:
    """Bursts and gaps of every window's size."""
    chance = random.Random(seed)
    memories, at = [], NOON
    for _ in range(300):
        at -= int(10 ** chance.uniform(0, 8.5))
        session = chance.choice([None, "a", "b"])
        memories.append(a_memory(timestamp=at, session_id=session))
    await store.memories.create_many(TENANT, memories)
    rows = [(m.id, m.timestamp, m.session_id) for m in memories]
    found = await store.work.previous(TENANT, rows)
    assert found == {key: _expected(memories, at, session) for key, at, session in rows}
