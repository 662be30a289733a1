"""Write one generation's points from what the graph holds of a batch.

A memory is embedded with what was said just before it in its session: the vector `context`
is of both texts, and the sparse vector holds the words of the two memories before it at half and
quarter weight (docs/benchmarks.md has the ablation). `text_hash` has two halves, of the text and
of its context: while the first is equal the memory's own vector is kept, and while both are equal
no model is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.domain.memory import HASH_HALF, Memory, same_text, text_hash
from shared.errors import PermanentError, PoisonInput
from shared.graph.records import Embedding, Text
from shared.halving import in_halves
from shared.vectors import Point, StoredPoint, VectorStore, point_for
from shared.vectors.active_model import ActiveModel
from shared.vectors.points import Vector
from shared.vectors.sparse import SparseVector, sparse_document

# By (tenant, id): a backup may have been restored into a second tenant.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Read:
    """One tenant's part of a batch, as the graph held it before anything was written."""

    tenant: str
    absent: Sequence[str]
    memories: Mapping[str, Memory]
    before: Mapping[str, Sequence[Text]]
    supplied: Mapping[str, Embedding]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one generation needs of a memory.

    `texts` go to the model, by the vector's name; `own` is the memory's own vector where it is
    known. Unless `renewed` the point keeps its vectors, and only its payload is written.
    """

    memory: Memory
    before: Sequence[Text]
    text_hash: str
    own: Vector | None
    texts: Mapping[str, str]
    renewed: bool

    def point(self, tenant: str, fresh: Mapping[tuple[str, str, str], Vector]) -> Point:
        if not self.renewed:
            return point_for(tenant, self.memory, text_hash=self.text_hash)
        own = fresh[tenant, self.memory.id, "dense"] if self.own is None else self.own
        before = [row.content for row in self.before]
        vectors: dict[str, Vector | SparseVector] = {
            "dense": own,
            "context": fresh.get((tenant, self.memory.id, "context"), own),
            "bm25": sparse_document(self.memory.content, before=before),
        }
        return point_for(tenant, self.memory, text_hash=self.text_hash, vectors=vectors)


async def fill(vectors: VectorStore, active: ActiveModel, reads: Sequence[Read]) -> None:
    """Embed all texts in one model call, then make two conditional writes per tenant.

    Any number of processes may do so, and a batch may be written twice.
    """
    plans = {read.tenant: await _plans(vectors, active, read) for read in reads}
    texts = {
        (tenant, plan.memory.id, name): text
        for tenant, its_plans in plans.items()
        for plan in its_plans
        for name, text in plan.texts.items()
    }
    embedded = await active.model.embed(list(texts.values())) if texts else ()
    fresh = dict(zip(texts, embedded, strict=True))
    for tenant, its_plans in plans.items():
        points = [plan.point(tenant, fresh) for plan in its_plans if plan.renewed]
        payloads = [plan.point(tenant, fresh) for plan in its_plans if not plan.renewed]
        await vectors.upsert(tenant, points, generation=active.generation)
        await vectors.write_payload(tenant, payloads, generation=active.generation)


async def fill_accepted(
    vectors: VectorStore, active: ActiveModel, reads: Sequence[Read]
) -> dict[Key, Exception]:
    """Fill every memory that the model accepts; return the others with the error."""

    async def fill_some(some: Sequence[Key]) -> Sequence[Exception | None]:
        chosen = set(some)
        parts = [
            replace(
                read,
                memories={k: m for k, m in read.memories.items() if (read.tenant, k) in chosen},
            )
            for read in reads
        ]
        await fill(vectors, active, [part for part in parts if part.memories])
        return [None] * len(some)

    keys = [(read.tenant, key) for read in reads for key in read.memories]
    refusals = await in_halves(
        fill_some, keys, split_on=(PermanentError, PoisonInput), failed=lambda error: error
    )
    return {key: error for key, error in zip(keys, refusals, strict=True) if error is not None}


async def _plans(vectors: VectorStore, active: ActiveModel, read: Read) -> list[_Plan]:
    # A memory that requests new vectors is treated as if none were stored.
    ids = [key for key, memory in read.memories.items() if not memory.embed_anew]
    stored = await vectors.stored(read.tenant, ids, with_dense=True, generation=active.generation)
    return [
        _plan(
            active.model.name,
            memory,
            read.before.get(key, ()),
            stored.get(key),
            read.supplied.get(key),
        )
        for key, memory in read.memories.items()
    ]


def _plan(
    model: str,
    memory: Memory,
    before: Sequence[Text],
    stored: StoredPoint | None,
    supplied: Embedding | None,
) -> _Plan:
    whole = whole_hash(model, memory.content, before)
    stored_hash = stored.text_hash if stored and stored.dense is not None else ""
    own = stored.dense if stored and same_text(stored_hash, whole) else None
    renewed = stored_hash != whole
    # A supplied vector belongs to the model that was live then; other models ignore it. It is
    # stored at unit length, as the vectors of a model are.
    if supplied and supplied.model == model:
        given = np.asarray(supplied.vector, np.float32)
        renewed, own = True, given / np.float32(np.linalg.norm(given))
    texts = {}
    if own is None:
        texts["dense"] = memory.content
    if before and renewed:
        texts["context"] = f"{before[0].content}\n{memory.content}"
    return _Plan(memory, before, whole, own, texts, renewed)


def whole_hash(model: str, content: str, before: Sequence[Text]) -> str:
    context = "\0".join(memory.content for memory in before)
    return text_hash(model, content)[:HASH_HALF] + text_hash(model, context)[:HASH_HALF]
