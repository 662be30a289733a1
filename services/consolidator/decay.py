"""Relevance decay: every memory's score, in chunks so short that no request waits for them.

The formula runs inside the graph, fenced in the same query; after each chunk the sweep rests
nine times as long as the chunk took, so that reads of the graph are hardly slower.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import ConsolidationSettings
from shared.domain.memory import now_ms
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing, Sweep
from shared.leading.lease import Lease
from shared.telemetry import log, metrics

SCHEDULE = "decay"
_log = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DecaySweep:
    """The body of the decay schedule, over all tenants."""

    graph: GraphStore
    settings: ConsolidationSettings

    async def __call__(self, lease: Lease) -> None:
        """Score every memory of every tenant.

        Raises: Fenced when another leader wrote since, before any further write.
        """
        fence = Fencing(SCHEDULE, lease.token)
        tenants = await self.graph.tenants()
        for tenant in tenants:
            await self.graph.sweeps.raise_fence(tenant, fence)
        for tenant in tenants:
            scored = await self._score(tenant, fence)
            metrics.DECAY_UPDATED.inc(scored)
            _log.info("decay.finished", tenant=tenant, memories=scored)

    async def _score(self, tenant: str, fence: Fencing) -> int:
        settings, at_ms, scored = self.settings, now_ms(), 0
        sweep = Sweep(chunk_ms=settings.sweep_chunk_ms, duty_ratio=settings.sweep_duty_ratio)
        async for low, high in sweep:
            chunk = await self.graph.sweeps.decay_chunk(
                tenant, fence, low, high, now_ms=at_ms, settings=settings
            )
            sweep.took(chunk.server_ms)
            scored += chunk.rows
        return scored
