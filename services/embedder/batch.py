"""What a batch of memories needs, decided before anything is written; pure.

A memory is embedded with what was said just before it in its session: the vector `context`
is of both texts, the sparse vector sees the words of the two before it at half and quarter
weight (docs/benchmarks.md has the ablation). `text_hash` has two halves, the text's identity
and its context's: while the first is equal the memory's own vector still holds, and while
both are, no model is called at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.domain.memory import HASH_HALF, Memory, same_text, text_hash
from shared.graph.memory.dialogue import Before
from shared.vectors.sparse import SparseVector, sparse_document

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Known:
    """A stored point's identity and the memory's own vector."""

    text_hash: str
    dense: Vector


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` go to the model; `points` get vectors, `payloads` keep theirs."""

    texts: dict[tuple[str, str], str]
    points: list[Memory]
    payloads: list[Memory]


def whole_hash(model: str, content: str, before: Sequence[Before]) -> str:
    context = "\0".join(each.content for each in before)
    return text_hash(model, content)[:HASH_HALF] + text_hash(model, context)[:HASH_HALF]


def in_context(memory: Memory, before: Sequence[Before]) -> str:
    """The text of the `context` vector: what was said, after what was said before it."""
    return f"{before[0].content}\n{memory.content}"


def plan(
    model: str,
    memories: Mapping[str, Memory],
    before: Mapping[str, Sequence[Before]],
    known: Mapping[str, Known],
    supplied: Mapping[str, Vector],
) -> Plan:
    """Sort the batch by what has to be done. Texts are keyed (id, "dense" or "context")."""
    texts: dict[tuple[str, str], str] = {}
    points, payloads = [], []
    for key, memory in memories.items():
        said = before.get(key, ())
        whole = whole_hash(model, memory.content, said)
        stored = known.get(key)
        if stored and stored.text_hash == whole and key not in supplied:
            payloads.append(memory)
            continue
        points.append(memory)
        if key not in supplied and not (stored and same_text(stored.text_hash, whole)):
            texts[key, "dense"] = memory.content
        if said:
            texts[key, "context"] = in_context(memory, said)
    return Plan(texts, points, payloads)


def words_in_context(memory: Memory, before: Sequence[Before]) -> SparseVector:
    return sparse_document(memory.content, before=[each.content for each in before])
