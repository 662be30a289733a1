"""Searches and other reads of points: their JSON, the engine's requests, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import qdrant_edge as edge

from .config import CollectionConfig, NamedVector, Vector
from .filters import RequestFilter
from .wire import PointId, Positive, Wire

JsonObject = dict[str, Any]
# Positions of two points in a sample, and their score.
_Pair = tuple[int, int, float]

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
        vector = config.engine_vector(wanted, self.using)
        return edge.QueryRequest(
            query=edge.Query.Nearest(vector, using=self.using),
            filter=self.filter.engine() if self.filter else None,
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
            filter=self.filter.engine() if self.filter else None,
            with_payload=self.with_payload,
            with_vector=self.with_vector,
        )
        records, following = shard.scroll(page)
        return {
            "points": [_record_json(record) for record in records],
            "next_page_offset": following,
        }


class Count(Wire):
    filter: RequestFilter | None = None
    exact: bool = True

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> JsonObject:
        wanted = edge.CountRequest(
            filter=self.filter.engine() if self.filter else None, exact=self.exact
        )
        return {"count": shard.count(wanted)}


class MatrixPairs(Wire):
    """A sample of `sample` points, and for each the `limit` nearest others of the sample."""

    using: str
    filter: RequestFilter | None = None
    sample: Positive = 10
    limit: Positive = 3

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> JsonObject:
        ids, pairs = self._matrix(shard)
        return {"pairs": [{"a": ids[a], "b": ids[b], "score": score} for a, b, score in pairs]}

    def _matrix(self, shard: edge.EdgeShard) -> tuple[list[edge.PointId], list[_Pair]]:
        """Return the ids of the sample and every pair, the best of each row first."""
        sampled = sorted(self._sample(shard), key=lambda point: str(point.id))
        rows = {point.id: row for row, point in enumerate(sampled)}
        among = edge.Filter(must=[edge.HasIdCondition(set(rows))])
        queries = [self._nearest(point, among) for point in sampled]
        pairs: list[_Pair] = []
        for row, hits in enumerate(shard.query_batch(edge.QueryBatchRequest(queries))):
            found = [(row, rows[hit.id], hit.score) for hit in hits if rows[hit.id] != row]
            pairs += found[: self.limit]
        return [point.id for point in sampled], pairs

    def _sample(self, shard: edge.EdgeShard) -> list[edge.ScoredPoint]:
        wanted = [self.filter.engine()] if self.filter is not None else []
        return shard.query(
            edge.QueryRequest(
                query=edge.Sample.Random,
                limit=self.sample,
                filter=edge.Filter(must=[edge.HasVectorCondition(self.using), *wanted]),
                with_vector=[self.using],
            )
        )

    def _nearest(self, point: edge.ScoredPoint, among: edge.Filter) -> edge.QueryRequest:
        [vector] = cast("dict[str, NamedVector]", point.vector).values()
        return edge.QueryRequest(
            query=edge.Query.Nearest(vector, using=self.using),
            filter=among,
            params=SEARCH_PARAMS,
            limit=self.limit + 1,  # the point itself is mostly its own nearest
        )


class MatrixOffsets(MatrixPairs):
    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> JsonObject:
        ids, pairs = self._matrix(shard)
        return {
            "offsets_row": [row for row, _, _ in pairs],
            "offsets_col": [column for _, column, _ in pairs],
            "scores": [score for _, _, score in pairs],
            "ids": ids,
        }


def _record_json(record: edge.Record | edge.ScoredPoint) -> JsonObject:
    body: JsonObject = {"id": record.id}
    if record.payload is not None:
        body["payload"] = record.payload
    if record.vector is not None:
        body["vector"] = _vector_json(record.vector)
    return body


def _scored_json(point: edge.ScoredPoint) -> JsonObject:
    return _record_json(point) | {"version": point.version, "score": point.score}


def _vector_json(vector: object) -> object:
    """Return a stored vector, or a point's named vectors, as Qdrant shows them."""
    if isinstance(vector, Mapping):
        return {name: _vector_json(each) for name, each in vector.items()}
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector
