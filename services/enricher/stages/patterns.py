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
    rows = []
    for kind, its_memories in by_type.items():
        others = {m.id: sum(sample.id != m.id for sample in samples[kind]) for m in its_memories}
        showing = [memory for memory in its_memories if others[memory.id] >= _LEAST_OTHERS]
        if showing:
            texts = dict(samples[kind])
            texts |= {memory.id: memory.content[:_CHARS] for memory in its_memories}
            terms = key_terms(texts.values())
            rows.append(Exemplified(kind, terms, tuple((m.id, m.version) for m in showing)))
            found |= {m.id: Detected(kind, min(others[m.id], SAMPLES - 1), terms) for m in showing}
    await graph.patterns.exemplify(tenant, rows)
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
