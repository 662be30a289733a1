"""The parameters of /recall, parsed: clamped where AutoMem clamps, refused where it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.api.memory.requests import parse_embedding
from services.api.recall.when import UnknownTime, Window, window_of
from shared.config import RecallSettings
from shared.domain.memory import check_text, finite, parse_time
from shared.domain.scope import Scope
from shared.errors import InvalidInput

Sort = Literal["score", "time_desc", "time_asc", "updated_desc", "updated_asc"]
SORTS: tuple[Sort, ...] = ("score", "time_desc", "time_asc", "updated_desc", "updated_asc")
_YES = frozenset({"1", "true", "yes", "y", "on"})
_NO = frozenset({"0", "false", "no", "n", "off"})
MAX_QUERY_CHARS = 4000
MAX_QUERIES = 10
MAX_VALUES = 100


class Query(Protocol):
    """The request's query string: repeated names, in order."""

    def getall(self, key: str, default: list[str]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller is doing now; boosts memories that fit."""

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
    sort: Sort
    expansion: Expansion
    hints: Hints
    auto_decompose: bool
    min_score: float
    adaptive_floor: bool
    state_debug: bool
    recency_bias: str
    scope_fallback: bool
    warnings: tuple[str, ...] = field(default=())

    @property
    def texts(self) -> tuple[str, ...]:
        """What is searched for: `queries` where given (then `query` is not run)."""
        return self.queries or ((self.query,) if self.query else ())


def parse_recall(query: Query, settings: RecallSettings, *, now_ms: int) -> RecallRequest:
    """Raises: InvalidInput naming the parameter."""
    read = _Reader(query)
    warnings: list[str] = []
    window = _window(read, warnings, now_ms)
    text = _text(read.one("query") or "")
    text = "" if text == "*" else text
    queries = tuple(dict.fromkeys(_text(each) for each in read.many("queries", split=True)))
    embedding = parse_embedding(read.one("embedding"))
    limit = read.whole("limit", 5, 1, settings.max_limit)
    bare_window = window.bounded and not (text or queries or embedding)
    return RecallRequest(
        at_ms=now_ms,
        query=text,
        queries=queries[:MAX_QUERIES],
        limit=limit,
        per_query_limit=read.whole("per_query_limit", limit, 1, 100),
        embedding=None if embedding is None else tuple(embedding),
        scope=_scope(read, read.many("tags"), window, settings.hidden_types, now_ms),
        sort=_sort(read, bare_window=bare_window),
        expansion=_expansion(read, settings),
        hints=_hints(read),
        auto_decompose=read.flag("auto_decompose", default=False),
        min_score=read.unit("min_score", settings.min_score) or 0.0,
        adaptive_floor=read.flag("adaptive_floor", default=settings.adaptive_floor),
        state_debug=read.flag("state_debug", default=False),
        recency_bias=read.choice("recency_bias", ("auto", "on", "off"), settings.recency_bias),
        scope_fallback=read.flag("scope_fallback", default=False),
        warnings=tuple(warnings),
    )


def _text(value: str) -> str:
    text = check_text(value.strip(), "'query'")
    if len(text) > MAX_QUERY_CHARS:
        raise InvalidInput(f"'query' must not exceed {MAX_QUERY_CHARS} characters")
    return text


def _window(read: _Reader, warnings: list[str], now_ms: int) -> Window:
    """`start` and `end` override what `time_query` says."""
    expression = read.one("time_query", "time")
    window = Window()
    if expression:
        try:
            window = window_of(expression, now_ms)
        except UnknownTime as error:
            if read.flag("strict", default=False):
                raise InvalidInput(str(error)) from error
            warnings.append(str(error))
    start, end = _instant(read, "start"), _instant(read, "end")
    if start is not None and end is not None and start > end:
        raise InvalidInput("'start' must not be after 'end'")
    return Window(
        window.start_ms if start is None else start, window.end_ms if end is None else end
    )


def _instant(read: _Reader, name: str) -> int | None:
    given = read.one(name)
    if not given:
        return None
    try:
        return parse_time(given)
    except InvalidInput as error:
        raise InvalidInput(f"Invalid {name} time: {error}") from error


def _sort(read: _Reader, *, bare_window: bool) -> Sort:
    """A time window without anything to search for lists the newest first."""
    named = read.one("sort", "order_by")
    chosen = next((each for each in SORTS if each == named), None)
    if chosen is not None:
        return chosen
    return "time_desc" if bare_window and named is None else "score"


def _scope(
    read: _Reader,
    tags: tuple[str, ...],
    window: Window,
    hidden_types: frozenset[str],
    now_ms: int,
) -> Scope:
    state = read.one("state_mode") or "current"
    if state not in ("current", "history"):
        raise InvalidInput("'state_mode' must be 'current' or 'history'")
    current = read.flag("current_only", default=state == "current")
    return Scope(
        tags=tags,
        tag_mode="all" if read.one("tag_mode") == "all" else "any",
        tag_match="exact" if read.one("tag_match") == "exact" else "prefix",
        exclude_tags=read.many("exclude_tags", split=True),
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        project=read.label("project"),
        session_id=read.label("session_id"),
        layer=read.label("layer"),
        exclude_types=tuple(sorted(hidden_types)),
        current_at_ms=now_ms if current else None,
    )


def _expansion(read: _Reader, settings: RecallSettings) -> Expansion:
    relations = ("expand_relations", "expand_associations", "expand")
    return Expansion(
        relations=read.flag(*relations, default=False),
        entities=read.flag("expand_entities", "entity_expansion", default=False),
        respect_tags=read.flag("expand_respect_tags", default=False),
        relation_limit=read.whole("relation_limit", settings.relation_limit, 1, 200),
        limit=read.whole(
            ("expansion_limit", "relation_expansion_limit"), settings.expansion_limit, 1, 500
        ),
        min_importance=read.unit("expand_min_importance", None),
        min_strength=read.unit("expand_min_strength", None),
    )


def _hints(read: _Reader) -> Hints:
    return Hints(
        context=read.label("context"),
        language=read.label("language", "lang"),
        active_path=read.label("active_path", "file_path", "focus_path"),
        tags=read.many("context_tags", split=True),
        types=read.many("context_types", split=True),
        ids=read.many("priority_ids", split=True),
    )


class _Reader:
    """Reads one query string; every method takes the name and its aliases."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def one(self, *names: str) -> str | None:
        for name in names:
            for value in self._query.getall(name, []):
                return value.strip()
        return None

    def label(self, *names: str) -> str | None:
        value = self.one(*names)
        if value and len(value) > MAX_QUERY_CHARS:
            raise InvalidInput(f"'{names[0]}' is too long")
        return check_text(value, f"'{names[0]}'") if value else None

    def many(self, name: str, *, split: bool = False) -> tuple[str, ...]:
        given = self._query.getall(name, [])
        parts = [part for value in given for part in (value.split(",") if split else [value])]
        values = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if len(values) > MAX_VALUES:
            raise InvalidInput(f"'{name}' must not hold more than {MAX_VALUES} values")
        for value in values:
            check_text(value, f"'{name}'")
        return values

    def flag(self, *names: str, default: bool) -> bool:
        value = (self.one(*names) or "").lower()
        return True if value in _YES else False if value in _NO else default

    def whole(self, names: str | tuple[str, ...], default: int, low: int, high: int) -> int:
        """Clamped into low..high. Raises: InvalidInput for what is no whole number."""
        named = (names,) if isinstance(names, str) else names
        value = self.one(*named)
        try:
            number = int(value) if value else default
        except ValueError as error:
            raise InvalidInput(f"'{named[0]}' must be a whole number") from error
        return min(high, max(low, number))

    def unit(self, name: str, default: float | None) -> float | None:
        value = self.one(name)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError as error:
            raise InvalidInput(f"'{name}' must be a number") from error
        if not finite(number):
            raise InvalidInput(f"'{name}' must be a number")
        return min(1.0, max(0.0, number))

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = (self.one(name) or "").lower()
        return value if value in allowed else default
