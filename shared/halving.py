"""Find the items that make a batch fail, and finish all others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_halves(
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
    items: Sequence[Item],
    *,
    split_on: type[Exception] | tuple[type[Exception], ...],
    failed: Callable[[Exception], Result],
) -> list[Result]:
    """Return one result per item in order: those of `work`, or `failed` of its error.

    A batch for which `work` raises `split_on` is worked again as two halves, the first before
    the second, down to single items; so what `work` wrote before it raised must be harmless
    to repeat. Any other error ends everything and is raised.
    """
    if not items:
        return []
    try:
        return list(await work(items))
    except split_on as error:
        if len(items) == 1:
            return [failed(error)]
    middle = len(items) // 2
    first = await in_halves(work, items[:middle], split_on=split_on, failed=failed)
    return first + await in_halves(work, items[middle:], split_on=split_on, failed=failed)
