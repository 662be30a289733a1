"""Waiting for conditions, so that no test sleeps and hopes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

from tests.support.waiting.pace import limit_s, measure

# A condition is looked at again after a tenth of the time that it has been waited for.
_SHORTEST_STEP_S = 0.01
_LONGEST_STEP_S = 0.1
# A process that was frozen for longer than this has not used up its limit meanwhile.
_FROZEN_AFTER_S = 1.0


class _Limit:
    """Counts the time that was waited; raises AssertionError once it was too long."""

    def __init__(self, description: str, seconds: float) -> None:
        self._description = description
        self._seconds = seconds
        self._waited_s = 0.0
        self._seen_at = time.monotonic()

    def count(self) -> float:
        """Seconds until the condition should be looked at again."""
        now = time.monotonic()
        self._waited_s += min(now - self._seen_at, _FROZEN_AFTER_S)
        self._seen_at = now
        if self._waited_s > limit_s(self._seconds):
            measure()  # the machine may have become slower since the limit was set
        if self._waited_s > limit_s(self._seconds):
            raise AssertionError(
                f"never happened within {self._waited_s:.0f} s: {self._description}"
            )
        return min(_LONGEST_STEP_S, max(_SHORTEST_STEP_S, self._waited_s / 10))


async def wait_until(
    predicate: Callable[[], object | Awaitable[object]], description: str, timeout_s: float = 60.0
) -> None:
    """Return once `predicate` (sync or async) is true; fail with what never happened.

    `timeout_s` ends a hang; it is for an idle machine, and longer on a slow one.
    """
    limit = _Limit(description, timeout_s)
    while True:
        found = predicate()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        await asyncio.sleep(limit.count())


def wait_for(predicate: Callable[[], object], description: str) -> None:
    """Return once `predicate` is true, without an event loop."""
    limit = _Limit(description, 60.0)
    while not predicate():
        time.sleep(limit.count())


def limited() -> asyncio.Timeout:
    """`async with limited():` ends a hang with TimeoutError."""
    return asyncio.timeout(limit_s())
