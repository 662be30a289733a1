"""The one retry policy of model calls whose caller is not a job.

A worker does not retry inline: its job is delayed by the stream, which frees the slot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from shared.errors import TransientError

_T = TypeVar("_T")
_MAX_ATTEMPTS = 6
_backoff = wait_random_exponential(multiplier=0.5, max=8)


async def with_retries(call: Callable[[], Awaitable[_T]], *, total_s: float = 60.0) -> _T:
    """Await `call()` until it succeeds, waiting `retry_after_s` where the error names one.

    Raises: the last TransientError once another wait would pass `total_s`, at once any other.
    """

    def stop(state: RetryCallState) -> bool:
        waited_s = state.seconds_since_start or 0.0
        return waited_s + state.upcoming_sleep > total_s or stop_after_attempt(_MAX_ATTEMPTS)(state)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(TransientError), wait=_wait_s, stop=stop, reraise=True
    )

    async def attempt() -> _T:  # tenacity 9 would not await what a plain lambda returns
        return await call()

    return await retrying(attempt)


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    wished = error.retry_after_s if isinstance(error, TransientError) else None
    return _backoff(state) if wished is None else wished
