"""Qdrant's JSON filters as the engine's filter objects."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import qdrant_edge as edge

from .errors import malformed, unsupported
from .fields import (
    JsonObject,
    boolean,
    fields,
    items,
    number,
    one_or_many,
    required,
    shallow,
    text,
    whole,
)
from .ids import point_id

_CLAUSES = frozenset({"must", "should", "must_not", "min_should"})
_MATCHES = frozenset(
    {"value", "text", "text_any", "phrase", "prefix", "substring", "any", "except"}
)
_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})
_FIELD_CONDITION = frozenset(
    {"key", "match", "range", "values_count", "is_empty", "is_null"}
    | {"geo_bounding_box", "geo_radius", "geo_polygon"}
)
_KEYED = frozenset({"key"})


def filter_of(value: object, where: str = "filter") -> edge.Filter:
    """Return the filter; conditions may nest, a single one may stand without its list."""
    shallow(value, where)
    return _filter(value, where)


def _filter(value: object, where: str) -> edge.Filter:
    clauses = fields(value, where, _CLAUSES)
    return edge.Filter(
        must=_conditions(clauses, "must"),
        should=_conditions(clauses, "should"),
        must_not=_conditions(clauses, "must_not"),
        min_should=_min_should(clauses["min_should"]) if "min_should" in clauses else None,
    )


def optional_filter(body: JsonObject, name: str = "filter") -> edge.Filter | None:
    return filter_of(body[name], name) if name in body else None


def _conditions(clauses: JsonObject, name: str) -> list[edge.ConditionType] | None:
    if name not in clauses:
        return None
    return [_condition(item) for item in one_or_many(clauses[name], name)]


def _min_should(value: object) -> edge.MinShould:
    body = fields(value, "min_should", frozenset({"conditions", "min_count"}))
    conditions = items(required(body, "conditions", "min_should"), "conditions")
    return edge.MinShould(
        conditions=[_condition(item) for item in conditions],
        min_count=whole(required(body, "min_count", "min_should"), "min_count"),
    )


def _condition(value: object) -> edge.ConditionType:
    if not isinstance(value, dict):
        raise malformed("condition: expected an object")
    if "key" in value:
        return _field_condition(value)
    for name, read in _BY_MEMBER.items():
        if name in value:
            return read(fields(value, "condition", frozenset({name}))[name])
    return _filter(value, "condition")


def _is_empty(value: object) -> edge.ConditionType:
    return edge.IsEmptyCondition(_key(value, "is_empty"))


def _is_null(value: object) -> edge.ConditionType:
    return edge.IsNullCondition(_key(value, "is_null"))


def _key(value: object, where: str) -> str:
    return text(required(fields(value, where, _KEYED), "key", where), "key")


def _has_id(value: object) -> edge.ConditionType:
    return edge.HasIdCondition({point_id(item) for item in items(value, "has_id")})


def _has_vector(value: object) -> edge.ConditionType:
    return edge.HasVectorCondition(text(value, "has_vector"))


def _nested(value: object) -> edge.ConditionType:
    body = fields(value, "nested", frozenset({"key", "filter"}))
    inner = _filter(required(body, "filter", "nested"), "nested.filter")
    return edge.NestedCondition(text(required(body, "key", "nested"), "key"), inner)


_BY_MEMBER: dict[str, Callable[[object], edge.ConditionType]] = {
    "is_empty": _is_empty,
    "is_null": _is_null,
    "has_id": _has_id,
    "has_vector": _has_vector,
    "nested": _nested,
}


def _field_condition(value: object) -> edge.FieldCondition:
    body = fields(value, "condition", _FIELD_CONDITION)
    if body.keys() & {"geo_bounding_box", "geo_radius", "geo_polygon"}:
        raise unsupported("geo conditions")
    if len(body) < 2:
        raise malformed(f"condition on `{body.get('key')}`: no condition given")
    return edge.FieldCondition(
        text(required(body, "key", "condition"), "key"),
        match=_match(body["match"]) if "match" in body else None,
        range=_range(body["range"]) if "range" in body else None,
        values_count=_values_count(body["values_count"]) if "values_count" in body else None,
        is_empty=boolean(body["is_empty"], "is_empty") if "is_empty" in body else None,
        is_null=boolean(body["is_null"], "is_null") if "is_null" in body else None,
    )


def _match(value: object) -> edge.MatchType:
    body = fields(value, "match", _MATCHES)
    if len(body) != 1:
        raise malformed("match: expected exactly one of value, any, except, text, phrase")
    [(kind, operand)] = body.items()
    return _MATCH_READERS[kind](operand)


def _match_value(value: object) -> edge.MatchType:
    # The engine tries integer before bool, so True would be compared as 1 and never
    # match. numpy's bool is no integer and is taken for what it is.
    if isinstance(value, bool):
        return edge.MatchValue(np.bool_(value))  # type: ignore[arg-type]
    if not isinstance(value, str | int):
        raise malformed("match.value: expected a string, an integer or a boolean")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise malformed(f"match.value: integer `{value}` is out of range")
    return edge.MatchValue(value)


def _any_of(value: object) -> list[str] | list[int]:
    choices = items(value, "match")
    if all(isinstance(item, str) for item in choices):
        return choices  # type: ignore[return-value]
    if all(isinstance(item, int) and not isinstance(item, bool) for item in choices):
        return choices  # type: ignore[return-value]
    raise malformed("match: expected a list of strings or a list of integers")


_MATCH_READERS: dict[str, Callable[[object], edge.MatchType]] = {
    "value": _match_value,
    "any": lambda value: edge.MatchAny(_any_of(value)),
    "except": lambda value: edge.MatchExcept(_any_of(value)),
    "text": lambda value: edge.MatchText(text(value, "match.text")),
    "text_any": lambda value: edge.MatchTextAny(text(value, "match.text_any")),
    "phrase": lambda value: edge.MatchPhrase(text(value, "match.phrase")),
    "prefix": lambda value: edge.MatchPrefix(text(value, "match.prefix")),
    "substring": lambda value: edge.MatchSubstring(text(value, "match.substring")),
}


def _range(value: object) -> edge.RangeType:
    """Return a numeric range, or one of date-times where a bound is a string."""
    bounds = fields(value, "range", _BOUNDS)
    if any(isinstance(bound, str) for bound in bounds.values()):
        return edge.RangeDateTime(**{name: text(bound, name) for name, bound in bounds.items()})
    return edge.RangeFloat(**{name: number(bound, name) for name, bound in bounds.items()})


def _values_count(value: object) -> edge.ValuesCount:
    bounds = fields(value, "values_count", _BOUNDS)
    return edge.ValuesCount(**{name: whole(bound, name) for name, bound in bounds.items()})
