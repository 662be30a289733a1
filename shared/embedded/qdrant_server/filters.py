"""Qdrant's filters: their JSON, and the same as the engine's objects."""

from __future__ import annotations

from typing import Annotated

import qdrant_edge as edge
from pydantic import Discriminator, Field, Tag

from .wire import SHALLOW, PointId, Wire

_Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class MatchValue(Wire):
    value: str | _Int64


class MatchAny(Wire):
    any: list[str] | list[_Int64]


class MatchCondition(Wire):
    """The value of a payload key, or one value of a list there, is one of those given."""

    key: str
    match: MatchValue | MatchAny

    def engine(self) -> edge.ConditionType:
        if isinstance(self.match, MatchAny):
            return edge.FieldCondition(self.key, match=edge.MatchAny(self.match.any))
        return edge.FieldCondition(self.key, match=edge.MatchValue(self.match.value))


class Range(Wire):
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


class RangeCondition(Wire):
    """A number under a payload key is within the bounds."""

    key: str
    range: Range

    def engine(self) -> edge.ConditionType:
        return edge.FieldCondition(self.key, range=edge.RangeFloat(**dict(self.range)))


class HasIdCondition(Wire):
    has_id: list[PointId]

    def engine(self) -> edge.ConditionType:
        return edge.HasIdCondition(set(self.has_id))


def _kind(condition: object) -> str:
    """Return the member that only this kind of condition has; a filter has none."""
    members = condition if isinstance(condition, dict) else ()
    return next((name for name in ("match", "range", "has_id") if name in members), "filter")


Condition = Annotated[
    Annotated[MatchCondition, Tag("match")]
    | Annotated[RangeCondition, Tag("range")]
    | Annotated[HasIdCondition, Tag("has_id")]
    | Annotated["Filter", Tag("filter")],
    Discriminator(_kind),
]


class Filter(Wire):
    must: list[Condition] | None = None
    should: list[Condition] | None = None
    must_not: list[Condition] | None = None

    def engine(self) -> edge.Filter:
        return edge.Filter(
            must=_engine(self.must), should=_engine(self.should), must_not=_engine(self.must_not)
        )


RequestFilter = Annotated[Filter, SHALLOW]


def _engine(conditions: list[Condition] | None) -> list[edge.ConditionType] | None:
    return None if conditions is None else [each.engine() for each in conditions]
