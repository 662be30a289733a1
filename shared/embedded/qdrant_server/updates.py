"""Changes of points and their indexes: their JSON, and the same as the engine's update operations.

A request is read completely before its first operation is applied, so a refused one has
changed nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import qdrant_edge as edge
from pydantic import Field

from .config import CollectionConfig, Vector
from .filters import RequestFilter
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
        vectors = {name: config.engine_vector(each, name) for name, each in self.vector.items()}
        return edge.Point(self.id, vectors, self.payload)


class Upsert(Wire):
    """Points to write; `update_filter` says which stored points may be replaced."""

    points: list[PointStruct]
    update_filter: RequestFilter | None = None

    def updates(self, config: CollectionConfig) -> list[Update]:
        points = [point.engine(config) for point in self.points]
        condition = self.update_filter.engine() if self.update_filter else None
        steps = [
            points[at : at + _POINTS_PER_CALL] for at in range(0, len(points), _POINTS_PER_CALL)
        ]
        return [
            Update(edge.UpdateOperation.upsert_points(step, condition=condition), len(step))
            for step in steps
        ]


class Delete(Wire):
    """The points to delete: those that match the filter."""

    filter: RequestFilter

    def updates(self, _config: CollectionConfig) -> list[Update]:
        return [Update(edge.UpdateOperation.delete_points_by_filter(self.filter.engine()), 1)]


class KeywordIndexParams(Wire):
    type: Literal["keyword"]
    is_tenant: bool = False


class CreateIndex(Wire):
    field_name: str
    field_schema: Literal["keyword", "integer"] | KeywordIndexParams

    def updates(self, _config: CollectionConfig) -> list[Update]:
        wanted = self.field_schema
        if isinstance(wanted, KeywordIndexParams):
            schema = edge.KeywordIndexParams(is_tenant=wanted.is_tenant)
        else:
            schema = getattr(edge.PayloadSchemaType, wanted.capitalize())
        return [Update(edge.UpdateOperation.create_field_index(self.field_name, schema), 0)]


class OverwritePayload(Wire):
    """The payload that replaces that of the points which match the filter."""

    payload: Payload
    filter: RequestFilter


class OverwritePayloadOperation(Wire):
    overwrite_payload: OverwritePayload


class UpdateBatch(Wire):
    operations: list[OverwritePayloadOperation]

    def updates(self) -> list[Update]:
        overwrite = edge.UpdateOperation.overwrite_payload_by_filter
        changes = [each.overwrite_payload for each in self.operations]
        return [Update(overwrite(each.filter.engine(), each.payload), 1) for each in changes]
