"""The drift schedule: its leader audits and repairs every tenant, and records the result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from services.syncer.drift.findings import Audit
from services.syncer.drift.gauges import DriftGauges, counts
from services.syncer.drift.orphan_history import OrphanHistory
from services.syncer.drift.repair import TASK, Drift, none_deletable
from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.errors import Fenced, PermanentError, TransientError, Unavailable
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.telemetry import log

SCHEDULE = "drift"
_log = log.get_logger(__name__)


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
        deletable = partial(self.history.deletable, tenant) if delete else none_deletable
        if delete:
            await self.history.begin(tenant)
        await self.drift(tenant, audit, _no_report, repair=repair, deletable=deletable)
        if delete:
            await self.history.end(tenant)
        status = "complete" if audit.drifted or audit.orphans_deleted else "already_synced"
        await self.graph.sweeps.record_run(tenant, fence, TASK, audit.result(status), began)
        if audit.drifted or audit.orphaned_count:
            _log.warning("drift.found", tenant=tenant, **counts(audit))
        return audit


async def _no_report(*, at_once: bool = False) -> None:
    """A schedule writes no progress: when its term ends, its body is cancelled."""
    del at_once
