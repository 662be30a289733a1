"""Ranking: pure functions from candidates and their memories to an ordered list.

Nothing here needs a store. The score is a weighted sum (spec 3.6.4), every part of which is
reported, so that a caller sees why a memory stands where it stands. Channels are fused by
value: fusing by rank was measured to be worse (docs/benchmarks.md has the ablation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.api.memory.metadata import is_exact, match_score
from services.api.recall.dates import Period
from services.api.recall.profile import Profile
from shared.config import RecallSettings
from shared.domain.memory import Memory, tag_keys
from shared.vectors import Hit

# How the text channels share the fused score; flat optima on two conversations.
CONTENT_SHARE = 0.5
CONTEXT_SHARE = 0.5
WORDS_SHARE = 0.4
# Added to the sum as fractions of the vector's weight.
SPEAKER_SHARE = 0.25
ASKS_SHARE = -0.05
PERIOD_SHARE = 0.1
ENTITY_SHARE = 0.05
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Channels:
    """The hits of one query text, best first; the dense ones are None without a vector."""

    text: str
    words: Sequence[Hit]
    dense: Sequence[Hit] | None = None
    context: Sequence[Hit] | None = None

    @property
    def longest(self) -> int:
        return max(map(len, (self.words, self.dense or (), self.context or ())))


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the channels said of one memory: cosines, and BM25 against the query's best."""

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
    """What is known of the query before any memory is scored."""

    text: str
    tokens: tuple[str, ...] = ()
    terms: frozenset[str] = frozenset()
    speakers: Mapping[str, float] = field(default_factory=dict)
    period: Period | None = None
    entity_ids: frozenset[str] = frozenset()
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One result: its memory, its final score, what that was summed from, and its story."""

    memory: Memory
    candidate: Candidate
    final: float
    components: Mapping[str, float]
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.memory.id

    def with_note(self, **notes: object) -> Scored:
        return replace(self, notes={**self.notes, **notes})

    def with_score(self, component: str, by: float) -> Scored:
        """The same with `by` added to the score, shown as `component`."""
        components = {**self.components, component: self.components.get(component, 0.0) + by}
        return replace(self, final=self.final + by, components=components)


def fuse(channels: Channels) -> dict[str, Candidate]:
    """One candidate per id. A hit that a dense channel missed gets that channel's lowest."""
    dense, context = dict(channels.dense or ()), dict(channels.context or ())
    words = dict(channels.words)
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
    """Each id with the text that it answers best; ties go to the earlier text."""
    found: dict[str, Candidate] = {}
    for candidates in per_text:
        for key, candidate in candidates.items():
            known = found.get(key)
            if known is None or candidate.text_score > known.text_score:
                found[key] = candidate
    return found


def shortlist(candidates: Mapping[str, Candidate], size: int) -> dict[str, Candidate]:
    """The `size` best by text; those found by other roads keep a place beyond them."""
    ranked = sorted(candidates.values(), key=lambda each: (-each.text_score, each.id))
    kept = [*ranked[:size], *(each for each in ranked[size:] if each.match_type not in _BY_TEXT)]
    return {each.id: each for each in kept}


_BY_TEXT = ("vector", "keyword")


def score(
    memory: Memory, candidate: Candidate, question: Question, weights: RecallSettings, *, at_ms: int
) -> Scored:
    """The final score with its components (spec 3.6.4), none of them rounded."""
    components = {
        "vector": candidate.vector,
        "keyword": WORDS_SHARE * candidate.words,
        "metadata": _metadata(memory, question),
        "relation": 0.0,
        "tag": _tag_share(memory, question.tokens, weights.tag_score_token_cap),
        "importance": memory.importance,
        "confidence": memory.confidence,
        "recency": recency(memory.timestamp, at_ms, weights),
        "exact": float(bool(memory.meta_terms) and is_exact(question.text, memory.metadata)),
        "relevance": memory.relevance_score or 0.0,
        "context": question.profile.fit(memory) if question.profile else 0.0,
        "dialogue": weights.weight_vector * _dialogue(memory, question),
    }
    evidence = max(components[name] for name in ("vector", "keyword", "metadata", "exact"))
    gated = _gate(components, evidence, weights.relevance_gate)
    shown = {**gated, "evidence": evidence, "relevance_gated": float(gated is not components)}
    by_text = max(components["vector"], components["keyword"])
    if components["metadata"] > by_text and candidate.match_type in _BY_TEXT:
        candidate = replace(candidate, match_type="metadata")
    return Scored(memory, candidate, total(gated, weights), shown)


def total(components: Mapping[str, float], weights: RecallSettings) -> float:
    """The weighted sum; context and dialogue come weighted."""
    return (
        weights.weight_vector * components["vector"]
        + weights.weight_keyword * components["keyword"]
        + weights.weight_metadata * components["metadata"]
        + weights.weight_relation * components["relation"]
        + weights.weight_tag * components["tag"]
        + weights.weight_importance * components["importance"]
        + weights.weight_confidence * components["confidence"]
        + weights.weight_recency * components["recency"]
        + weights.weight_exact * components["exact"]
        + weights.weight_relevance * components["relevance"]
        + components["context"]
        + components["dialogue"]
    )


def _gate(components: Mapping[str, float], evidence: float, gate: float) -> Mapping[str, float]:
    """Without evidence in the text, importance and age alone must not lift a memory."""
    if gate <= 0 or evidence >= gate:
        return components
    share = evidence / gate
    gated = ("importance", "confidence", "recency", "tag", "relevance")
    return {name: value * share if name in gated else value for name, value in components.items()}


def _metadata(memory: Memory, question: Question) -> float:
    if question.terms.isdisjoint(memory.meta_terms):
        return 0.0
    return match_score(question.text, memory.metadata)


def _dialogue(memory: Memory, question: Question) -> float:
    """Whom, what and when the question names, and that questions seldom answer one.

    An entity's tag is its node's id.
    """
    if not question.text:
        return 0.0
    value = ASKS_SHARE * ("?" in memory.content)
    if memory.speaker:
        value += SPEAKER_SHARE * question.speakers.get(memory.speaker, 0.0)
    if question.period and question.period.holds(memory.timestamp):
        value += PERIOD_SHARE
    if question.entity_ids and not question.entity_ids.isdisjoint(memory.entity_tags):
        value += ENTITY_SHARE
    return value


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
    """Fully determined: ties fall to importance, time, then id."""
    if sort == "score":
        return sorted(rows, key=_by_score)
    newest_first = sort.endswith("desc")
    return sorted(rows, key=lambda row: (_moment(row.memory, newest_first), row.id))


def _by_score(row: Scored) -> tuple[float, float, int, str]:
    return (-row.final, -row.memory.importance, -row.memory.timestamp, row.id)


def _moment(memory: Memory, newest_first: bool) -> int:
    """time_* and updated_* share one key, as in AutoMem: updated_at, else timestamp."""
    at = memory.updated_at or memory.timestamp or memory.last_accessed
    return -at if newest_first else at
