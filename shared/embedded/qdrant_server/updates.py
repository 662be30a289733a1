"""Changes of points: their JSON, and the same as the engine's update operations.

A request is read completely before its first operation is applied, so a refused one has
changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import qdrant_edge as edge
from pydantic import Field, model_validator

from .config import CollectionConfig
from .filters import RequestFilter, optional_engine
from .vectors import Vector, engine_vector
from .wire import Payload, PointId, Wire

# A call into the engine stops everything else: 64 points of 384 dimensions take 1.3 ms with a
# condition on each, so a large upsert is applied in such steps.
_POINTS_PER_CALL = 64


class Update(NamedTuple):
    """One call into the engine, and how many points it may change at least."""

    operation: edge.UpdateOperation
    points: int


class PointStruct(Wire):
    id: PointId
    vector: dict[str, Vector]
    payload: Payload = Field(default_factory=dict)

    def engine(self, config: CollectionConfig) -> edge.Point:
        vectors = {name: engine_vector(each, name, config) for name, each in self.vector.items()}
        return edge.Point(self.id, vectors, self.payload)


class Upsert(Wire):
    """Points to write; `update_filter` says which stored points may be replaced."""

    points: list[PointStruct]
    update_filter: RequestFilter | None = None

    def updates(self, config: CollectionConfig) -> list[Update]:
        points = [point.engine(config) for point in self.points]
        condition = optional_engine(self.update_filter)
        steps = [
            points[at : at + _POINTS_PER_CALL] for at in range(0, len(points), _POINTS_PER_CALL)
        ]
        return [
            Update(edge.UpdateOperation.upsert_points(step, condition=condition), len(step))
            for step in steps
        ]


class Selection(Wire):
    """The points to change: those with these ids, or those that match the filter."""

    points: list[PointId] | None = None
    filter: RequestFilter | None = None

    @model_validator(mode="after")
    def _is_either(self) -> Self:
        if (self.points is None) == (self.filter is None):
            raise ValueError("expected either `points` or `filter`")
        return self

    def _update(
        self,
        by_ids: Callable[..., edge.UpdateOperation],
        by_filter: Callable[..., edge.UpdateOperation],
        *arguments: object,
    ) -> Update:
        if self.filter is not None:
            return Update(by_filter(self.filter.engine(), *arguments), 1)
        ids = self.points or []
        return Update(by_ids(ids, *arguments), len(ids))


class Delete(Selection):
    def updates(self, _config: CollectionConfig) -> list[Update]:
        operation = edge.UpdateOperation
        return [self._update(operation.delete_points, operation.delete_points_by_filter)]


class SetPayload(Selection):
    """The payload whose keys the selected points get, or which replaces theirs."""

    payload: Payload

    def updates(self, _config: CollectionConfig) -> list[Update]:
        operation = edge.UpdateOperation
        by_ids, by_filter = operation.set_payload, operation.set_payload_by_filter
        return [self._update(by_ids, by_filter, self.payload)]

    def overwriting(self) -> Update:
        operation = edge.UpdateOperation
        by_ids, by_filter = operation.overwrite_payload, operation.overwrite_payload_by_filter
        return self._update(by_ids, by_filter, self.payload)


class OverwritePayloadOperation(Wire):
    overwrite_payload: SetPayload


class UpdateBatch(Wire):
    operations: list[OverwritePayloadOperation]

    def updates(self) -> list[Update]:
        return [each.overwrite_payload.overwriting() for each in self.operations]
