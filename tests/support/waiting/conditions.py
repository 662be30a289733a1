"""Waiting for conditions, so that no test sleeps and hopes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_EVERY_S = 0.01


async def wait_until(
    predicate: Callable[[], object | Awaitable[object]], description: str, timeout_s: float = 10.0
) -> None:
    """Return once `predicate` (sync or async) is true; fail with what never happened."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = predicate()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened within {timeout_s} s: {description}")
        await asyncio.sleep(_EVERY_S)
