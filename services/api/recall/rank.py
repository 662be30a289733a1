"""Ranking: pure functions from candidates and their memories to an ordered list of a Draft.

The score is a weighted sum, as in AutoMem. Each of its parts is reported, so that a caller sees
why a memory has its rank. Channels are fused by value; fusing them by rank was measured to be
worse (docs/benchmarks.md has the ablation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.api.memory.metadata import is_exact, match_score
from services.api.recall.profile import Profile
from services.api.recall.request import RecallRequest
from services.api.recall.times import Period
from shared.config import RecallSettings
from shared.domain.memory import Memory, tag_keys
from shared.domain.scope import is_visible
from shared.graph.recall.candidates import StoredCandidate
from shared.graph.records import Hydrated
from shared.vectors import Hit

# The text channels' shares of the fused score. They were the best on two conversations, where
# nearby values did as well.
CONTENT_SHARE = 0.5
CONTEXT_SHARE = 0.5
WORDS_SHARE = 0.4
# Added to the sum as fractions of the vector's weight.
SPEAKER_SHARE = 0.25
ASKS_SHARE = -0.05
PERIOD_SHARE = 0.1
ENTITY_SHARE = 0.05
_DAY_MS = 86_400_000
_TEXT_MATCHES = ("vector", "keyword")
# The components with a weight of their own, in the order in which they are added up.
_WEIGHTED = (
    *("vector", "keyword", "metadata", "relation", "tag", "importance", "confidence"),
    *("recency", "exact", "relevance"),
)
_GATED = frozenset({"importance", "confidence", "recency", "tag", "relevance"})


@dataclass(frozen=True, slots=True)
class Channels:
    """The hits of one query text, best first; without a vector only those by its words."""

    text: str
    words: Sequence[Hit]
    dense: Sequence[Hit] = ()
    context: Sequence[Hit] = ()

    @property
    def longest(self) -> int:
        return max(len(self.words), len(self.dense), len(self.context))


@dataclass(frozen=True, slots=True)
class Candidate:
    """How well one memory matches: two cosines, and BM25 relative to the query's best hit."""

    id: str
    dense: float = 0.0
    context: float = 0.0
    words: float = 0.0
    match_type: str = "keyword"
    source: str = "graph"
    query: str = ""

    @property
    def text_score(self) -> float:
        return self.vector + WORDS_SHARE * self.words

    @property
    def vector(self) -> float:
        return max(0.0, CONTENT_SHARE * self.dense + CONTEXT_SHARE * self.context)


@dataclass(frozen=True, slots=True)
class Question:
    """The query as scoring reads it: its texts, `text` as all of them joined, and its words."""

    text: str = ""
    texts: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    terms: frozenset[str] = frozenset()
    speakers: Mapping[str, float] = field(default_factory=dict)
    period: Period | None = None
    entity_ids: frozenset[str] = frozenset()
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One result: its memory, its score, that score's components (unrounded), and notes on it."""

    memory: Memory
    candidate: Candidate
    final: float
    components: Mapping[str, float]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.memory.id

    def with_note(self, **notes: object) -> Scored:
        return replace(self, notes={**self.notes, **notes})

    def with_score(self, component: str, by: float, reported: float | None = None) -> Scored:
        """Add `by` to the score, and `reported` (if None, `by`) to the reported component."""
        value = self.components.get(component, 0.0) + (by if reported is None else reported)
        return replace(
            self, final=self.final + by, components={**self.components, component: value}
        )


def fuse(channels: Channels) -> dict[str, Candidate]:
    """Return one candidate per id, with the channel's lowest cosine where it is no hit."""
    dense, context, words = dict(channels.dense), dict(channels.context), dict(channels.words)
    best = max(words.values(), default=0.0) or 1.0
    low_dense, low_context = min(dense.values(), default=0.0), min(context.values(), default=0.0)
    found: dict[str, Candidate] = {}
    for key in dict.fromkeys((*dense, *context, *words)):
        by_vector = key in dense or key in context
        found[key] = Candidate(
            id=key,
            dense=dense.get(key, low_dense),
            context=context.get(key, low_context),
            words=words.get(key, 0.0) / best,
            match_type="vector" if by_vector else "keyword",
            source="qdrant" if by_vector else "graph",
            query=channels.text,
        )
    return found


def merged(per_text: Iterable[Mapping[str, Candidate]]) -> dict[str, Candidate]:
    """Return each id's best match; of equal ones, the match of the earlier text."""
    found: dict[str, Candidate] = {}
    for candidates in per_text:
        for key, candidate in candidates.items():
            known = found.get(key)
            if known is None or candidate.text_score > known.text_score:
                found[key] = candidate
    return found


def shortlist(candidates: Mapping[str, Candidate], size: int) -> dict[str, Candidate]:
    """Return the `size` best by text, and every candidate that metadata or entities found."""
    ranked = sorted(candidates.values(), key=lambda each: (-each.text_score, each.id))
    rest = (each for each in ranked[size:] if each.match_type not in _TEXT_MATCHES)
    return {each.id: each for each in (*ranked[:size], *rest)}


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores memories for one question at one time."""

    question: Question
    weights: RecallSettings
    at_ms: int

    def score(self, memory: Memory, candidate: Candidate) -> Scored:
        """Return the memory with its final score and the components of that score."""
        question, weights = self.question, self.weights
        shares_terms = not question.terms.isdisjoint(memory.meta_terms)
        components = {
            "vector": candidate.vector,
            "keyword": WORDS_SHARE * candidate.words,
            "metadata": match_score(question.text, memory.metadata) if shares_terms else 0.0,
            "relation": 0.0,
            "tag": _tag_share(memory, question.tokens, weights.tag_score_token_cap),
            "importance": memory.importance,
            "confidence": memory.confidence,
            "recency": recency(memory.timestamp, self.at_ms, weights),
            "exact": float(bool(memory.meta_terms) and is_exact(question.text, memory.metadata)),
            "relevance": memory.relevance_score or 0.0,
            "context": question.profile.fit(memory) if question.profile else 0.0,
            "dialogue": weights.weight_vector * self._dialogue(memory),
        }
        evidence = max(components[name] for name in ("vector", "keyword", "metadata", "exact"))
        gated = _gate(components, evidence, weights.relevance_gate)
        reported = {
            **gated,
            "evidence": evidence,
            "relevance_gated": float(gated is not components),
        }
        by_text = max(components["vector"], components["keyword"])
        if components["metadata"] > by_text and candidate.match_type in _TEXT_MATCHES:
            candidate = replace(candidate, match_type="metadata")
        return Scored(memory, candidate, total(gated, weights), reported)

    def _dialogue(self, memory: Memory) -> float:
        """Return the bonus for a named speaker, period or entity; a question mark costs a little.

        Questions seldom answer a question. An entity's tag is its node's id.
        """
        question = self.question
        if not question.text:
            return 0.0
        value = ASKS_SHARE * ("?" in memory.content)
        if memory.speaker:
            value += SPEAKER_SHARE * question.speakers.get(memory.speaker, 0.0)
        if question.period and question.period.includes(memory.timestamp):
            value += PERIOD_SHARE
        if question.entity_ids and not question.entity_ids.isdisjoint(memory.entity_tags):
            value += ENTITY_SHARE
        return value


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A memory that current mode hides, why, and by which relation to what."""

    id: str
    reason: str
    replacement_id: str | None = None
    relation_type: str | None = None


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
    entities: Sequence[Mapping[str, Any]] = ()
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


def total(components: Mapping[str, float], weights: RecallSettings) -> float:
    """Return the weighted sum; `context` and `dialogue` are weighted already."""
    value = 0.0
    for name in _WEIGHTED:
        value += getattr(weights, f"weight_{name}") * components[name]
    return value + components["context"] + components["dialogue"]


def _gate(components: Mapping[str, float], evidence: float, gate: float) -> Mapping[str, float]:
    """Reduce importance, age and the like where little in the text or metadata matches."""
    if gate <= 0 or evidence >= gate:
        return components
    share = evidence / gate
    return {name: value * share if name in _GATED else value for name, value in components.items()}


def recency(timestamp: int, at_ms: int, weights: RecallSettings) -> float:
    age_days = max(0.0, (at_ms - timestamp) / _DAY_MS)
    if weights.recency_curve == "exponential":
        return float(0.5 ** (age_days / weights.recency_window_days))
    return max(0.0, 1.0 - age_days / weights.recency_window_days)


def _tag_share(memory: Memory, terms: Sequence[str], cap: int) -> float:
    if not terms:
        return 0.0
    keys = set(tag_keys(memory.all_tags))
    hits = sum(term in keys for term in terms)
    return min(1.0, hits / (min(len(terms), cap) if cap else len(terms)))


def ordered(rows: Iterable[Scored], sort: str) -> list[Scored]:
    """Sort by score or time; the order is total: importance, time, then id decide ties."""
    if sort == "score":
        return sorted(
            rows,
            key=lambda row: (-row.final, -row.memory.importance, -row.memory.timestamp, row.id),
        )

    def moment(row: Scored) -> tuple[int, str]:
        # time_* and updated_* share one key, as in AutoMem: updated_at, else timestamp.
        at = row.memory.updated_at or row.memory.timestamp or row.memory.last_accessed
        return -at if sort.endswith("desc") else at, row.id

    return sorted(rows, key=moment)
