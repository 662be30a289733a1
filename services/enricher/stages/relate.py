"""The relate stage: SIMILAR_TO between memories whose vectors are close.

It runs only after a memory's vector stands, so whichever of two memories is related later
sees both. A pair is linked when either is among the other's nearest: the later one's own
nearest, and those whose nearest it has become.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from shared.config import EnrichmentSettings
from shared.domain.memory import Memory
from shared.graph.stages.writes import Related
from shared.graph.store import GraphStore
from shared.streams.job import Job, by_tenant
from shared.streams.transitions import Done, Outcome
from shared.telemetry import metrics
from shared.vectors import Hit, VectorStore

# How far beyond its own nearest a memory looks for others whose nearest it may be; in a
# crowd that lies close together it is among the nearest of some that are far down its list.
LOOK_LIMIT = 64
CROWD_LIMIT = 1024
# The closest of all that one batch sees further away; each takes some 20 µs.
RIVALS = 8192
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
        for tenant, jobs_of in by_tenant(jobs).items():
            await self._relate(tenant, list(jobs_of))
        return [Done()] * len(jobs)

    async def _relate(self, tenant: str, ids: Sequence[str]) -> None:
        """A bounded number of vector calls and graph queries, however many memories."""
        memories = await self._graph.memories.get(tenant, ids)
        ready = [memory for memory in memories.values() if memory.text_hash]
        found = await self._near(tenant, [memory.id for memory in ready])
        rivals = self._rivals(found)
        strongest = await self._graph.work.strongest(
            tenant, rivals, self._settings.similarity_limit
        )
        rows = [self._row(memory, found.get(memory.id, []), strongest) for memory in ready]
        await self._graph.work.related(tenant, rows)
        metrics.RELATIONS_WRITTEN.labels(type="SIMILAR_TO").inc(
            sum(2 * len(row.neighbours) for row in rows)
        )

    async def _near(self, tenant: str, ids: Sequence[str]) -> dict[str, list[Hit]]:
        """Looking far is dear in a large collection: only for those in a crowd."""
        found = await self._look(tenant, ids, LOOK_LIMIT)
        crowded = [key for key, near in found.items() if len(near) >= LOOK_LIMIT]
        return found | await self._look(tenant, crowded, CROWD_LIMIT) if crowded else found

    async def _look(self, tenant: str, ids: Sequence[str], limit: int) -> dict[str, list[Hit]]:
        return await self._vectors.neighbours(
            tenant, ids, limit=limit, threshold=self._settings.similarity_threshold
        )

    def _rivals(self, found: Mapping[str, Sequence[Neighbour]]) -> dict[str, float]:
        """Those further away, with the best score that a newcomer has with each of them."""
        best: dict[str, float] = {}
        for near in found.values():
            for other, score in near[self._settings.similarity_limit :]:
                best[other] = max(score, best.get(other, score))
        return dict(heapq.nlargest(RIVALS, best.items(), key=lambda each: each[1]))

    def _row(
        self,
        memory: Memory,
        near: Sequence[Neighbour],
        strongest: Mapping[str, Sequence[Neighbour]],
    ) -> Related:
        limit = self._settings.similarity_limit
        mutual = [
            (other, score)
            for other, score in near[limit:]
            if other in strongest and self._is_among(memory.id, score, strongest[other])
        ]
        return Related(
            memory.id,
            memory.text_hash or "",
            memory.payload_version,
            (*near[:limit], *mutual),
            replace=memory.related_version > 0,
            nearest=min(limit, len(near)),
        )

    def _is_among(self, memory_id: str, score: float, edges: Sequence[Neighbour]) -> bool:
        """Whether a memory with these edges has `memory_id` among its nearest.

        An edge to it already, from a run before, says nothing.
        """
        limit = self._settings.similarity_limit
        stronger = [each for other, each in edges if other != memory_id and each >= score]
        return len(stronger) < limit
