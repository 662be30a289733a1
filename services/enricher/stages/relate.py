"""The relate stage: write SIMILAR_TO edges between memories whose vectors are close.

A memory is related after its vector is stored, so the later of two memories finds both vectors.
Two memories are linked if either is among the other's nearest; so the later one is linked to its
own nearest memories, and to those whose nearest memories now include it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from shared.config import EnrichmentSettings
from shared.domain.memory import Memory
from shared.graph.stages.writes import Related
from shared.graph.store import GraphStore
from shared.streams.job import Job, by_tenant
from shared.streams.transitions import Done, Outcome
from shared.telemetry import metrics
from shared.vectors import Hit, VectorStore

# A memory may be among the nearest of others that are not among its own nearest. So many of its
# neighbours are examined; more of them if that many are above the threshold.
_NEIGHBOURS = 64
_MOST_NEIGHBOURS = 1024
# For a batch the edges of at most so many neighbours are read; each takes some 20 µs.
_MOST_CHECKED = 8192
_Neighbour = tuple[str, float]


@dataclass(slots=True)
class Relater:
    """Handler of the relate stream; safe to run in any number of processes."""

    graph: GraphStore
    vectors: VectorStore
    settings: EnrichmentSettings

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        for tenant, jobs_of in by_tenant(jobs).items():
            await self._relate(tenant, list(jobs_of))
        return [Done()] * len(jobs)

    async def _relate(self, tenant: str, ids: Sequence[str]) -> None:
        """Relate the memories; the number of queries does not depend on how many there are."""
        memories = await self.graph.memories.get(tenant, ids)
        ready = [memory for memory in memories.values() if memory.text_hash]
        neighbours = await self._neighbours(tenant, [memory.id for memory in ready])
        strongest = await self.graph.work.strongest(
            tenant, self._beyond_nearest(neighbours), self.settings.similarity_limit
        )
        rows = [self._row(memory, neighbours.get(memory.id, []), strongest) for memory in ready]
        await self.graph.work.related(tenant, rows)
        metrics.RELATIONS_WRITTEN.labels(type="SIMILAR_TO").inc(
            sum(2 * len(row.neighbours) for row in rows)
        )

    async def _neighbours(self, tenant: str, ids: Sequence[str]) -> dict[str, list[Hit]]:
        """Return each memory's neighbours, nearest first.

        A search for many is slow in a large collection: only those that need it get a second one.
        """
        search = partial(
            self.vectors.neighbours, tenant, threshold=self.settings.similarity_threshold
        )
        found = await search(ids, limit=_NEIGHBOURS)
        crowded = [key for key, hits in found.items() if len(hits) >= _NEIGHBOURS]
        return found | await search(crowded, limit=_MOST_NEIGHBOURS) if crowded else found

    def _beyond_nearest(self, found: Mapping[str, Sequence[_Neighbour]]) -> dict[str, float]:
        """Return the neighbours beyond the nearest, with each one's best score in the batch."""
        best: dict[str, float] = {}
        for neighbours in found.values():
            for other, score in neighbours[self.settings.similarity_limit :]:
                best[other] = max(score, best.get(other, score))
        return dict(heapq.nlargest(_MOST_CHECKED, best.items(), key=lambda item: item[1]))

    def _row(
        self,
        memory: Memory,
        neighbours: Sequence[_Neighbour],
        strongest: Mapping[str, Sequence[_Neighbour]],
    ) -> Related:
        limit = self.settings.similarity_limit
        mutual = [
            (other, score)
            for other, score in neighbours[limit:]
            if other in strongest and self._is_among(memory.id, score, strongest[other])
        ]
        return Related(
            memory.id,
            memory.text_hash or "",
            memory.payload_version,
            (*neighbours[:limit], *mutual),
            replace=memory.related_version > 0,
            nearest=min(limit, len(neighbours)),
        )

    def _is_among(self, memory_id: str, score: float, edges: Sequence[_Neighbour]) -> bool:
        """Return whether `memory_id` is among the nearest of a memory that has these edges.

        An edge to `memory_id` itself was written by an earlier run and is not counted.
        """
        stronger = [each for other, each in edges if other != memory_id and each >= score]
        return len(stronger) < self.settings.similarity_limit
