"""Outbox: publish jobs after the graph holds the work, and note their tenants for the relay.

The graph node itself is the outbox (its `<stage>_due`): a job that is not published, or gets
lost, is published again by the relay. So that the relay need not visit every tenant each
second, a writer notes the tenant in one sorted set, scored with when its work will be due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from shared.domain.memory import now_ms
from shared.errors import TransientError
from shared.redis.client import RedisClients, Script, scripts_beside, translated
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import Published
from shared.telemetry import log

_log = log.get_logger(__name__)
_LEAVE = scripts_beside(__file__)["outbox_leave"]


class Outbox:
    """Publishes jobs of several stages together and notes their tenants for the relay."""

    def __init__(
        self,
        clients: RedisClients,
        streams: Mapping[Stage, Stream],
        *,
        delay_s: float,
        up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._up = up
        self._command = clients.command
        self._leave = Script(clients.command, _LEAVE)
        self._streams = streams
        self._key = f"{clients.prefix}:tenants:due"
        self._delay_ms = int(delay_s * 1000)
        self._unnoted: set[str] = set()

    async def announce(
        self, jobs: Mapping[Stage, Sequence[Job]], *, exempt: bool = False
    ) -> dict[Stage, list[Published] | None]:
        """Publish; return one result per job in order, None for a stage Redis did not take.

        Never raises for a Redis that is down: the work is in the graph, the relay finds it.
        """
        wanted = {stage: rows for stage, rows in jobs.items() if rows}
        tenants = {job.tenant for rows in wanted.values() for job in rows}
        note = asyncio.create_task(self.note(tenants))
        try:
            results = await asyncio.gather(
                *(self._publish(stage, rows, exempt) for stage, rows in wanted.items())
            )
        finally:
            await note
        return dict(zip(wanted, results, strict=True))

    async def _publish(
        self, stage: Stage, rows: Sequence[Job], exempt: bool
    ) -> list[Published] | None:
        if not self._up():  # a silent Redis would hold the caller for its whole timeout
            return None
        try:
            return await self._streams[stage].publish(rows, exempt=exempt)
        except TransientError as error:
            _log.warning("outbox.unpublished", stream=stage, jobs=len(rows), error=str(error))
            return None

    async def note(self, tenants: Iterable[str], *, due_ms: int | None = None) -> None:
        """Let the relay look at `tenants` at `due_ms` (by default one outbox delay from now)."""
        # Removed for the time of this call: tenants that another call adds meanwhile are kept.
        unnoted, self._unnoted = self._unnoted | set(tenants), set()
        score = now_ms() + self._delay_ms if due_ms is None else due_ms
        try:
            if unnoted and self._up():
                with translated():
                    scores = dict.fromkeys(unnoted, score)
                    await self._command.zadd(self._key, scores, lt=True)
                unnoted = set()
        except TransientError:
            return
        finally:
            self._unnoted |= unnoted

    async def remembers(self) -> bool:
        """Return whether the mark exists: without it Redis has lost every tenant's due time."""
        with translated():
            return bool(await self._command.exists(f"{self._key}:mark"))

    async def remember(self, *, for_s: float) -> None:
        """Set the mark by which `remembers` notices that Redis lost everything."""
        with translated():
            await self._command.set(f"{self._key}:mark", 1, px=int(for_s * 1000))

    async def due(self, at_ms: int, *, limit: int) -> list[tuple[str, float]]:
        """Return the tenants whose work is due at `at_ms`, most overdue first, with their score."""
        with translated():
            rows = await self._command.zrangebyscore(
                self._key, "-inf", at_ms, start=0, num=limit, withscores=True
            )
        return [(name, score) for name, score in cast("list[tuple[str, float]]", rows)]

    async def leave(self, tenant: str, seen: float, next_due_ms: int | None) -> None:
        """Set or remove `tenant`'s due time, unless it was changed since `seen` was read."""
        # As Redis prints the scores of whole milliseconds.
        score, next_due = str(int(seen)), "" if next_due_ms is None else str(next_due_ms)
        await self._leave([self._key], [tenant, score, next_due])
