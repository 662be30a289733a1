"""What a batch of memories needs, decided before anything is written; pure.

A memory is embedded with what was said just before it in its session: the vector `context`
is its own plus half its predecessor's, the sparse vector sees the words of the two before
it at half and quarter weight (docs/benchmarks.md has the ablation). `text_hash` has two
halves, the text's identity and its context's: while the first is equal the stored vector
still holds, and no model is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.graph.dialogue import Before
from shared.lexical import SparseVector, sparse_document
from shared.memory import Memory, text_hash

CONTEXT_SHARE = 0.5
_HALF = 16
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Known:
    """A stored point's identity and own vector."""

    text_hash: str
    dense: Vector


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` (id → content) go to the model; `points` get vectors, `payloads` do not."""

    texts: dict[str, str]
    points: list[Memory]
    payloads: list[Memory]


def own_half(model: str, content: str) -> str:
    return text_hash(model, content)[:_HALF]


def whole_hash(model: str, content: str, before: Sequence[Before]) -> str:
    context = "\0".join(each.content for each in before)
    return own_half(model, content) + text_hash(model, context)[:_HALF]


def same_text(one: str | None, other: str) -> bool:
    """Whether two hashes are of the same text, whatever was said before it."""
    return (one or "")[:_HALF] == other[:_HALF]


def plan(
    model: str,
    memories: Mapping[str, Memory],
    before: Mapping[str, Sequence[Before]],
    known: Mapping[str, Known],
) -> Plan:
    """Sort the batch by what has to be done; each text goes to the model at most once."""
    texts: dict[str, str] = {}
    points, payloads = [], []
    for key, memory in memories.items():
        said = before.get(key, ())
        stored = known.get(key)
        if stored and stored.text_hash == whole_hash(model, memory.content, said):
            payloads.append(memory)
            continue
        points.append(memory)
        needed = [(key, memory.content), *((each.id, each.content) for each in said[:1])]
        texts |= {
            each: content for each, content in needed if not _holds(known.get(each), model, content)
        }
    return Plan(texts, points, payloads)


def _holds(stored: Known | None, model: str, content: str) -> bool:
    return stored is not None and stored.text_hash.startswith(own_half(model, content))


def in_context(own: Vector, previous: Vector | None) -> Vector:
    """`own` shifted towards its predecessor, of unit length; without one `own` itself."""
    if previous is None:
        return own
    mixed = own + CONTEXT_SHARE * previous
    length = float(np.linalg.norm(mixed))
    return own if length == 0 else (mixed / length).astype(np.float32)


def words_in_context(memory: Memory, before: Sequence[Before]) -> SparseVector:
    return sparse_document(memory.content, before=[each.content for each in before])
