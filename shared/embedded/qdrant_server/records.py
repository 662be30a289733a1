"""What the engine returns, as the JSON that Qdrant's clients expect."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

import qdrant_edge as edge

from .errors import malformed
from .fields import JsonObject, fields, texts
from .vectors import vector_json

_SELECTOR = frozenset({"include", "exclude"})


def payload_selection(value: object, where: str) -> edge.WithPayloadType:
    """Return which part of the payload is wanted: all, none, these or all but these."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return texts(value, where)
    body = fields(value, where, _SELECTOR)
    if len(body) != 1:
        raise malformed(f"{where}: expected either `include` or `exclude`")
    [(kind, keys)] = body.items()
    if kind == "include":
        return edge.PayloadSelector.Include(texts(keys, kind))
    return edge.PayloadSelector.Exclude(texts(keys, kind))


def vector_selection(value: object, where: str) -> edge.WithVectorType:
    return value if isinstance(value, bool) else texts(value, where)


def record_json(record: edge.Record | edge.ScoredPoint) -> JsonObject:
    body: JsonObject = {"id": _id_json(record.id)}
    if record.payload is not None:
        body["payload"] = record.payload
    if record.vector is not None:
        body["vector"] = vector_json(record.vector)
    if record.order_value is not None:
        body["order_value"] = record.order_value
    return body


def scored_json(point: edge.ScoredPoint) -> JsonObject:
    return record_json(point) | {"version": point.version, "score": point.score}


def offset_json(offset: edge.PointId | None) -> int | str | None:
    return None if offset is None else _id_json(offset)


def _id_json(point_id: edge.PointId) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)
