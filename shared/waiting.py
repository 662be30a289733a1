"""Wait for an event with a time limit, and choose the pause after failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
