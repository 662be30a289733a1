"""The outbox: hints are published after the graph holds the work, and may get lost.

The graph node itself is the outbox (its `<stage>_due`). Publishing is the quick path; the
relay republishes what lags. So that the relay need not visit every tenant each second, who
writes notes the tenant in one sorted set, scored with when its work will be due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from shared.domain.memory import now_ms
from shared.errors import TransientError
from shared.redis.client import RedisClients, translated
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import Published
from shared.telemetry import log

_log = log.get_logger(__name__)
# ZADD LT keeps the earlier time; a tenant leaves the set only if nobody noted it meanwhile.
_LEAVE = """
-- KEYS 1 the set; ARGV 1 tenant 2 score that was read 3 next due or ''
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
"""


class Outbox:
    """Publishes jobs of several stages together and notes their tenants for the relay."""

    def __init__(
        self,
        clients: RedisClients,
        streams: Mapping[Stage, Stream],
        *,
        prefix: str,
        delay_s: float,
        up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._up = up
        self._clients = clients
        self._streams = streams
        self._key = f"{prefix}:tenants:due"
        self._delay_ms = int(delay_s * 1000)
        self._unnoted: set[str] = set()

    async def announce(
        self, jobs: Mapping[Stage, Sequence[Job]], *, exempt: bool = False
    ) -> dict[Stage, list[Published] | None]:
        """Publish; one answer per job in order, None for a stage Redis could not take.

        Never raises for a Redis that is down: the work is in the graph, the relay finds it.
        """
        wanted = {stage: list(rows) for stage, rows in jobs.items() if rows}
        tenants = {job.tenant for rows in wanted.values() for job in rows}
        note = asyncio.create_task(self.note(tenants))
        try:
            answers = await asyncio.gather(
                *(self._publish(stage, rows, exempt) for stage, rows in wanted.items())
            )
        finally:
            await note
        return dict(zip(wanted, answers, strict=True))

    async def _publish(self, stage: Stage, rows: list[Job], exempt: bool) -> list[Published] | None:
        if not self._up():  # a silent Redis would hold the caller for its whole timeout
            return None
        try:
            return await self._streams[stage].publish(rows, exempt=exempt)
        except TransientError as error:
            _log.warning("outbox.unpublished", stream=stage, jobs=len(rows), error=str(error))
            return None

    async def note(self, tenants: Iterable[str], *, due_ms: int | None = None) -> None:
        """Have the relay look at `tenants` at `due_ms` (one outbox delay from now)."""
        # Taken out for the time of this call: what another one adds meanwhile is kept.
        unnoted, self._unnoted = self._unnoted | set(tenants), set()
        score = now_ms() + self._delay_ms if due_ms is None else due_ms
        try:
            if unnoted and self._up():
                with translated():
                    scores = dict.fromkeys(unnoted, score)
                    await self._clients.command.zadd(self._key, scores, lt=True)
                unnoted = set()
        except TransientError:
            return
        finally:
            self._unnoted |= unnoted

    async def remembers(self) -> bool:
        """Whether Redis still has what was noted, as far as our own mark tells."""
        with translated():
            return bool(await self._clients.command.exists(f"{self._key}:mark"))

    async def remember(self, *, for_s: float) -> None:
        """Leave the mark by which a loss of Redis is noticed."""
        with translated():
            await self._clients.command.set(f"{self._key}:mark", 1, px=int(for_s * 1000))

    async def due(self, at_ms: int, *, limit: int) -> list[tuple[str, float]]:
        """Tenants whose work is due at `at_ms`, most overdue first, with their score."""
        with translated():
            rows = await self._clients.command.zrangebyscore(
                self._key, "-inf", at_ms, start=0, num=limit, withscores=True
            )
        return [(name, score) for name, score in cast("list[tuple[str, float]]", rows)]

    async def leave(self, tenant: str, seen: float, next_due_ms: int | None) -> None:
        """Move `tenant` to its next due time, or out; unless somebody noted it since."""
        after = "" if next_due_ms is None else str(next_due_ms)
        with translated():
            await self._clients.command.eval(_LEAVE, 1, self._key, tenant, _score(seen), after)


def _score(value: float) -> str:
    """As Redis prints the scores of whole milliseconds."""
    return str(int(value))
