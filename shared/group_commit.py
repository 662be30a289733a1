"""GroupCommit: rows of many callers, written together without a timer.

A row that finds its key idle is written at once. While a flush is in flight, further rows of
that key wait and are written together by the next one, so batches grow with the load and cost
nothing without it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Generic, TypeVar

from shared.errors import EunoeError, PermanentError, Unavailable
from shared.halving import in_halves

Key = TypeVar("Key")
Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(slots=True)
class GroupCommit(Generic[Key, Row, Result]):
    """One flush in flight per key; each caller gets its own row's result or error.

    `flush(key, rows)` returns one result, or one EunoeError, per row in order. If it raises
    PermanentError the rows are flushed again in halves, down to the bad one, so what it wrote
    before raising must be harmless to repeat; any other error is every row's.
    """

    flush: Callable[[Key, list[Row]], Awaitable[Sequence[Result | EunoeError]]]
    _: KW_ONLY
    max_rows: int
    name: str
    _waiting: dict[Key, deque[tuple[Row, asyncio.Future[Result]]]] = field(
        default_factory=dict, init=False
    )
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    async def submit(self, key: Key, row: Row) -> Result:
        """Write `row` together with others and return its result.

        Cancelling the caller cancels its wait only: the row is written all the same.
        Raises: Unavailable once closed; else what the flush raised or answered for this row.
        """
        if self._closed:
            raise Unavailable(self.name, "closed")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque([(row, future)])
            task = asyncio.create_task(self._drain(key), name=f"{self.name}-flush")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append((row, future))
        return await future

    async def close(self) -> None:
        """Refuse further rows and wait until every accepted one is answered."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _drain(self, key: Key) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                size = min(self.max_rows, len(waiting))
                await self._write(key, [waiting.popleft() for _ in range(size)])
        finally:
            # Reached with rows left only when this task is cancelled, at the loop's end.
            del self._waiting[key]
            for _, future in waiting:
                future.cancel()

    async def _write(self, key: Key, batch: list[tuple[Row, asyncio.Future[Result]]]) -> None:
        rows = [row for row, _ in batch]
        flush = partial(self._flush_all, key)
        results = await in_halves(flush, rows, split_on=PermanentError, failed=lambda error: error)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _flush_all(self, key: Key, rows: Sequence[Row]) -> Sequence[Result | BaseException]:
        """Flush once; a PermanentError is raised, any other error is every row's result."""
        # gather hands back whatever was raised, so that no caller waits for ever on a bug.
        [results] = await asyncio.gather(self.flush(key, list(rows)), return_exceptions=True)
        if isinstance(results, PermanentError):
            raise results
        if isinstance(results, BaseException):
            return [results] * len(rows)
        if len(results) != len(rows):
            wrong = RuntimeError(f"{self.name}: {len(results)} results for {len(rows)} rows")
            return [wrong] * len(rows)
        return results
