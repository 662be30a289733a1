"""Find the pattern that a memory shows: enough others have its type, and share common words.

One read and one write of the graph serve a whole batch of one tenant.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.enricher.entities.words import FOREIGN_STOPWORDS, STOPWORDS
from shared.domain.memory import TYPES, Memory
from shared.graph.records import Text
from shared.graph.stages.patterns import SAMPLES, Exemplified
from shared.graph.store import GraphStore

_LEAST_OTHERS = 3
_KEY_TERMS = 5
_WORD = re.compile(r"\b[^\W\d_]{4,40}\b")
_STOP_WORDS = STOPWORDS | FOREIGN_STOPWORDS
# The samples' texts are cut at the same length.
_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Detected:
    """The pattern that one memory shows."""

    type: str
    similar_memories: int
    key_terms: tuple[str, ...]

    def block(self) -> dict[str, Any]:
        return {**asdict(self), "key_terms": list(self.key_terms)}


async def detect(
    graph: GraphStore, tenant: str, memories: Sequence[Memory]
) -> Mapping[str, Detected]:
    """Link each memory that shows a pattern to it, and return these patterns by memory id."""
    by_type: dict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        if memory.type in TYPES:
            by_type[memory.type].append(memory)
    samples = await graph.patterns.samples(tenant, by_type)
    found: dict[str, Detected] = {}
    for kind, its_memories in by_type.items():
        found.update(_of_type(kind, its_memories, samples[kind]))
    await graph.patterns.exemplify(tenant, _rows(found, memories))
    return found


def key_terms(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the most common words of four letters or more, without stop words.

    Words that occur equally often are in alphabetical order.
    """
    counts = Counter(
        word for text in texts for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS
    )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, _ in ranked[:_KEY_TERMS])


def _of_type(kind: str, memories: Sequence[Memory], samples: Sequence[Text]) -> dict[str, Detected]:
    others = {memory.id: sum(sample.id != memory.id for sample in samples) for memory in memories}
    if not any(count >= _LEAST_OTHERS for count in others.values()):
        return {}
    texts = dict(samples)
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
        if pattern := found.get(memory.id):
            members[pattern.type, pattern.key_terms].append((memory.id, memory.version))
    return [Exemplified(kind, terms, tuple(ids)) for (kind, terms), ids in members.items()]
