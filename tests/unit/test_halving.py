"""in_halves: bad items fail alone, all others are done once more in their half."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.errors import PermanentError, Unavailable
from shared.halving import in_halves


class Work:
    """Doubles its items; raises `errors` of an item for every batch that contains it."""

    def __init__(self, errors: dict[int, Exception]) -> None:
        self.errors = errors
        self.batches: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        for item in items:
            if item in self.errors:
                raise self.errors[item]
        return [str(item * 2) for item in items]


async def run(work: Work, items: Sequence[int]) -> list[str]:
    return await in_halves(work, items, split_on=PermanentError, failed=str)


async def test_good_batches_are_worked_once() -> None:
    work = Work({})
    assert await run(work, [1, 2, 3]) == ["2", "4", "6"]
    assert work.batches == [[1, 2, 3]]


async def test_bad_items_fail_alone_and_in_their_place() -> None:
    work = Work({2: PermanentError("two"), 5: PermanentError("five")})
    assert await run(work, range(1, 8)) == ["2", "two", "6", "8", "five", "12", "14"]
    assert work.batches[0] == [1, 2, 3, 4, 5, 6, 7]
    assert [2] in work.batches
    assert [5] in work.batches


async def test_no_items_need_no_work() -> None:
    work = Work({})
    assert await run(work, []) == []
    assert not work.batches


async def test_another_error_ends_everything() -> None:
    with pytest.raises(Unavailable):
        await run(Work({1: PermanentError("one"), 3: Unavailable("graph", "down")}), [1, 2, 3, 4])
