"""Relevance decay: every memory's score, in chunks so short that no request waits for them.

The formula runs inside the graph, fenced in the same query; after each chunk the sweep rests
nine times as long as the chunk took, so that reads of the graph are hardly slower.
"""

from __future__ import annotations

from shared.config import ConsolidationSettings
from shared.domain.memory import now_ms
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing, Sweep
from shared.leading.lease import Lease
from shared.telemetry import log, metrics

SCHEDULE = "decay"
_log = log.get_logger(__name__)


async def decay(graph: GraphStore, settings: ConsolidationSettings, lease: Lease) -> None:
    """Score every memory of every tenant.

    Raises: Fenced when another leader wrote since, before any further write.
    """
    fence = Fencing(SCHEDULE, lease.token)
    tenants = await graph.tenants()
    for tenant in tenants:
        await graph.sweeps.raise_fence(tenant, fence)
    for tenant in tenants:
        scored = await _score(graph, settings, tenant, fence)
        metrics.DECAY_UPDATED.inc(scored)
        _log.info("decay.finished", tenant=tenant, memories=scored)


async def _score(
    graph: GraphStore, settings: ConsolidationSettings, tenant: str, fence: Fencing
) -> int:
    at_ms, scored = now_ms(), 0
    sweep = Sweep(chunk_ms=settings.sweep_chunk_ms, duty_ratio=settings.sweep_duty_ratio)
    async for low, high in sweep:
        chunk = await graph.sweeps.decay_chunk(
            tenant, fence, low, high, now_ms=at_ms, settings=settings
        )
        sweep.took(chunk.server_ms)
        scored += chunk.rows
    return scored
