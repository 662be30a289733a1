"""The janitor: dead consumers, ledger fields without a job, expired keys of writes, old runs.

It never touches an entry that is not acked: a dead consumer is removed only once nothing is
pending on its name, which is when others have taken its work over.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.domain.memory import now_ms
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.telemetry import log, metrics

SCHEDULE = "janitor"
# Ten visibilities of silence: nobody comes back from that under the same name.
_DEAD_AFTER_VISIBILITIES = 10
_log = log.get_logger(__name__)


class Janitor:
    """The body of the janitor schedule."""

    def __init__(
        self,
        graph: GraphStore,
        streams: Mapping[Stage, Stream],
        *,
        idempotency_ttl_s: int,
        runs_kept: int,
    ) -> None:
        self._graph = graph
        self._streams = streams
        self._ttl_ms = idempotency_ttl_s * 1000
        self._runs_kept = runs_kept

    async def __call__(self, lease: Lease) -> None:
        for stage, stream in self._streams.items():
            idle_s = _DEAD_AFTER_VISIBILITIES * stream.policy.visibility_s
            reaped = await stream.reap_consumers(idle_s)
            cleared = await stream.sweep()
            if reaped or cleared:
                _log.info("stream.cleaned", stream=stage, consumers=reaped, ledger=cleared)
        await self._expire(Fencing(SCHEDULE, lease.token))

    async def _expire(self, fence: Fencing) -> None:
        before = now_ms() - self._ttl_ms
        for tenant in await self._graph.tenants():
            await self._graph.sweeps.expire_keys(tenant, fence, before)
            surplus = await self._graph.runs.surplus(tenant, keep=self._runs_kept)
            if surplus:
                await self._graph.sweeps.forget_runs(tenant, fence, surplus)


async def report_depths(streams: Mapping[Stage, Stream]) -> None:
    """Set the stream gauges; only the leading syncer does, so that sums mean something."""
    for stage, stream in streams.items():
        depth = await stream.depth()
        for state in ("ready", "pending", "delayed", "dead"):
            metrics.STREAM_ENTRIES.labels(stream=stage, state=state).set(getattr(depth, state))
        age_s = await stream.oldest_age_s()
        metrics.STREAM_OLDEST_AGE.labels(stream=stage).set(age_s or 0.0)


def withdraw_depths() -> None:
    """Show no depths: another process leads now."""
    metrics.STREAM_ENTRIES.clear()
    metrics.STREAM_OLDEST_AGE.clear()
