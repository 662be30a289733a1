"""Draft: one recall while its steps run, and at the end what the answer reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.api.recall.rank import Candidate, Question, Scored, Scorer
from services.api.recall.request import RecallRequest
from services.api.recall.state import Suppressed
from shared.config import RecallSettings
from shared.domain.memory import Memory
from shared.domain.scope import is_visible
from shared.graph.recall.candidates import KnownEntity, StoredCandidate
from shared.graph.records import Hydrated


@dataclass(slots=True)
class Draft:
    """What the steps of one recall have found so far.

    `stored` holds every memory that was read, with what supersedes it. `rows` are ranked; after
    the expansion they are the `seeds` first, then what relations and entities led to.
    """

    tenant: str
    request: RecallRequest
    settings: RecallSettings
    question: Question = field(default_factory=Question)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    entities: Sequence[KnownEntity] = ()
    degraded: bool = False
    stored: dict[str, StoredCandidate] = field(default_factory=dict)
    rows: list[Scored] = field(default_factory=list)
    hydrated: Mapping[str, Hydrated] = field(default_factory=dict)
    # What the answer reports beside the rows.
    suppressed: dict[str, Suppressed] = field(default_factory=dict)
    filtered_ids: set[str] = field(default_factory=set)
    duplicates: int = 0
    seeds: int = 0
    related: int = 0
    entity_rows: int = 0
    entity_names: Sequence[str] = ()
    biased: bool = False
    fell_back: bool = False
    injected: bool = False

    @property
    def scorer(self) -> Scorer:
        return Scorer(self.question, self.settings, self.request.at_ms)

    def is_answerable(self, memory: Memory) -> bool:
        return is_visible(memory, self.request.scope)
