"""Publish the job of each memory that is due in the graph, in case its job was lost.

Each pass takes the tenants that were noted as due; every few minutes all of them, since a
Redis that lost its data has no notes. To publish a job that is live does nothing, so each job
is queued once however often the relay passes. A memory whose job is in the dead stream is
marked as given up, until a change, a replay or a reprocess.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.graph.records import VERSION_OF, Due
from shared.graph.store import GraphStore
from shared.leading.lease import Lease
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import Published
from shared.telemetry import log, metrics

SCHEDULE = "relay"
_TENANTS_PER_PASS = 200
_log = log.get_logger(__name__)


@dataclass(slots=True)
class Relay:
    """The body of the relay schedule: one pass, short enough for its lease."""

    graph: GraphStore
    outbox: Outbox
    streams: Mapping[Stage, Stream]
    settings: SyncSettings
    _all_at: float = field(default=float("-inf"), init=False)

    async def __call__(self, lease: Lease) -> None:
        """Raises: Unavailable while a store is down; the next pass starts over."""
        del lease  # Two leaders do no harm: the ledger admits each job once.
        now = now_ms()
        overdue = time.monotonic() - self._all_at >= self.settings.relay_all_every_s
        # A Redis that lost the mark lost the notes too; without this they would wait minutes.
        if overdue or not await self.outbox.remembers():
            await self.outbox.note(await self.graph.tenants(), due_ms=now)
            await self.outbox.remember(for_s=10 * self.settings.relay_all_every_s)
            self._all_at = time.monotonic()
        for tenant, seen in await self.outbox.due(now, limit=_TENANTS_PER_PASS):
            more = await self._relay(tenant, now)
            next_due = now if more else await self.graph.work.next_due(tenant)
            await self.outbox.leave(tenant, seen, next_due)

    async def _relay(self, tenant: str, now: int) -> bool:
        """Republish one page of each stage; return whether any page was full."""
        full = False
        for stage in VERSION_OF:
            due = await self.graph.work.claim_due(tenant, stage, now, self.settings.relay_rows)
            if due:
                await self._publish(tenant, stage, due)
            full = full or len(due) == self.settings.relay_rows
        await self._republish_runs(tenant, now)
        return full

    async def _publish(self, tenant: str, stage: Stage, due: Sequence[Due]) -> None:
        jobs = [Job(tenant, each.id, each.job_version(stage)) for each in due]
        republished, dead = await self._published(stage, jobs)
        await self.graph.work.give_up(tenant, stage, [(job.memory_id, job.version) for job in dead])
        metrics.RELAY_REPUBLISHED.labels(stream=stage).inc(republished)
        if republished or dead:
            _log.info(
                "relay.republished", stream=stage, jobs=republished, dead=len(dead), due=len(due)
            )

    async def _republish_runs(self, tenant: str, now: int) -> None:
        """A run whose job is dead has failed: no consumer would take it again."""
        due = await self.graph.runs.claim_due(tenant, now)
        jobs = [Job(tenant, run_id, 0) for run_id, _task in due]
        _, dead = await self._published(Stage.SYNC, jobs)
        if dead:
            ids = [job.memory_id for job in dead]
            await self.graph.runs.fail(tenant, ids, "given up: its job is in the dead stream")

    async def _published(self, stage: Stage, jobs: Sequence[Job]) -> tuple[int, list[Job]]:
        """Publish; return how many jobs are new, and which are in the dead stream."""
        answers = await self.streams[stage].publish(jobs, exempt=True)
        pairs = zip(jobs, answers, strict=True)
        dead = [job for job, answer in pairs if answer is Published.DEAD]
        return answers.count(Published.NEW), dead
