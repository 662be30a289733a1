"""The relay: republishes what the graph says is due and no stream brought about.

Each pass takes the tenants that were noted as due; every few minutes all of them, since a
lost Redis forgets its notes. A publish of a job that is still live is a no-op, so however
often the relay comes round each job is queued once. A job in the dead stream marks its
memory as given up, until a change, a replay or a reprocess.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.graph.stages.writes import Due
from shared.graph.store import GraphStore
from shared.leading.lease import Lease
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import Published
from shared.telemetry import log, metrics

SCHEDULE = "relay"
STAGES = (Stage.ENRICH, Stage.ASK, Stage.EMBED, Stage.RELATE)
_TENANTS_PER_PASS = 200
_log = log.get_logger(__name__)


class Relay:
    """The body of the relay schedule: one pass, short enough for its lease."""

    def __init__(
        self,
        graph: GraphStore,
        outbox: Outbox,
        streams: Mapping[Stage, Stream],
        settings: SyncSettings,
    ) -> None:
        self._graph = graph
        self._outbox = outbox
        self._streams = streams
        self._settings = settings
        self._all_at = float("-inf")

    async def __call__(self, lease: Lease) -> None:
        """Raises: Unavailable while a store is down; the next pass starts over."""
        del lease  # what it does twice is done once: publishing is guarded by the ledger
        now = now_ms()
        overdue = time.monotonic() - self._all_at >= self._settings.relay_all_every_s
        # A Redis that lost our mark lost the notes as well: nobody would look for five minutes.
        if overdue or not await self._outbox.remembers():
            await self._note_all(now)
        for tenant, seen in await self._outbox.due(now, limit=_TENANTS_PER_PASS):
            more = await self._relay(tenant, now)
            next_due = now if more else await self._graph.work.next_due(tenant)
            await self._outbox.leave(tenant, seen, next_due)

    async def _note_all(self, now: int) -> None:
        await self._outbox.note(await self._graph.tenants(), due_ms=now)
        await self._outbox.remember(for_s=10 * self._settings.relay_all_every_s)
        self._all_at = time.monotonic()

    async def _relay(self, tenant: str, now: int) -> bool:
        """Republish one page of each stage; True where a page was full."""
        full = False
        for stage in STAGES:
            due = await self._graph.work.claim_due(tenant, stage, now, self._settings.relay_rows)
            if due:
                await self._publish(tenant, stage, due)
            full = full or len(due) == self._settings.relay_rows
        await self._republish_runs(tenant, now)
        return full

    async def _republish_runs(self, tenant: str, now: int) -> None:
        """A run whose job is dead is over: nobody would take it again."""
        due = [run_id for run_id, _task in await self._graph.runs.claim_due(tenant, now)]
        jobs = [Job(tenant, run_id, 0) for run_id in due]
        answers = await self._streams[Stage.SYNC].publish(jobs, exempt=True)
        dead = [
            run_id for run_id, answer in zip(due, answers, strict=True) if answer is Published.DEAD
        ]
        if dead:
            await self._graph.runs.fail(tenant, dead, "given up: its job is in the dead stream")

    async def _publish(self, tenant: str, stage: Stage, due: Sequence[Due]) -> None:
        jobs = [Job(tenant, each.id, each.job_version(stage)) for each in due]
        answers = await self._streams[stage].publish(jobs, exempt=True)
        dead = [
            (job.memory_id, job.version)
            for job, answer in zip(jobs, answers, strict=True)
            if answer is Published.DEAD
        ]
        await self._graph.work.give_up(tenant, stage, dead)
        republished = answers.count(Published.NEW)
        metrics.RELAY_REPUBLISHED.labels(stream=stage).inc(republished)
        if republished or dead:
            _log.info(
                "relay.republished", stream=stage, jobs=republished, dead=len(dead), due=len(due)
            )
