"""Memories and rows as the ranking sees them, with only what a test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st
from multidict import MultiDict

from services.api.http.parameters import Query
from services.api.recall.rank import Candidate, Draft, Question, Scored, Scorer
from services.api.recall.request import parse_recall
from shared.config import RecallSettings, Settings
from shared.domain.memory import Memory
from shared.graph.recall.candidates import StoredCandidate, Successor

NOW = 1_790_000_000_000
DAY = 86_400_000
WEIGHTS = RecallSettings()


class Values(MultiDict[str]):
    """A query string as aiohttp gives it."""

    def __init__(self, values: Mapping[str, Iterable[str]]) -> None:
        super().__init__((name, value) for name, given in values.items() for value in given)


def memory(memory_id: str = "a", content: str = "Text", **fields: Any) -> Memory:
    given = {"version": 1, "payload_version": 1, "timestamp": NOW - DAY, **fields}
    return Memory(id=memory_id, content=content, **given)


def row(memory_id: str = "a", final: float = 0.5, content: str = "", **fields: Any) -> Scored:
    held = memory(memory_id, content or f"Text of {memory_id}", **fields)
    return Scored(held, Candidate(memory_id), final, {"relation": 0.0})


def draft(**query: str) -> Draft:
    """What was found for a query: nothing yet."""
    values = Values({name: [value] for name, value in query.items()})
    request = parse_recall(Query(values, Settings()), now_ms=NOW)
    return Draft("default", request, WEIGHTS)


def scored(held: Memory, question: Question | None = None, **candidate: Any) -> Scored:
    found = Candidate(held.id, **candidate)
    return Scorer(question or Question(), WEIGHTS, NOW).score(held, found)


def known(memory_id: str, successor_id: str | None = None, **fields: Any) -> StoredCandidate:
    successor = Successor(successor_id, "EVOLVED_INTO", 0.5) if successor_id else None
    return StoredCandidate(memory(memory_id, **fields), successor)


SCORES = st.floats(0, 2, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def rows(draw: st.DrawFn, most: int = 12) -> list[Scored]:
    """Rows of distinct memories, some alike in all but their id."""
    ids = draw(st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=most))
    return [
        row(
            each,
            draw(SCORES),
            draw(st.sampled_from(["Same words", "same  WORDS!", "Other words"])),
            timestamp=draw(st.integers(0, 3)) * DAY,
            importance=draw(st.sampled_from([0.1, 0.5])),
            tags=draw(st.sampled_from([(), ("a",), ("A",), ("b",)])),
            session_id=draw(st.sampled_from([None, "s1"])),
        )
        for each in ids
    ]
