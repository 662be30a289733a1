"""The relate stage: SIMILAR_TO between memories whose vectors are close.

It runs only after a memory's vector stands, so whichever of two memories is related later
sees both. A pair is linked when either is among the other's nearest: the later one's own
nearest, and those whose nearest it has become.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared import metrics
from shared.config import EnrichmentSettings
from shared.consumer import Done, Outcome
from shared.graph.store import GraphStore
from shared.graph.work import Related
from shared.job import Job
from shared.memory import Memory
from shared.vectors import VectorStore

# How far beyond its own nearest a memory looks for others whose nearest it may be.
LOOK_LIMIT = 64
Neighbour = tuple[str, float]


class Relater:
    """Handler of the relate stream; safe to run in any number of processes."""

    def __init__(
        self, graph: GraphStore, vectors: VectorStore, settings: EnrichmentSettings
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._settings = settings

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        by_tenant: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            by_tenant[job.tenant].append(job.memory_id)
        for tenant, ids in by_tenant.items():
            await self._relate(tenant, ids)
        return [Done()] * len(jobs)

    async def _relate(self, tenant: str, ids: Sequence[str]) -> None:
        """One vector batch and at most five graph queries, however many memories."""
        settings = self._settings
        memories = await self._graph.memories.get(tenant, ids)
        ready = [memory for memory in memories.values() if memory.text_hash]
        found = await self._vectors.neighbours(
            tenant,
            [memory.id for memory in ready],
            limit=LOOK_LIMIT,
            threshold=settings.similarity_threshold,
        )
        floors = await self._floors(tenant, found)
        rows = [self._row(memory, found.get(memory.id, []), floors) for memory in ready]
        await self._graph.work.related(tenant, rows)
        metrics.RELATIONS_WRITTEN.labels(type="SIMILAR_TO").inc(
            sum(2 * len(row.neighbours) for row in rows)
        )

    async def _floors(
        self, tenant: str, found: Mapping[str, Sequence[Neighbour]]
    ) -> Mapping[str, float | None]:
        """What a newcomer must beat to be among the nearest of those further away."""
        limit = self._settings.similarity_limit
        further = {other for near in found.values() for other, _ in near[limit:]}
        if not further:
            return {}
        return await self._graph.work.neighbour_floor(tenant, further, limit)

    def _row(
        self,
        memory: Memory,
        near: Sequence[Neighbour],
        floors: Mapping[str, float | None],
    ) -> Related:
        limit = self._settings.similarity_limit
        mutual = [each for each in near[limit:] if _beats(each[1], floors.get(each[0]))]
        return Related(
            memory.id,
            memory.text_hash or "",
            memory.payload_version,
            (*near[:limit], *mutual),
            replace=memory.related_version > 0,
        )


def _beats(score: float, floor: float | None) -> bool:
    return floor is None or score > floor
