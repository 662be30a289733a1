"""The parameters of /recall, and the RecallRequest that they make.

Numbers out of range are clamped as AutoMem clamps them; what cannot be understood is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from services.api.http.parameters import (
    Param,
    Query,
    choice,
    flag,
    integer,
    moment,
    number,
    parsed,
    text,
    texts,
    without_default,
)
from services.api.memory.requests import parse_embedding
from services.api.recall.times import UnknownTime, Window, window_of
from shared.config import Settings
from shared.domain.scope import Scope
from shared.errors import InvalidInput

SORTS = ("score", "time_desc", "time_asc", "updated_desc", "updated_asc")
MAX_QUERY_CHARS = 4000
MAX_QUERIES = 10


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller is doing now; memories that fit it are raised."""

    context: str | None = None
    language: str | None = None
    active_path: str | None = None
    tags: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.context, self.language, self.active_path, self.tags, self.types, self.ids))


@dataclass(frozen=True, slots=True)
class Expansion:
    """Whether and how far a recall adds what its results lead to."""

    relations: bool = False
    entities: bool = False
    respect_tags: bool = False
    relation_limit: int = 5
    limit: int = 25
    min_importance: float | None = None
    min_strength: float | None = None


@dataclass(frozen=True, slots=True)
class RecallRequest:
    """What one recall is for; `at_ms` is the time that it counts as now."""

    at_ms: int
    query: str
    queries: tuple[str, ...]
    limit: int
    per_query_limit: int
    embedding: tuple[float, ...] | None
    scope: Scope
    sort: str
    expansion: Expansion
    hints: Hints
    auto_decompose: bool
    min_score: float
    adaptive_floor: bool
    state_debug: bool
    recency_bias: str
    scope_fallback: bool
    warnings: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts to search for: `queries` where given; then `query` is not run."""
        return self.queries or ((self.query,) if self.query else ())


# -- the parameters ---------------------------------------------------------------------

# Parameters by the field that they fill.
_Table = Mapping[str, Param[Any]]
_Count = int | Callable[[Settings], int]


def _label(name: str, description: str, *aliases: str) -> Param[str | None]:
    return text(name, description, most_chars=MAX_QUERY_CHARS, aliases=aliases)


def _share(name: str, description: str, default: Any = None) -> Param[Any]:
    return number(name, description, default=default, least=0.0, most=1.0)


def _count(name: str, description: str, *aliases: str, default: _Count, most: _Count) -> Param[int]:
    return integer(name, description, default=default, least=1, most=most, aliases=aliases)


def _per_query_limit(limit: int) -> Param[int]:
    description = "Candidates per query before fusion; as many as limit where absent"
    return _count("per_query_limit", description, default=limit, most=100)


def _current_only(*, default: bool) -> Param[bool]:
    description = "Wins over state_mode; true where both are absent"
    return flag("current_only", description, default=default)


_QUERY = _label("query", "What to look for; empty or * lists instead")
_QUERIES = texts(
    "queries",
    f"Texts of at most {MAX_QUERY_CHARS} characters, of which the first {MAX_QUERIES} are searched"
    " together; `query` is then not run",
    commas=True,
    most_used=MAX_QUERIES,
    most_chars=MAX_QUERY_CHARS,
)
_LIMIT = _count(
    "limit",
    "Most results; expansions may add to it",
    default=5,
    most=attrgetter("recall.max_limit"),
)
_EMBEDDING = parsed(
    "embedding",
    "Query vector, comma-separated, of the live dimension",
    parse_embedding,
    schema={"type": "string"},
)
_TAGS: _Table = {
    "tags": texts("tags", "Only memories with these tags; a value with a comma is one tag"),
    "tag_mode": choice("tag_mode", "Whether one tag suffices", "any", "all", default="any"),
    "tag_match": choice(
        "tag_match", "Prefix: whole `:`-separated segments", "prefix", "exact", default="prefix"
    ),
    "exclude_tags": texts(
        "exclude_tags", "Not memories with these tags or their prefixes", commas=True
    ),
}
_TIME_QUERY = parsed(
    "time_query",
    "today, yesterday, last week, last 30 days, …",
    str,
    schema={"type": "string"},
    aliases=("time",),
)
_START = moment("start", "Earliest timestamp, ISO 8601", complaint="Invalid start time")
_END = moment("end", "Latest timestamp, ISO 8601", complaint="Invalid end time")
_NO_LIMITS: Window = (None, None)
_STRICT = flag("strict", "Refuse an unknown time_query instead of warning")
_PLACE: _Table = {
    "project": _label("project", "Only this project"),
    "session_id": _label("session_id", "Only this session"),
    "layer": _label("layer", "Only this layer"),
}
_SORT = parsed(
    "sort",
    "Order of the results; score where absent, or time_desc where only a time is given",
    str.lower,
    schema={"type": "string", "enum": list(SORTS)},
    aliases=("order_by",),
)
_STATE_MODE = choice(
    "state_mode",
    "history also shows what is superseded",
    "current",
    "history",
    default="current",
    refusal="'state_mode' must be 'current' or 'history'",
)
_STATE_DEBUG = flag("state_debug", "Adds the suppressed ids")
_EXPANSION: _Table = {
    "relations": flag(
        "expand_relations",
        "Adds what the results relate to",
        aliases=("expand_associations", "expand"),
    ),
    "entities": flag(
        "expand_entities",
        "Adds memories about the same people and organizations",
        aliases=("entity_expansion",),
    ),
    "respect_tags": flag("expand_respect_tags", "Keeps expansions inside the tag scope"),
    "relation_limit": _count(
        "relation_limit",
        "Relations per result",
        default=attrgetter("recall.relation_limit"),
        most=200,
    ),
    "limit": _count(
        "expansion_limit",
        "Most memories added by expansion",
        "relation_expansion_limit",
        default=attrgetter("recall.expansion_limit"),
        most=500,
    ),
    "min_importance": _share("expand_min_importance", "Least importance of an added memory"),
    "min_strength": _share("expand_min_strength", "Least strength of a followed relation"),
}
_OPTIONS: _Table = {
    "auto_decompose": flag("auto_decompose", "Also searches for the names and topics in the query"),
    "min_score": _share("min_score", "Least final score", attrgetter("recall.min_score")),
    "adaptive_floor": flag(
        "adaptive_floor",
        "Cuts the list where the scores fall off",
        default=attrgetter("recall.adaptive_floor"),
    ),
    "recency_bias": choice(
        "recency_bias",
        "Prefers newer results",
        *("off", "on", "auto"),
        default=attrgetter("recall.recency_bias"),
    ),
    "scope_fallback": flag("scope_fallback", "Fills up from outside the tags"),
}
_HINTS: _Table = {
    "context": _label("context", "What the caller works on"),
    "language": _label("language", "Programming language of the caller's file", "lang"),
    "active_path": _label("active_path", "The caller's file", "file_path", "focus_path"),
    "tags": texts("context_tags", "Tags to prefer", commas=True),
    "types": texts("context_types", "Types to prefer", commas=True),
    "ids": texts("priority_ids", "Memories that come first", commas=True),
}
PARAMETERS: tuple[Param[Any], ...] = (
    *(_QUERY, _QUERIES, _LIMIT, without_default(_per_query_limit(5)), _EMBEDDING),
    *_TAGS.values(),
    *(_TIME_QUERY, _START, _END, _STRICT),
    *_PLACE.values(),
    *(_SORT, _STATE_MODE, without_default(_current_only(default=True)), _STATE_DEBUG),
    *_EXPANSION.values(),
    *_OPTIONS.values(),
    *_HINTS.values(),
)


def parse_recall(query: Query, *, now_ms: int) -> RecallRequest:
    """Raises: InvalidInput naming the parameter."""
    warnings: list[str] = []
    start_ms, end_ms = window = _window(query, warnings, now_ms)
    searched = query[_QUERY] or ""
    searched = "" if searched == "*" else searched
    queries = query[_QUERIES]
    embedding, limit = query[_EMBEDDING], query[_LIMIT]
    current = query[_current_only(default=query[_STATE_MODE] == "current")]
    return RecallRequest(
        at_ms=now_ms,
        query=searched,
        queries=queries[:MAX_QUERIES],
        limit=limit,
        per_query_limit=query[_per_query_limit(limit)],
        embedding=None if embedding is None else tuple(embedding),
        scope=Scope(
            start_ms=start_ms,
            end_ms=end_ms,
            exclude_types=tuple(sorted(query.settings.recall.hidden_types)),
            current_at_ms=now_ms if current else None,
            **_fields(query, _TAGS),
            **_fields(query, _PLACE),
        ),
        sort=_sort(
            query, only_a_window=window != _NO_LIMITS and not (searched or queries or embedding)
        ),
        expansion=Expansion(**_fields(query, _EXPANSION)),
        hints=Hints(**_fields(query, _HINTS)),
        state_debug=query[_STATE_DEBUG],
        warnings=tuple(warnings),
        **_fields(query, _OPTIONS),
    )


def _fields(query: Query, table: _Table) -> dict[str, Any]:
    return {name: query[param] for name, param in table.items()}


def _window(query: Query, warnings: list[str], now_ms: int) -> Window:
    """Return the window of `time_query`, with `start` and `end` in its place where given."""
    expression, window = query[_TIME_QUERY], _NO_LIMITS
    if expression:
        try:
            window = window_of(expression, now_ms)
        except UnknownTime as error:
            if query[_STRICT]:
                raise InvalidInput(str(error)) from error
            warnings.append(str(error))
    start, end = query[_START], query[_END]
    if start is not None and end is not None and start > end:
        raise InvalidInput("'start' must not be after 'end'")
    return window[0] if start is None else start, window[1] if end is None else end


def _sort(query: Query, *, only_a_window: bool) -> str:
    """Return the wanted order; a time window with nothing to search for lists the newest first."""
    named = query[_SORT]
    if named in SORTS:
        return named
    return "time_desc" if only_a_window and named is None else "score"
