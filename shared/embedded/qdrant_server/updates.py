"""Changes of points: Qdrant's JSON as the engine's update operations.

A request is read completely before its first operation is applied, so a refused
one has changed nothing.
"""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import qdrant_edge as edge

from .config import CollectionConfig
from .errors import malformed, unsupported
from .fields import (
    JsonObject,
    chosen,
    fields,
    items,
    objects,
    payload,
    required,
    text,
    texts,
)
from .filters import filter_of, optional_filter
from .ids import point_id, point_ids
from .vectors import VectorStruct, known_name, vector_struct

_POINT = frozenset({"id", "vector", "payload"})
_UPSERT = frozenset({"points", "batch", "shard_key", "update_filter", "update_mode"})
_BATCH = frozenset({"ids", "vectors", "payloads"})
_SELECTION = frozenset({"points", "filter", "shard_key"})
_PAYLOAD = _SELECTION | {"payload", "key"}
_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}
# A call into the engine stops everything else: 64 points of 384 dimensions take
# 1.3 ms with a condition on each, so a large upsert is applied in such steps.
_POINTS_PER_CALL = 64


class Update(NamedTuple):
    """One call into the engine, and how many points it may change at least."""

    operation: edge.UpdateOperation
    points: int


Updates = list[Update]


def upsert(value: object, config: CollectionConfig) -> Updates:
    body = _unsharded(fields(value, "upsert", _UPSERT))
    points = list(_points(body, config))
    condition = optional_filter(body, "update_filter")
    mode = chosen(body["update_mode"], "update_mode", _MODES) if "update_mode" in body else None
    steps = (
        points[start : start + _POINTS_PER_CALL]
        for start in range(0, len(points), _POINTS_PER_CALL)
    )
    return [
        Update(
            edge.UpdateOperation.upsert_points(step, condition=condition, update_mode=mode),
            len(step),
        )
        for step in steps
    ]


def _points(body: JsonObject, config: CollectionConfig) -> Iterator[edge.Point]:
    if ("points" in body) == ("batch" in body):
        raise malformed("upsert: expected either `points` or `batch`")
    if "batch" in body:
        yield from _column_points(body["batch"], config)
    else:
        for item in items(body["points"], "points"):
            yield _point(item, config)


def _point(value: object, config: CollectionConfig) -> edge.Point:
    body = fields(value, "point", _POINT)
    return edge.Point(
        point_id(required(body, "id", "point")),
        vector_struct(required(body, "vector", "point"), config),
        payload(body.get("payload", {}), "payload"),
    )


def _column_points(value: object, config: CollectionConfig) -> Iterator[edge.Point]:
    """Yield the points of the columnar form: ids, vectors and payloads side by side."""
    body = fields(value, "batch", _BATCH)
    ids = point_ids(required(body, "ids", "batch"), "ids")
    vectors = _vector_rows(required(body, "vectors", "batch"), len(ids))
    payloads = items(body.get("payloads", [None] * len(ids)), "payloads")
    if not len(ids) == len(vectors) == len(payloads):
        raise malformed("batch: ids, vectors and payloads must have the same length")
    for found, vector, members in zip(ids, vectors, payloads, strict=True):
        row = payload({} if members is None else members, "payloads")
        yield edge.Point(found, vector_struct(vector, config), row)


def _vector_rows(value: object, count: int) -> list[object]:
    """Return one vector struct per point from a list, or from a list per vector name."""
    if isinstance(value, list):
        return value
    columns = {name: items(column, name) for name, column in objects(value, "vectors").items()}
    if any(len(column) != count for column in columns.values()):
        raise malformed("batch: every list of vectors must be as long as ids")
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def delete_points(value: object, _config: CollectionConfig) -> Updates:
    body = fields(value, "delete", _SELECTION)
    return _selected(
        body, edge.UpdateOperation.delete_points, edge.UpdateOperation.delete_points_by_filter
    )


def set_payload(value: object, _config: CollectionConfig) -> Updates:
    body = fields(value, "set_payload", _PAYLOAD)
    members, key = _members(body)
    return _selected(
        body,
        lambda ids: edge.UpdateOperation.set_payload(ids, members, key=key),
        lambda wanted: edge.UpdateOperation.set_payload_by_filter(wanted, members, key=key),
    )


def overwrite_payload(value: object, _config: CollectionConfig) -> Updates:
    body = fields(value, "overwrite_payload", _PAYLOAD)
    members, key = _members(body)
    return _selected(
        body,
        lambda ids: edge.UpdateOperation.overwrite_payload(ids, members, key=key),
        lambda wanted: edge.UpdateOperation.overwrite_payload_by_filter(wanted, members, key=key),
    )


def _members(body: JsonObject) -> tuple[JsonObject, str | None]:
    members = payload(required(body, "payload", "set_payload"), "payload")
    return members, text(body["key"], "key") if "key" in body else None


def delete_payload(value: object, _config: CollectionConfig) -> Updates:
    body = fields(value, "delete_payload", _SELECTION | {"keys"})
    keys = texts(required(body, "keys", "delete_payload"), "keys")
    return _selected(
        body,
        lambda ids: edge.UpdateOperation.delete_payload(ids, keys),
        lambda wanted: edge.UpdateOperation.delete_payload_by_filter(wanted, keys),
    )


def clear_payload(value: object, _config: CollectionConfig) -> Updates:
    body = fields(value, "clear_payload", _SELECTION)
    return _selected(
        body, edge.UpdateOperation.clear_payload, edge.UpdateOperation.clear_payload_by_filter
    )


def update_vectors(value: object, config: CollectionConfig) -> Updates:
    body = fields(value, "update_vectors", frozenset({"points", "shard_key", "update_filter"}))
    points = [
        _point_vectors(item, config)
        for item in items(required(_unsharded(body), "points", "update_vectors"), "points")
    ]
    condition = optional_filter(body, "update_filter")
    return [Update(edge.UpdateOperation.update_vectors(points, condition=condition), len(points))]


def _point_vectors(value: object, config: CollectionConfig) -> edge.PointVectors:
    body = fields(value, "point", frozenset({"id", "vector"}))
    vectors: VectorStruct = vector_struct(required(body, "vector", "point"), config)
    return edge.PointVectors(point_id(required(body, "id", "point")), vectors)


def delete_vectors(value: object, config: CollectionConfig) -> Updates:
    body = fields(value, "delete_vectors", _SELECTION | {"vector"})
    names = [
        known_name(name, config)
        for name in texts(required(body, "vector", "delete_vectors"), "vector")
    ]
    return _selected(
        body,
        lambda ids: edge.UpdateOperation.delete_vectors(ids, names),
        lambda wanted: edge.UpdateOperation.delete_vectors_by_filter(wanted, names),
    )


def _selected(
    body: JsonObject,
    by_ids: Callable[[list[edge.PointId]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
) -> Updates:
    """Return the update of the points that `points` or `filter` selects."""
    _unsharded(body)
    if "points" in body:
        ids: list[edge.PointId] = [*point_ids(body["points"], "points")]
        return [Update(by_ids(ids), len(ids))]
    if "filter" not in body:
        raise malformed("expected either `points` or `filter`")
    return [Update(by_filter(filter_of(body["filter"])), 1)]


def _unsharded(body: JsonObject) -> JsonObject:
    if "shard_key" in body:
        raise unsupported("shard_key")
    return body


Reader = Callable[[object, CollectionConfig], Updates]

READERS: dict[str, Reader] = {
    "upsert": upsert,
    "delete": delete_points,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batch(value: object, config: CollectionConfig) -> list[Updates]:
    """Return the operations of each step of an update batch, in order."""
    body = fields(value, "batch", frozenset({"operations"}))
    steps = items(required(body, "operations", "batch"), "operations")
    return [_step(step, config) for step in steps]


def _step(value: object, config: CollectionConfig) -> Updates:
    body = fields(value, "operation", READERS.keys())
    if len(body) != 1:
        raise malformed("operation: expected exactly one of " + ", ".join(READERS))
    [(kind, operand)] = body.items()
    return READERS[kind](operand, config)
