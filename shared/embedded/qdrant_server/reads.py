"""Searches and other reads of points: their JSON, the engine's requests, and the answers."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge

from .config import CollectionConfig
from .filters import RequestFilter, optional_engine
from .vectors import Vector, engine_vector, vector_json
from .wire import PointId, Positive, Wire

JsonObject = dict[str, Any]

# The engine selects candidates by int8 copies of the vectors, twice as many as are wanted, and
# scores them by the vectors themselves.
SEARCH_PARAMS = edge.SearchParams(
    quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0)
)


class Nearest(Wire):
    nearest: Vector


class Query(Wire):
    """The points nearest to a vector."""

    query: Vector | Nearest
    using: str
    filter: RequestFilter | None = None
    score_threshold: float | None = None
    limit: Positive = 10
    with_payload: bool | list[str] = False
    with_vector: bool | list[str] = False

    def engine(self, config: CollectionConfig) -> edge.QueryRequest:
        wanted = self.query.nearest if isinstance(self.query, Nearest) else self.query
        vector = engine_vector(wanted, self.using, config)
        return edge.QueryRequest(
            query=edge.Query.Nearest(vector, using=self.using),
            filter=optional_engine(self.filter),
            params=SEARCH_PARAMS,
            score_threshold=self.score_threshold,
            limit=self.limit,
            with_payload=self.with_payload,
            with_vector=self.with_vector,
        )


class QueryBatch(Wire):
    searches: list[Query]

    def run(self, shard: edge.EdgeShard, config: CollectionConfig) -> list[JsonObject]:
        requests = [query.engine(config) for query in self.searches]
        found = shard.query_batch(edge.QueryBatchRequest(requests))
        return [{"points": [_scored_json(point) for point in points]} for points in found]


class Retrieve(Wire):
    ids: list[PointId]
    with_payload: bool | list[str] = True
    with_vector: bool | list[str] = False

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> list[JsonObject]:
        ids: list[edge.PointId] = [*self.ids]
        found = shard.retrieve(ids, self.with_payload, self.with_vector)
        return [_record_json(record) for record in found]


class Scroll(Wire):
    """A page of points in the order of their ids, from `offset` on."""

    offset: PointId | None = None
    limit: Positive = 10
    filter: RequestFilter | None = None
    with_payload: bool | list[str] = True
    with_vector: bool | list[str] = False

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> JsonObject:
        page = edge.ScrollRequest(
            offset=self.offset,
            limit=self.limit,
            filter=optional_engine(self.filter),
            with_payload=self.with_payload,
            with_vector=self.with_vector,
        )
        records, following = shard.scroll(page)
        return {
            "points": [_record_json(record) for record in records],
            "next_page_offset": None if following is None else id_json(following),
        }


class Count(Wire):
    filter: RequestFilter | None = None
    exact: bool = True

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> JsonObject:
        wanted = edge.CountRequest(filter=optional_engine(self.filter), exact=self.exact)
        return {"count": shard.count(wanted)}


def _record_json(record: edge.Record | edge.ScoredPoint) -> JsonObject:
    body: JsonObject = {"id": id_json(record.id)}
    if record.payload is not None:
        body["payload"] = record.payload
    if record.vector is not None:
        body["vector"] = vector_json(record.vector)
    return body


def _scored_json(point: edge.ScoredPoint) -> JsonObject:
    return _record_json(point) | {"version": point.version, "score": point.score}


def id_json(point_id: edge.PointId) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)
