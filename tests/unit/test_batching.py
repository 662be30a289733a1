"""GroupCommit: lone rows leave at once, crowds leave together, one bad row fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.errors import (
    Conflict,
    EunoeError,
    NotFound,
    PermanentError,
    TransientError,
    Unavailable,
)
from shared.group_commit import GroupCommit
from tests.support.waiting.conditions import wait_until


class Store:
    """Doubles its rows; can be held up, and refuses the rows that it is set to refuse."""

    def __init__(self) -> None:
        self.flushes: list[tuple[str, list[int]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.bad: dict[int, BaseException] = {}
        self.in_flight: dict[str, int] = {}

    async def flush(self, key: str, rows: list[int]) -> Sequence[int | EunoeError]:
        assert not self.in_flight.get(key), "two flushes of one key at once"
        self.in_flight[key] = len(rows)
        self.flushes.append((key, rows))
        try:
            await self.open.wait()
            for row in rows:
                if row in self.bad:
                    raise self.bad[row]
        finally:
            self.in_flight[key] = 0
        return [row * 2 for row in rows]


@pytest.fixture
def store() -> Store:
    return Store()


def group_commit(store: Store, max_rows: int = 100) -> GroupCommit[str, int, int]:
    return GroupCommit(store.flush, max_rows=max_rows, name="test")


def submitted(
    writing: GroupCommit[str, int, int], rows: Sequence[int], key: str = "k"
) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(writing.submit(key, row)) for row in rows]


async def test_a_lone_row_leaves_at_once(store: Store) -> None:
    assert await group_commit(store).submit("k", 4) == 8
    assert store.flushes == [("k", [4])]


async def test_rows_gather_while_a_flush_is_in_flight(store: Store) -> None:
    writing = group_commit(store)
    store.open.clear()
    tasks = submitted(writing, [1])
    await asyncio.sleep(0.01)
    tasks += submitted(writing, [2, 3, 4])
    await asyncio.sleep(0.01)
    store.open.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert store.flushes == [("k", [1]), ("k", [2, 3, 4])]


async def test_a_flush_has_at_most_max_rows(store: Store) -> None:
    writing = group_commit(store, max_rows=3)
    assert await asyncio.gather(*submitted(writing, range(8))) == [2 * row for row in range(8)]
    assert [len(rows) for _, rows in store.flushes] == [3, 3, 2]


async def test_keys_do_not_wait_for_each_other(store: Store) -> None:
    writing = group_commit(store)
    store.open.clear()
    tasks = submitted(writing, [1], key="a") + submitted(writing, [2], key="b")
    await wait_until(lambda: len(store.flushes) == 2, "both keys were flushed")
    assert sorted(store.flushes) == [("a", [1]), ("b", [2])]
    store.open.set()
    await asyncio.gather(*tasks)


async def test_a_bad_row_fails_alone(store: Store) -> None:
    store.bad[5] = Conflict("five")
    answers = await asyncio.gather(
        *submitted(group_commit(store), range(8)), return_exceptions=True
    )
    assert isinstance(answers[5], Conflict)
    assert [answer for answer in answers if answer is not answers[5]] == [0, 2, 4, 6, 8, 12, 14]


async def test_a_transient_failure_is_everybodys_and_not_repeated(store: Store) -> None:
    store.bad[1] = TransientError("later")
    writing = group_commit(store)
    answers = await asyncio.gather(*submitted(writing, range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [TransientError] * 3
    assert len(store.flushes) == 1
    store.bad.clear()
    assert await writing.submit("k", 1) == 2


async def test_a_row_may_be_answered_with_its_own_error() -> None:
    async def flush(_: str, rows: list[int]) -> Sequence[int | EunoeError]:
        return [NotFound("odd") if row % 2 else row for row in rows]

    writing: GroupCommit[str, int, int] = GroupCommit(flush, max_rows=10, name="test")
    answers = await asyncio.gather(*submitted(writing, [1, 2]), return_exceptions=True)
    assert isinstance(answers[0], NotFound)
    assert answers[1] == 2


@pytest.mark.parametrize("error", [ValueError("bug"), PermanentError("lone")])
async def test_whatever_is_raised_reaches_the_caller(store: Store, error: Exception) -> None:
    store.bad[1] = error
    with pytest.raises(type(error)):
        await group_commit(store).submit("k", 1)


async def test_too_few_results_leave_nobody_waiting() -> None:
    async def flush(_: str, rows: list[int]) -> Sequence[int | EunoeError]:
        return rows[1:]

    writing: GroupCommit[str, int, int] = GroupCommit(flush, max_rows=10, name="test")
    answers = await asyncio.gather(*submitted(writing, [1, 2]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError] * 2


async def test_a_cancelled_caller_cancels_nobody_else(store: Store) -> None:
    writing = group_commit(store)
    store.open.clear()
    first, second, third = submitted(writing, [1, 2, 3])
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait({second})
    store.open.set()
    assert [await first, await third] == [2, 6]
    assert second.cancelled()
    assert store.flushes == [("k", [1, 2, 3])]


async def test_closing_waits_for_every_accepted_row(store: Store) -> None:
    writing = group_commit(store, max_rows=1)
    store.open.clear()
    tasks = submitted(writing, [1, 2, 3])
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(writing.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(Unavailable, match="closed"):
        await writing.submit("k", 4)
    store.open.set()
    await closing
    assert [task.result() for task in tasks] == [2, 4, 6]


async def test_nothing_is_kept_for_an_idle_key(store: Store) -> None:
    writing = group_commit(store)
    await asyncio.gather(*submitted(writing, range(5), key="a"), *submitted(writing, [1], key="b"))
    await writing.close()
    assert writing._waiting == {}
    assert writing._tasks == set()
