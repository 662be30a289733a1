"""Wait for an event with a time limit, and choose the pause after failures."""

from __future__ import annotations

import asyncio
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
