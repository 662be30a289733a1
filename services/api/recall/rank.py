"""Ranking: pure functions from candidates and their memories to an ordered list.

Nothing here needs a store. The score is a weighted sum (spec 3.6.4); every part of it is
reported as a component, so that a caller can see why a memory stands where it stands.
Channel scores are fused by value, not by rank: rank fusion was measured to be worse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.config import RecallSettings
from shared.memory import Memory, tag_keys, tag_prefixes

from .request import Scope

# Shares of the fused text score, measured on two conversations (docs/benchmarks.md).
CONTENT_SHARE = 0.5
CONTEXT_SHARE = 0.5
WORDS_SHARE = 0.4
_DAY_MS = 86_400_000
_WORD = re.compile(r"[\w-]+")


@dataclass(slots=True)
class Candidate:
    """What the channels said of one memory: cosines, BM25 raised to 0..1 by the best."""

    id: str
    dense: float | None = None
    context: float | None = None
    words: float = 0.0
    metadata: float = 0.0
    match_type: str = "keyword"
    source: str = "graph"
    query: str = ""
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """One result: its memory, its final score, and what that was summed from."""

    memory: Memory
    candidate: Candidate
    final: float
    components: Mapping[str, float]


def fuse(
    dense: Iterable[tuple[str, float]],
    context: Iterable[tuple[str, float]],
    words: Iterable[tuple[str, float]],
    *,
    query: str = "",
) -> dict[str, Candidate]:
    """One candidate per id. A hit that one dense channel missed gets that channel's lowest."""
    by_dense, by_context, by_words = dict(dense), dict(context), dict(words)
    found: dict[str, Candidate] = {}
    best = max(by_words.values(), default=0.0) or 1.0
    low_dense = min(by_dense.values(), default=0.0)
    low_context = min(by_context.values(), default=0.0)
    for key in (*by_dense, *by_context, *by_words):
        if key in found:
            continue
        by_vector = key in by_dense or key in by_context
        found[key] = Candidate(
            id=key,
            dense=by_dense.get(key, low_dense),
            context=by_context.get(key, low_context),
            words=by_words.get(key, 0.0) / best,
            match_type="vector" if by_vector else "keyword",
            source="qdrant" if by_vector else "graph",
            query=query,
        )
    return found


def visible(memory: Memory, scope: Scope, *, at_ms: int, excluded_types: frozenset[str]) -> bool:
    """The whole scope, applied to what the graph says: a stale payload cannot leak."""
    if memory.type in excluded_types:
        return False
    if scope.current and suppression(memory, at_ms) is not None:
        return False
    return (
        _within(memory, scope)
        and _same(scope.project, memory.project)
        and _same(scope.session_id, memory.session_id)
        and _same(scope.layer, memory.layer)
        and tagged(memory, scope)
    )


def suppression(memory: Memory, at_ms: int) -> str | None:
    """Why current mode hides this memory by its own fields, or None."""
    if memory.archived:
        return "archived"
    if memory.t_valid is not None and memory.t_valid > at_ms:
        return "not_yet_valid"
    if memory.t_invalid is not None and memory.t_invalid <= at_ms:
        return "expired"
    return None


def _within(memory: Memory, scope: Scope) -> bool:
    after = scope.start_ms is None or memory.timestamp >= scope.start_ms
    return after and (scope.end_ms is None or memory.timestamp <= scope.end_ms)


def _same(wanted: str | None, held: str | None) -> bool:
    return wanted is None or wanted == held


def tagged(memory: Memory, scope: Scope) -> bool:
    """Case-insensitive; prefix matches whole `:`-separated segments."""
    keys = set(tag_keys(memory.all_tags))
    if any(_excluded(each.lower(), keys) for each in scope.exclude_tags):
        return False
    if not scope.tags:
        return True
    if scope.tag_match == "prefix":
        held = set(tag_prefixes(memory.all_tags))
        wanted = [prefix_key(tag) for tag in scope.tags]
    else:
        held, wanted = keys, [tag.strip().lower() for tag in scope.tags]
    return (all if scope.tag_mode == "all" else any)(tag in held for tag in wanted)


def prefix_key(tag: str) -> str:
    """The last prefix of a tag: what `tag_prefixes` must hold for the tag to match."""
    prefixes = tag_prefixes([tag])
    return prefixes[-1] if prefixes else tag.strip().lower()


def _excluded(unwanted: str, keys: set[str]) -> bool:
    return any(key.startswith(unwanted) for key in keys)


def words_of(text: str) -> tuple[str, ...]:
    """Whole words, lower-cased, unique, in order."""
    return tuple(dict.fromkeys(_WORD.findall(text.lower())))


def score(
    memory: Memory,
    candidate: Candidate,
    terms: Sequence[str],
    weights: RecallSettings,
    *,
    at_ms: int,
) -> Scored:
    """The final score with its components (spec 3.6.4), none of them rounded."""
    dense = CONTENT_SHARE * (candidate.dense or 0.0) + CONTEXT_SHARE * (candidate.context or 0.0)
    components = {
        "vector": dense,
        "keyword": WORDS_SHARE * candidate.words,
        "metadata": candidate.metadata,
        "relation": 0.0,
        "tag": _tag_share(memory, terms, weights.tag_score_token_cap),
        "importance": memory.importance,
        "confidence": memory.confidence,
        "recency": recency(memory.timestamp, at_ms, weights),
        "exact": 0.0,
        "relevance": memory.relevance_score or 0.0,
        "context": 0.0,
    }
    return Scored(memory, candidate, total(components, weights), components)


def total(components: Mapping[str, float], weights: RecallSettings) -> float:
    """The weighted sum; a component without a weight of its own counts fully."""
    weight = {
        "vector": weights.weight_vector,
        "keyword": weights.weight_keyword,
        "metadata": weights.weight_metadata,
        "relation": weights.weight_relation,
        "tag": weights.weight_tag,
        "importance": weights.weight_importance,
        "confidence": weights.weight_confidence,
        "recency": weights.weight_recency,
        "exact": weights.weight_exact,
        "relevance": weights.weight_relevance,
    }
    return sum(weight.get(name, 1.0) * value for name, value in components.items())


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
    """Best first and fully determined: ties fall to importance, time, then id."""
    if sort == "score":
        return sorted(rows, key=_by_score)
    newest_first = sort.endswith("desc")
    return sorted(rows, key=lambda row: (_moment(row.memory, newest_first), row.memory.id))


def _by_score(row: Scored) -> tuple[float, float, int, str]:
    return (-row.final, -row.memory.importance, -row.memory.timestamp, row.memory.id)


def _moment(memory: Memory, newest_first: bool) -> int:
    """time_* and updated_* share one key, as in AutoMem: updated_at, else timestamp."""
    at = memory.updated_at or memory.timestamp or memory.last_accessed
    return -at if newest_first else at
