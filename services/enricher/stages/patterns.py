"""Which memories show a pattern of their type: enough others of it, and the words they share.

One read for a whole batch of one tenant, and one write.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.enricher.entities.words import FOREIGN_STOPWORDS, STOPWORDS
from shared.domain.memory import TYPES, Memory
from shared.graph.stages.patterns import SAMPLES, Exemplified, Sample
from shared.graph.store import GraphStore

_LEAST_OTHERS = 3
_KEY_TERMS = 5
_WORD = re.compile(r"\b[^\W\d_]{4,40}\b")
_TOLD_NOTHING = STOPWORDS | FOREIGN_STOPWORDS
# As much of each text as the samples have.
_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Detected:
    """The pattern that one memory shows."""

    type: str
    similar_memories: int
    key_terms: tuple[str, ...]

    def block(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "similar_memories": self.similar_memories,
            "key_terms": list(self.key_terms),
        }


async def detect(
    graph: GraphStore, tenant: str, memories: Sequence[Memory]
) -> Mapping[str, Detected]:
    """The pattern of each memory that shows one, linked to it already; by memory id."""
    by_type: dict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        if memory.type in TYPES:
            by_type[memory.type].append(memory)
    samples = await graph.patterns.samples(tenant, by_type)
    found: dict[str, Detected] = {}
    for kind, mine in by_type.items():
        found.update(_of_type(kind, mine, samples[kind]))
    await graph.patterns.exemplify(tenant, _rows(found, memories))
    return found


def key_terms(texts: Iterable[str]) -> tuple[str, ...]:
    """The most common words of four letters and more, stop words apart; equals by name."""
    counts = Counter(
        word for text in texts for word in _WORD.findall(text.lower()) if word not in _TOLD_NOTHING
    )
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return tuple(word for word, _ in ranked[:_KEY_TERMS])


def _of_type(
    kind: str, memories: Sequence[Memory], samples: Sequence[Sample]
) -> dict[str, Detected]:
    others = {memory.id: sum(sample.id != memory.id for sample in samples) for memory in memories}
    if not any(count >= _LEAST_OTHERS for count in others.values()):
        return {}
    texts = {sample.id: sample.text for sample in samples}
    texts |= {memory.id: memory.content[:_CHARS] for memory in memories}
    terms = key_terms(texts.values())
    return {
        memory_id: Detected(kind, min(count, SAMPLES - 1), terms)
        for memory_id, count in others.items()
        if count >= _LEAST_OTHERS
    }


def _rows(found: Mapping[str, Detected], memories: Iterable[Memory]) -> list[Exemplified]:
    members: dict[tuple[str, tuple[str, ...]], list[tuple[str, int]]] = defaultdict(list)
    for memory in memories:
        if shown := found.get(memory.id):
            members[shown.type, shown.key_terms].append((memory.id, memory.version))
    return [Exemplified(kind, terms, tuple(each)) for (kind, terms), each in members.items()]
