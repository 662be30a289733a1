"""The embed stage: a batch of jobs in, points in the vector store, relate jobs out.

The graph is read first and written last, guarded by `payload_version`; points are written
in between, conditional on an older one. Whatever runs twice or late therefore changes
nothing, and a memory that went meanwhile takes its point with it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.embedder.batch import (
    Known,
    Plan,
    Vector,
    plan,
    same_text,
    whole_hash,
    words_in_context,
)
from shared.consumer import Done, Outcome
from shared.graph.dialogue import Before
from shared.graph.store import GraphStore
from shared.graph.work import Embedded
from shared.job import Job, Stage
from shared.memory import Memory
from shared.models.embedding import EmbeddingModel
from shared.outbox import Outbox
from shared.vectors import Point, VectorStore, point_for


@dataclass(frozen=True, slots=True)
class Gathered:
    """One tenant's part of a batch, as the stores had it before anything was written."""

    tenant: str
    absent: list[str]
    memories: Mapping[str, Memory]
    before: Mapping[str, Sequence[Before]]
    known: Mapping[str, Known]
    supplied: Mapping[str, Vector]
    plan: Plan


class Embedder:
    """Handler of the embed stream; safe to run in any number of processes."""

    def __init__(
        self, graph: GraphStore, vectors: VectorStore, model: EmbeddingModel, outbox: Outbox
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._model = model
        self._outbox = outbox

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Bring every job's memory to its point; raises what concerns the whole batch."""
        by_tenant: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_tenant[job.tenant].append(job)
        gathered = [await self._gather(tenant, mine) for tenant, mine in by_tenant.items()]
        fresh = await self._embed(gathered)
        for part in gathered:
            await self._write(part, fresh)
        return [Done()] * len(jobs)

    async def _gather(self, tenant: str, jobs: Sequence[Job]) -> Gathered:
        ids = [job.memory_id for job in jobs]
        found, before = await asyncio.gather(
            self._graph.memories.get(tenant, ids), self._graph.dialogue.before(tenant, ids)
        )
        memories = {
            job.memory_id: found[job.memory_id]
            for job in jobs
            if job.memory_id in found and _lags(found[job.memory_id], job)
        }
        stored, supplied = await asyncio.gather(
            self._vectors.stored(tenant, list(memories), with_dense=True),
            self._supplied(tenant, list(memories)),
        )
        known = {
            key: Known(each.text_hash, each.dense)
            for key, each in stored.items()
            if each.dense is not None
        }
        return Gathered(
            tenant,
            [key for key in ids if key not in found],
            memories,
            before,
            known,
            supplied,
            plan(self._model.name, memories, before, known, supplied),
        )

    async def _supplied(self, tenant: str, ids: Sequence[str]) -> dict[str, Vector]:
        """Vectors that clients supplied for the model that serves; another's are ignored."""
        found = await self._graph.memories.embeddings(tenant, ids) if ids else {}
        return {
            key: unit(each.vector) for key, each in found.items() if each.model == self._model.name
        }

    async def _embed(self, gathered: Sequence[Gathered]) -> dict[tuple[str, str], Vector]:
        """One model call for the whole batch, whatever tenants are in it."""
        texts = {key: text for part in gathered for key, text in part.plan.texts.items()}
        if not texts:
            return {}
        vectors = await self._model.embed(list(texts.values()))
        return dict(zip(texts, vectors, strict=True))

    async def _write(self, part: Gathered, fresh: Mapping[tuple[str, str], Vector]) -> None:
        """Points, then the graph's word that they stand; then what follows from them."""
        tenant = part.tenant
        points = [self._point(part, memory, fresh) for memory in part.plan.points]
        payloads = [self._payload(part, memory) for memory in part.plan.payloads]
        await self._vectors.upsert(tenant, points)
        await self._vectors.write_payload(tenant, payloads)
        rows = [self._row(part, memory) for memory in part.memories.values()]
        # Told by what the graph has recorded, not by what was written just now: an earlier
        # run may have written the point and then lost its guarded write to a change.
        renewed = [row.id for row in rows if self._other_words(part.memories[row.id], row)]
        successors = await self._graph.dialogue.refresh_after(tenant, renewed)
        result = await self._graph.work.embedded(tenant, rows)
        gone = [*part.absent, *result.absent]
        if gone:
            await self._vectors.delete(tenant, gone)
        relate = [
            Job(tenant, row.id, row.payload_version)
            for row in rows
            if row.relate and row.id in result.applied
        ]
        late = [Job(tenant, due.id, due.payload_version) for due in successors]
        await self._outbox.announce({Stage.RELATE: relate, Stage.EMBED: late})

    def _point(
        self, part: Gathered, memory: Memory, fresh: Mapping[tuple[str, str], Vector]
    ) -> Point:
        key, said = memory.id, part.before.get(memory.id, ())
        own = part.supplied.get(key, fresh.get((key, "dense")))
        own = part.known[key].dense if own is None else own
        return point_for(
            part.tenant,
            memory,
            text_hash=whole_hash(self._model.name, memory.content, said),
            vectors={
                "dense": own,
                "context": fresh.get((key, "context"), own),
                "bm25": words_in_context(memory, said),
            },
        )

    def _payload(self, part: Gathered, memory: Memory) -> Point:
        return point_for(part.tenant, memory, text_hash=part.known[memory.id].text_hash)

    @staticmethod
    def _other_words(memory: Memory, row: Embedded) -> bool:
        """Whether successors may have been embedded with other words of this memory."""
        return memory.session_id is not None and not same_text(memory.text_hash, row.text_hash)

    def _row(self, part: Gathered, memory: Memory) -> Embedded:
        said = part.before.get(memory.id, ())
        whole = whole_hash(self._model.name, memory.content, said)
        return Embedded(memory.id, memory.payload_version, whole, relate=memory.text_hash != whole)


def _lags(memory: Memory, job: Job) -> bool:
    """Whether there is anything to do: another job may have brought the memory up already."""
    return bool(job.run) or memory.embedded_version < memory.payload_version


def unit(values: Sequence[float]) -> Vector:
    """A supplied vector at unit length, as the model's own are."""
    vector = np.asarray(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))
