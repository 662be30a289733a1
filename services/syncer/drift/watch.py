"""The drift schedule: every tenant audited and repaired by whoever leads, with its history."""

from __future__ import annotations

import asyncio
from functools import partial

from services.syncer.drift.findings import Audit
from services.syncer.drift.gauges import DriftGauges, counts
from services.syncer.drift.orphan_history import OrphanHistory
from services.syncer.drift.repair import TASK, Drift, none_goes
from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.errors import Fenced, PermanentError, TransientError, Unavailable
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.telemetry import log

SCHEDULE = "drift"
_log = log.get_logger(__name__)


class DriftWatch:
    """The body of the drift schedule.

    A leader that lost its term writes no history any more; the repairs it may still begin
    are hints and guarded writes, as everybody's.
    """

    def __init__(
        self,
        graph: GraphStore,
        drift: Drift,
        sightings: OrphanHistory,
        settings: SyncSettings,
        shown: DriftGauges,
    ) -> None:
        self._graph = graph
        self._drift = drift
        self._sightings = sightings
        self._settings = settings
        self._shown = shown

    async def __call__(self, lease: Lease) -> None:
        """Raises: TransientError when a tenant could not be finished; all were tried."""
        fence = Fencing(SCHEDULE, lease.token)
        repair = self._settings.auto_repair
        found, failures = dict[str, Audit](), []
        for tenant in await self._graph.tenants():
            try:
                found[tenant] = await self._watch(tenant, fence, repair=repair)
            except (Fenced, Unavailable):
                raise
            except (TransientError, PermanentError) as error:
                _log.warning("drift.unfinished", tenant=tenant, error=str(error))
                failures.append(tenant)
                repair = False  # nobody embeds: the others are only looked at
            await asyncio.sleep(0)
        self._shown.found(found)
        if failures:
            raise TransientError(f"{len(failures)} tenants were not finished")

    async def _watch(self, tenant: str, fence: Fencing, *, repair: bool) -> Audit:
        await self._graph.sweeps.raise_fence(tenant, fence)
        audit, began = Audit(), now_ms()
        delete = repair and self._settings.delete_orphans
        may_go = partial(self._sightings.ripe, tenant) if delete else none_goes
        if delete:
            await self._sightings.begin(tenant)
        await self._drift(tenant, audit, _silent, repair=repair, may_go=may_go)
        if delete:
            await self._sightings.end(tenant)
        status = "complete" if audit.drifted or audit.orphans_deleted else "already_synced"
        await self._graph.sweeps.record_run(tenant, fence, TASK, audit.result(status), began)
        if audit.drifted or audit.orphaned_count:
            _log.warning("drift.found", tenant=tenant, **counts(audit))
        return audit


async def _silent(audit: Audit, *, at_once: bool = False) -> None:
    """Nobody watches: a term that ends cancels the body."""
    del audit, at_once
