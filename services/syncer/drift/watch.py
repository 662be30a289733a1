"""The drift schedule: its leader audits and repairs every tenant, and records the result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from services.syncer.drift.audit import TASK, Drift
from services.syncer.drift.findings import Audit, DriftGauges, counts
from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.errors import Fenced, PermanentError, TransientError, Unavailable
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.redis.client import RedisClients, translated
from shared.telemetry import log

SCHEDULE = "drift"
# Of one tenant; more orphans than that take several rounds.
_MOST = 100_000
_log = log.get_logger(__name__)


class OrphanHistory:
    """Since when each orphan point has been seen, in one audit after another.

    A point whose memory does not exist now may have one again in a minute (a restore, a wrong
    clock, a mistake that is corrected), so the scheduled repair deletes a point only if it was an
    orphan a grace period ago too. What one audit does not see is dropped; if all of the history
    is lost, the deletions come a grace period later. Audits of one tenant must not overlap.
    """

    def __init__(self, clients: RedisClients, *, grace_s: float, interval_s: float) -> None:
        self._clients = clients
        self._grace_ms = int(grace_s * 1000)
        # An audit that comes late, or fails a few times, must still find them.
        self._kept_ms = int((grace_s + 3 * max(interval_s, 60.0)) * 1000)

    async def begin(self, tenant: str) -> None:
        with translated():
            await self._clients.command.unlink(self._keys(tenant)[1])

    async def deletable(self, tenant: str, point_ids: Sequence[str]) -> set[str]:
        """Note that these are seen now; return those first seen at least a grace period ago."""
        if not point_ids:
            return set()
        before, current = self._keys(tenant)
        now = now_ms()
        with translated():
            scores = await self._clients.command.zmscore(before, list(point_ids))
            since = dict(zip(point_ids, scores, strict=True))
            if await self._clients.command.zcard(current) < _MOST:
                first_seen = {key: int(now if at is None else at) for key, at in since.items()}
                async with self._clients.command.pipeline(transaction=True) as both:
                    both.zadd(current, first_seen)
                    both.pexpire(current, self._kept_ms)
                    await both.execute()
        return {key for key, at in since.items() if at is not None and at <= now - self._grace_ms}

    async def end(self, tenant: str) -> None:
        """Drop what this audit did not see."""
        before, current = self._keys(tenant)
        with translated():
            if await self._clients.command.exists(current):
                await self._clients.command.rename(current, before)
            else:
                await self._clients.command.unlink(before)

    def _keys(self, tenant: str) -> tuple[str, str]:
        """The sets of the audit before and of this one: point id → ms when first seen."""
        key = self._clients.key("drift", f"{tenant}:orphans")
        return key, f"{key}:now"


@dataclass(slots=True)
class DriftWatch:
    """The body of the drift schedule.

    A leader whose term has ended records no result; the repairs that it may still begin are
    published jobs and guarded writes, which are safe from any process.
    """

    graph: GraphStore
    drift: Drift
    history: OrphanHistory
    settings: SyncSettings
    gauges: DriftGauges

    async def __call__(self, lease: Lease) -> None:
        """Raises: TransientError when a tenant could not be finished; all were tried."""
        fence = Fencing(SCHEDULE, lease.token)
        repair = self.settings.auto_repair
        audits, failures = dict[str, Audit](), 0
        for tenant in await self.graph.tenants():
            try:
                audits[tenant] = await self._audit(tenant, fence, repair=repair)
            except (Fenced, Unavailable):
                raise
            except (TransientError, PermanentError) as error:
                _log.warning("drift.unfinished", tenant=tenant, error=str(error))
                failures += 1
                repair = False  # No embedder works: the other tenants are audited only.
            await asyncio.sleep(0)
        self.gauges.set_found(audits)
        if failures:
            raise TransientError(f"{failures} tenants were not finished")

    async def _audit(self, tenant: str, fence: Fencing, *, repair: bool) -> Audit:
        await self.graph.sweeps.raise_fence(tenant, fence)
        audit, began = Audit(), now_ms()
        delete = repair and self.settings.delete_orphans
        deletable = partial(self.history.deletable, tenant) if delete else None
        if delete:
            await self.history.begin(tenant)
        await self.drift(tenant, audit, _no_report, repair=repair, deletable=deletable)
        if delete:
            await self.history.end(tenant)
        await self.graph.sweeps.record_run(tenant, fence, TASK, audit.result(), began)
        if audit.drifted or audit.orphaned_count:
            _log.warning("drift.found", tenant=tenant, **counts(audit))
        return audit


async def _no_report(*, at_once: bool = False) -> None:
    """A schedule writes no progress: when its term ends, its body is cancelled."""
    del at_once
