"""Wait for an event with a time limit, and choose and keep the pause after failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import Gauge
from tenacity import RetryCallState, wait_exponential


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Sleep until `event` is set or `seconds` passed; True when it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def backoff_s(
    failures: int, *, first_s: float, longest_s: float = float("inf"), factor: float = 2.0
) -> float:
    """Return the pause in s after the n-th failure in a row (n from 1), without jitter.

    `first_s` after the first, `factor` times as long after each further one, up to `longest_s`.
    """
    unused: Any = None  # the strategy reads nothing but the number of attempts
    state = RetryCallState(unused, unused, (), {})
    state.attempt_number = failures
    return float(wait_exponential(first_s, max=longest_s, exp_base=factor)(state))


class Pause:
    """How long nothing is tried after a dependency went down.

    1 s, doubling to 30 s while probes fail, or as long as the dependency itself says. After a
    pause one call or batch probes the dependency, and everything resumes when it succeeds. Calls
    that were running when the pause began neither end nor prolong it.
    """

    def __init__(self, gauge: Gauge, pause_s: tuple[float, float] = (1.0, 30.0)) -> None:
        """`pause_s`: the first pause and the longest."""
        self._gauge = gauge
        self._first_s, self._longest_s = pause_s
        self._length_s = 0.0
        self._began = 0.0
        gauge.set(0)

    @property
    def probing(self) -> bool:
        """Return whether the dependency was down and no batch has succeeded since."""
        return self._length_s > 0

    def remaining_s(self) -> float:
        """Return the seconds until the next probe; 0 when reading is allowed."""
        return max(0.0, self._began + self._length_s - time.monotonic()) if self.probing else 0.0

    def begin(self, started_at: float, *, wish_s: float = 0.0) -> float:
        """Begin a pause after a failed batch of this start time; return its length in s."""
        if not self.probing or started_at >= self._began:
            doubled = min(self._longest_s, max(self._first_s, self._length_s * 2))
            self._length_s = wish_s or doubled
            self._began = time.monotonic()
            self._gauge.set(1)
        return self._length_s

    def end(self, started_at: float) -> None:
        """End the pause, unless it began after the successful batch had started."""
        if self.probing and started_at >= self._began:
            self._length_s = 0.0
            self._gauge.set(0)


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the cancellation of this task that arrived inside, if the code inside swallowed it.

    redis-py sends through `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that
    arrives as the send completes; the call then returns, or fails because its connection is
    closed, and a loop that retries would never end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
