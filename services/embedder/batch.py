"""Decide what a batch of memories needs before anything is written; no store is called.

A memory is embedded with what was said just before it in its session: the vector `context`
is of both texts, and the sparse vector holds the words of the two memories before it at half and
quarter weight (docs/benchmarks.md has the ablation). `text_hash` has two halves, of the text and
of its context: while the first is equal the memory's own vector is kept, and while both are equal
no model is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.domain.memory import HASH_HALF, Memory, same_text, text_hash
from shared.graph.records import Text

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredVector:
    """The text_hash of a stored point, and the memory's own vector."""

    text_hash: str
    dense: Vector


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` go to the model; `points` get vectors; `payloads` keep the vectors they have."""

    texts: dict[tuple[str, str], str]
    points: list[Memory]
    payloads: list[Memory]


def whole_hash(model: str, content: str, before: Sequence[Text]) -> str:
    context = "\0".join(memory.content for memory in before)
    return text_hash(model, content)[:HASH_HALF] + text_hash(model, context)[:HASH_HALF]


def plan(
    model: str,
    memories: Mapping[str, Memory],
    before: Mapping[str, Sequence[Text]],
    stored: Mapping[str, StoredVector],
    supplied: Mapping[str, Vector],
) -> Plan:
    """Sort the batch by what has to be done. Texts are keyed (id, "dense" or "context").

    The text of the `context` vector is the memory after what was said just before it.
    """
    texts: dict[tuple[str, str], str] = {}
    points, payloads = [], []
    for key, memory in memories.items():
        previous = before.get(key, ())
        whole = whole_hash(model, memory.content, previous)
        point = stored.get(key)
        if point and point.text_hash == whole and key not in supplied:
            payloads.append(memory)
            continue
        points.append(memory)
        if key not in supplied and not (point and same_text(point.text_hash, whole)):
            texts[key, "dense"] = memory.content
        if previous:
            texts[key, "context"] = f"{previous[0].content}\n{memory.content}"
    return Plan(texts, points, payloads)
