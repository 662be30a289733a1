"""PointWriter: write one generation's points from what the graph holds of a batch.

Each generation is planned for itself: a memory may need both vectors in one of them and only its
payload in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.embedder.batch import Plan, StoredVector, Vector, plan, whole_hash
from shared.domain.memory import Memory
from shared.errors import PermanentError, PoisonInput
from shared.graph.records import Embedding, Text
from shared.halving import in_halves
from shared.vectors import Point, VectorStore, point_for
from shared.vectors.active_model import ActiveModel
from shared.vectors.sparse import sparse_document

# By (tenant, id): a backup may have been restored into a second tenant.
Key = tuple[str, str]
_Fresh = Mapping[tuple[str, str, str], Vector]


@dataclass(frozen=True, slots=True)
class Read:
    """One tenant's part of a batch, as the graph held it before anything was written."""

    tenant: str
    absent: Sequence[str]
    memories: Mapping[str, Memory]
    before: Mapping[str, Sequence[Text]]
    supplied: Mapping[str, Embedding]


@dataclass(frozen=True, slots=True)
class _Part:
    """A Read with what one generation holds of it already."""

    read: Read
    stored: Mapping[str, StoredVector]
    supplied: Mapping[str, Vector]
    plan: Plan


@dataclass(frozen=True, slots=True)
class PointWriter:
    """Writes points; any number of processes may do so, and a batch may be written twice."""

    vectors: VectorStore

    async def fill(self, active: ActiveModel, reads: Sequence[Read]) -> None:
        """Embed all texts in one model call, then make two conditional writes per tenant."""
        parts = [await self._part(active, read) for read in reads]
        texts = {
            (part.read.tenant, *key): text
            for part in parts
            for key, text in part.plan.texts.items()
        }
        vectors = await active.model.embed(list(texts.values())) if texts else ()
        fresh = dict(zip(texts, vectors, strict=True))
        for part in parts:
            await self._write(active, part, fresh)

    async def fill_accepted(
        self, active: ActiveModel, reads: Sequence[Read]
    ) -> dict[Key, Exception]:
        """Fill every memory that the model accepts; returns the others with the error."""

        async def fill(rows: Sequence[tuple[Read, Memory]]) -> Sequence[Exception | None]:
            await self.fill(active, _by_tenant(rows))
            return [None] * len(rows)

        rows = [(read, memory) for read in reads for memory in read.memories.values()]
        refusals = await in_halves(
            fill, rows, split_on=(PermanentError, PoisonInput), failed=lambda error: error
        )
        return {
            (read.tenant, memory.id): refusal
            for (read, memory), refusal in zip(rows, refusals, strict=True)
            if refusal is not None
        }

    async def _part(self, active: ActiveModel, read: Read) -> _Part:
        # A memory that requests new vectors is treated as if none were stored.
        ids = [key for key, memory in read.memories.items() if not memory.embed_anew]
        points = await self.vectors.stored(
            read.tenant, ids, with_dense=True, generation=active.generation
        )
        stored = {
            key: StoredVector(point.text_hash, point.dense)
            for key, point in points.items()
            if point.dense is not None
        }
        name = active.model.name
        # A supplied vector belongs to the model that was live then; other models ignore it.
        supplied = {
            key: unit(given.vector) for key, given in read.supplied.items() if given.model == name
        }
        planned = plan(name, read.memories, read.before, stored, supplied)
        return _Part(read, stored, supplied, planned)

    async def _write(self, active: ActiveModel, part: _Part, fresh: _Fresh) -> None:
        tenant = part.read.tenant
        points = [_point(active, part, memory, fresh) for memory in part.plan.points]
        payloads = [
            point_for(tenant, memory, text_hash=part.stored[memory.id].text_hash)
            for memory in part.plan.payloads
        ]
        await self.vectors.upsert(tenant, points, generation=active.generation)
        await self.vectors.write_payload(tenant, payloads, generation=active.generation)


def _point(active: ActiveModel, part: _Part, memory: Memory, fresh: _Fresh) -> Point:
    tenant, key, before = part.read.tenant, memory.id, part.read.before.get(memory.id, ())
    own = part.supplied.get(key, fresh.get((tenant, key, "dense")))
    own = part.stored[key].dense if own is None else own
    return point_for(
        tenant,
        memory,
        text_hash=whole_hash(active.model.name, memory.content, before),
        vectors={
            "dense": own,
            "context": fresh.get((tenant, key, "context"), own),
            "bm25": sparse_document(memory.content, before=[row.content for row in before]),
        },
    )


def _by_tenant(rows: Sequence[tuple[Read, Memory]]) -> list[Read]:
    found: dict[str, tuple[Read, dict[str, Memory]]] = {}
    for read, memory in rows:
        found.setdefault(read.tenant, (read, {}))[1][memory.id] = memory
    return [replace(read, memories=memories) for read, memories in found.values()]


def keys(reads: Sequence[Read]) -> list[Key]:
    return [(read.tenant, key) for read in reads for key in read.memories]


def unit(values: Sequence[float]) -> Vector:
    """Return a supplied vector at unit length, as the vectors of a model are."""
    vector = np.asarray(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))
