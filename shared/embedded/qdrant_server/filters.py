"""Qdrant's filters: their JSON, and the same as the engine's objects."""

from __future__ import annotations

from typing import Annotated, Self, cast

import qdrant_edge as edge
from pydantic import Discriminator, Field, Tag, model_validator

from .wire import SHALLOW, PointId, Wire

_Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Match(Wire):
    value: str | _Int64 | None = None
    any: list[str] | list[_Int64] | None = None

    @model_validator(mode="after")
    def _is_either(self) -> Self:
        if (self.value is None) == (self.any is None):
            raise ValueError("expected either `value` or `any`")
        return self

    def engine(self) -> edge.MatchType:
        if self.any is not None:
            return edge.MatchAny(self.any)
        return edge.MatchValue(cast("str | int", self.value))


class MatchCondition(Wire):
    """The value of a payload key, or one value of a list there, is one of those given."""

    key: str
    match: Match

    def engine(self) -> edge.ConditionType:
        return edge.FieldCondition(self.key, match=self.match.engine())


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


def optional_engine(wanted: Filter | None) -> edge.Filter | None:
    return None if wanted is None else wanted.engine()
