"""Remove dead consumers, ledger fields without a job, expired idempotency keys and old runs.

No entry that is not acked is touched: a dead consumer is removed only once nothing is pending
under its name, which is when other consumers have claimed its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.memory import now_ms
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.telemetry import log, metrics

SCHEDULE = "janitor"
# A consumer that is silent for ten visibility times never returns under its name.
_DEAD_AFTER_VISIBILITIES = 10
_log = log.get_logger(__name__)


@dataclass(slots=True)
class Janitor:
    """The body of the janitor schedule."""

    graph: GraphStore
    streams: Mapping[Stage, Stream]
    idempotency_ttl_s: int
    runs_kept: int

    async def __call__(self, lease: Lease) -> None:
        for stage, stream in self.streams.items():
            idle_s = _DEAD_AFTER_VISIBILITIES * stream.policy.limits.visibility_s
            reaped = await stream.reap_consumers(idle_s)
            cleared = await stream.sweep()
            if reaped or cleared:
                _log.info("stream.cleaned", stream=stage, consumers=reaped, ledger=cleared)
        fence, before = Fencing(SCHEDULE, lease.token), now_ms() - self.idempotency_ttl_s * 1000
        for tenant in await self.graph.tenants():
            await self.graph.sweeps.expire_keys(tenant, fence, before)
            surplus = await self.graph.runs.surplus(tenant, keep=self.runs_kept)
            if surplus:
                await self.graph.sweeps.forget_runs(tenant, fence, surplus)


async def report_depths(streams: Mapping[Stage, Stream], _lease: Lease) -> None:
    """Set the stream gauges; only the leading syncer does, so that sums count each entry once."""
    for stage, stream in streams.items():
        depth = await stream.depth()
        for state in ("ready", "pending", "delayed", "dead"):
            metrics.STREAM_ENTRIES.labels(stream=stage, state=state).set(getattr(depth, state))
        metrics.STREAM_OLDEST_AGE.labels(stream=stage).set(depth.oldest_age_s or 0.0)


def withdraw_depths() -> None:
    """Show no depths: another process leads now."""
    metrics.STREAM_ENTRIES.clear()
    metrics.STREAM_OLDEST_AGE.clear()
