"""Search matrix: the similarities among a random sample of points, as pairs or as offsets."""

from __future__ import annotations

from typing import Any, cast

import qdrant_edge as edge

from .config import CollectionConfig
from .filters import RequestFilter
from .reads import SEARCH_PARAMS, id_json
from .vectors import NamedVector
from .wire import Positive, Wire

# Positions of two points in the sample, and their score.
_Pair = tuple[int, int, float]


class MatrixPairs(Wire):
    """A sample of `sample` points, and for each the `limit` nearest others of the sample."""

    using: str
    filter: RequestFilter | None = None
    sample: Positive = 10
    limit: Positive = 3

    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> dict[str, Any]:
        ids, pairs = self._matrix(shard)
        return {"pairs": [{"a": ids[a], "b": ids[b], "score": score} for a, b, score in pairs]}

    def _matrix(self, shard: edge.EdgeShard) -> tuple[list[int | str], list[_Pair]]:
        """Return the ids of the sample and every pair, the best of each row first."""
        sampled = sorted(self._sample(shard), key=lambda point: str(point.id))
        rows = {point.id: row for row, point in enumerate(sampled)}
        among = edge.Filter(must=[edge.HasIdCondition(set(rows))])
        queries = [self._nearest(point, among) for point in sampled]
        pairs: list[_Pair] = []
        for row, hits in enumerate(shard.query_batch(edge.QueryBatchRequest(queries))):
            found = [(row, rows[hit.id], hit.score) for hit in hits if rows[hit.id] != row]
            pairs += found[: self.limit]
        return [id_json(point.id) for point in sampled], pairs

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
    def run(self, shard: edge.EdgeShard, _config: CollectionConfig) -> dict[str, Any]:
        ids, pairs = self._matrix(shard)
        return {
            "offsets_row": [row for row, _, _ in pairs],
            "offsets_col": [column for _, column, _ in pairs],
            "scores": [score for _, _, score in pairs],
            "ids": ids,
        }
