"""Filler: brings one generation's points up to what the graph said of a batch.

What a generation holds already is its own affair: the same memory may need both vectors in
one and nothing but its payload in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from services.embedder.batch import Known, Plan, Vector, plan, whole_hash, words_in_context
from shared.domain.memory import Memory
from shared.errors import PermanentError, PoisonInput
from shared.graph.memory.dialogue import Before
from shared.graph.records import Embedding
from shared.vectors import Point, VectorStore, point_for
from shared.vectors.active_model import ActiveModel

# By (tenant, id): a backup may have been restored into a second tenant.
Key = tuple[str, str]
Refusal: TypeAlias = PermanentError | PoisonInput
_Fresh = Mapping[tuple[str, str, str], Vector]


@dataclass(frozen=True, slots=True)
class Read:
    """One tenant's part of a batch, as the graph had it before anything was written."""

    tenant: str
    absent: Sequence[str]
    memories: Mapping[str, Memory]
    before: Mapping[str, Sequence[Before]]
    supplied: Mapping[str, Embedding]


@dataclass(frozen=True, slots=True)
class _Part:
    """A Read with what one generation knows of it."""

    read: Read
    known: Mapping[str, Known]
    supplied: Mapping[str, Vector]
    plan: Plan


class PointWriter:
    """Writes points; safe to run in any number of processes, and twice."""

    def __init__(self, vectors: VectorStore) -> None:
        self._vectors = vectors

    async def fill(self, served: ActiveModel, reads: Sequence[Read]) -> None:
        """One model call for all of it, then two writes per tenant; conditional ones."""
        parts = [await self._part(served, read) for read in reads]
        texts = {
            (part.read.tenant, *key): text
            for part in parts
            for key, text in part.plan.texts.items()
        }
        fresh: _Fresh = {}
        if texts:
            vectors = await served.model.embed(list(texts.values()))
            fresh = dict(zip(texts, vectors, strict=True))
        for part in parts:
            await self._write(served, part, fresh)

    async def fill_what_it_takes(
        self, served: ActiveModel, reads: Sequence[Read]
    ) -> dict[Key, Refusal]:
        """Fill all that the model does not refuse or fail at; those with the reason."""
        try:
            await self.fill(served, reads)
        except (PermanentError, PoisonInput) as error:
            halves = _halves(reads)
            if halves is None:
                return dict.fromkeys(keys(reads), error)
            refused = [await self.fill_what_it_takes(served, half) for half in halves]
            return refused[0] | refused[1]
        return {}

    async def _part(self, served: ActiveModel, read: Read) -> _Part:
        # A memory that asks for new vectors is treated as if there were none.
        ids = [key for key, memory in read.memories.items() if not memory.embed_anew]
        stored = await self._vectors.stored(
            read.tenant, ids, with_dense=True, generation=served.generation
        )
        known = {
            key: Known(each.text_hash, each.dense)
            for key, each in stored.items()
            if each.dense is not None
        }
        name = served.model.name
        # Clients supply vectors for the model that serves them; another ignores them.
        supplied = {
            key: unit(each.vector) for key, each in read.supplied.items() if each.model == name
        }
        planned = plan(name, read.memories, read.before, known, supplied)
        return _Part(read, known, supplied, planned)

    async def _write(self, served: ActiveModel, part: _Part, fresh: _Fresh) -> None:
        tenant = part.read.tenant
        points = [_point(served, part, memory, fresh) for memory in part.plan.points]
        payloads = [
            point_for(tenant, memory, text_hash=part.known[memory.id].text_hash)
            for memory in part.plan.payloads
        ]
        await self._vectors.upsert(tenant, points, generation=served.generation)
        await self._vectors.write_payload(tenant, payloads, generation=served.generation)


def _point(served: ActiveModel, part: _Part, memory: Memory, fresh: _Fresh) -> Point:
    tenant, key, said = part.read.tenant, memory.id, part.read.before.get(memory.id, ())
    own = part.supplied.get(key, fresh.get((tenant, key, "dense")))
    own = part.known[key].dense if own is None else own
    return point_for(
        tenant,
        memory,
        text_hash=whole_hash(served.model.name, memory.content, said),
        vectors={
            "dense": own,
            "context": fresh.get((tenant, key, "context"), own),
            "bm25": words_in_context(memory, said),
        },
    )


def _halves(reads: Sequence[Read]) -> tuple[Sequence[Read], Sequence[Read]] | None:
    """The batch as two; None where it is a single memory."""
    rows = [(read, memory) for read in reads for memory in read.memories.values()]
    if len(rows) < 2:
        return None
    middle = len(rows) // 2
    return _grouped(rows[:middle]), _grouped(rows[middle:])


def _grouped(rows: Sequence[tuple[Read, Memory]]) -> list[Read]:
    by_tenant: dict[str, tuple[Read, dict[str, Memory]]] = {}
    for read, memory in rows:
        by_tenant.setdefault(read.tenant, (read, {}))[1][memory.id] = memory
    return [replace(read, memories=mine) for read, mine in by_tenant.values()]


def keys(reads: Sequence[Read]) -> list[Key]:
    return [(read.tenant, key) for read in reads for key in read.memories]


def unit(values: Sequence[float]) -> Vector:
    """A supplied vector at unit length, as the model's own are."""
    vector = np.asarray(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))
