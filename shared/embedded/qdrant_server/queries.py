"""Search requests: Qdrant's universal query as the engine's query objects."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import qdrant_edge as edge

from .config import CollectionConfig
from .errors import malformed, unsupported
from .fields import (
    JsonObject,
    boolean,
    chosen,
    fields,
    items,
    number,
    numbers,
    optional,
    required,
    text,
    whole,
)
from .filters import filter_of, optional_filter
from .ids import PointId, point_id
from .records import payload_selection, vector_selection
from .vectors import NamedVector, is_sparse, named_vector

_COMMON = frozenset({"prefetch", "query", "using", "filter", "score_threshold", "params", "limit"})
_PREFETCH = _COMMON | {"lookup_from"}
_QUERY = _PREFETCH | {"offset", "with_vector", "with_payload", "shard_key"}
_PARAMS = frozenset({"hnsw_ef", "exact", "quantization", "indexed_only", "acorn", "idf"})
_ORDER_BY = frozenset({"key", "direction", "start_from"})
_RECOMMEND = frozenset({"positive", "negative", "strategy"})
_DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
_STRATEGIES = {
    "average_vector": "average_vector",
    "best_score": "best_score",
    "sum_scores": "sum_scores",
}
_LIMIT = 10
_RRF_K = 2


@dataclass(frozen=True)
class QueryReader:
    """Reads queries against one collection, whose points they may name by id."""

    config: CollectionConfig
    stored_vector: Callable[[PointId, str], NamedVector]

    def request(self, value: object) -> edge.QueryRequest:
        body = fields(value, "query", _QUERY)
        parts = self._parts(body)
        return edge.QueryRequest(
            query=parts.query,
            prefetches=parts.prefetches,
            filter=parts.filter,
            params=parts.params,
            score_threshold=parts.score_threshold,
            limit=parts.limit,
            offset=optional(body, "offset", whole, 0),
            with_payload=optional(body, "with_payload", payload_selection, False),
            with_vector=optional(body, "with_vector", vector_selection, False),
        )

    def _prefetch(self, value: object) -> edge.Prefetch:
        parts = self._parts(fields(value, "prefetch", _PREFETCH))
        return edge.Prefetch(
            query=parts.query,
            prefetches=parts.prefetches,
            filter=parts.filter,
            params=parts.params,
            score_threshold=parts.score_threshold,
            limit=parts.limit,
        )

    def _parts(self, body: JsonObject) -> _Parts:
        if "lookup_from" in body or "shard_key" in body:
            raise unsupported("lookup_from and shard_key")
        reading = _QueryOperand(self, optional(body, "using", text, ""))
        query = reading.read(body["query"]) if "query" in body else None
        return _Parts(
            query=query,
            prefetches=[self._prefetch(item) for item in _prefetches(body)],
            filter=_without(reading.used_ids, optional_filter(body)),
            params=_params(body.get("params", {})),
            score_threshold=(
                number(body["score_threshold"], "score_threshold")
                if "score_threshold" in body
                else None
            ),
            limit=whole(body.get("limit", _LIMIT), "limit", minimum=1),
        )


@dataclass(frozen=True)
class _Parts:
    """What queries and prefetches have in common."""

    query: edge.ScoringQueryType | None
    prefetches: list[edge.Prefetch]
    filter: edge.Filter | None
    params: edge.SearchParams
    score_threshold: float | None
    limit: int


@dataclass
class _QueryOperand:
    """Reads the `query` member and remembers the points that it names."""

    reader: QueryReader
    using: str
    used_ids: set[PointId] = field(default_factory=set)

    def read(self, value: object) -> edge.ScoringQueryType:
        if not isinstance(value, dict) or is_sparse(value):
            return edge.Query.Nearest(self._vector(value), using=self.using)
        for name, read in self._by_member().items():
            if name in value:
                return read(value)
        raise unsupported(f"query with {', '.join(value) or 'no members'}")

    def _by_member(self) -> dict[str, Callable[[JsonObject], edge.ScoringQueryType]]:
        return {
            "nearest": self._nearest,
            "recommend": self._recommend,
            "order_by": lambda value: order_by(value["order_by"], "order_by"),
            "fusion": _fusion,
            "rrf": _rrf,
            "sample": _sample,
        }

    def _vector(self, value: object) -> NamedVector:
        """Return a given vector, or that of the point with the given id."""
        if isinstance(value, list) or is_sparse(value):
            return named_vector(value, self.using, self.reader.config)
        if isinstance(value, dict):
            raise unsupported("inference from documents and images")
        found = point_id(value)
        self.used_ids.add(found)
        return self.reader.stored_vector(found, self.using)

    def _vectors(self, body: JsonObject, name: str) -> list[NamedVector]:
        return [self._vector(item) for item in items(body.get(name, []), name)]

    def _nearest(self, value: JsonObject) -> edge.ScoringQueryType:
        body = fields(value, "query", frozenset({"nearest", "mmr"}))
        vector = self._vector(body["nearest"])
        if "mmr" not in body:
            return edge.Query.Nearest(vector, using=self.using)
        mmr = fields(body["mmr"], "mmr", frozenset({"diversity", "candidates_limit"}))
        return edge.Mmr(
            vector,
            lambda_=1.0 - number(mmr.get("diversity", 0.5), "diversity"),
            candidates_limit=whole(mmr.get("candidates_limit", 100), "candidates_limit", minimum=1),
            using=self.using,
        )

    def _recommend(self, value: JsonObject) -> edge.ScoringQueryType:
        whole_body = fields(value, "query", frozenset({"recommend"}))
        body = fields(whole_body["recommend"], "recommend", _RECOMMEND)
        positive = self._vectors(body, "positive")
        negative = self._vectors(body, "negative")
        if not positive and not negative:
            raise malformed("recommend: at least one positive or negative example is needed")
        strategy = chosen(body.get("strategy", "average_vector"), "strategy", _STRATEGIES)
        if strategy == "average_vector":
            return edge.Query.Nearest(_average(positive, negative), using=self.using)
        examples = edge.RecommendQuery(positive, negative)
        if strategy == "best_score":
            return edge.Query.RecommendBestScore(examples, using=self.using)
        return edge.Query.RecommendSumScores(examples, using=self.using)


def order_by(value: object, where: str) -> edge.OrderBy:
    """Return the order asked for: a key, or an object with direction and start."""
    body = fields({"key": value} if isinstance(value, str) else value, where, _ORDER_BY)
    start = body.get("start_from")
    if start is not None and not isinstance(start, int | float | str):
        raise malformed("start_from: expected a number or a date-time")
    return edge.OrderBy(
        text(required(body, "key", where), "key"),
        direction=chosen(body["direction"], "direction", _DIRECTIONS)
        if "direction" in body
        else None,
        start_from=start,
    )


def _prefetches(body: JsonObject) -> list[object]:
    prefetch = body.get("prefetch", [])
    return prefetch if isinstance(prefetch, list) else [prefetch]


def _without(used_ids: set[PointId], wanted: edge.Filter | None) -> edge.Filter | None:
    """Return the filter without the points that the query itself names, as Qdrant does."""
    if not used_ids:
        return wanted
    return edge.Filter(
        must=[wanted] if wanted is not None else None,
        must_not=[edge.HasIdCondition(set(used_ids))],
    )


def _params(value: object) -> edge.SearchParams:
    body = fields(value, "params", _PARAMS)
    return edge.SearchParams(
        hnsw_ef=whole(body["hnsw_ef"], "hnsw_ef") if "hnsw_ef" in body else None,
        exact=optional(body, "exact", boolean, False),
        indexed_only=optional(body, "indexed_only", boolean, False),
        idf=_idf(body["idf"]) if "idf" in body else None,
        # The engine's bytes choose, the vectors themselves score: nobody sees the difference.
        quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0),
    )


def _idf(value: object) -> edge.IdfParams:
    """Return over which points word frequencies are counted: all, or a filter's."""
    if value == "global":
        return edge.IdfParams()
    body = fields(value, "idf", frozenset({"corpus"}))
    return edge.IdfParams(corpus=filter_of(required(body, "corpus", "idf"), "corpus"))


def _fusion(value: JsonObject) -> edge.ScoringQueryType:
    kind = fields(value, "query", frozenset({"fusion"}))["fusion"]
    if kind == "rrf":
        return edge.Fusion.Rrf(k=_RRF_K)  # type: ignore[return-value]
    if kind == "dbsf":
        return edge.Fusion.Dbsf()  # type: ignore[return-value]
    raise malformed(f"fusion: unknown variant `{kind}`, expected `rrf` or `dbsf`")


def _rrf(value: JsonObject) -> edge.ScoringQueryType:
    outer = fields(value, "query", frozenset({"rrf"}))
    body = fields(outer["rrf"], "rrf", frozenset({"k", "weights"}))
    return edge.Fusion.Rrf(  # type: ignore[return-value]
        k=whole(body.get("k", _RRF_K), "k", minimum=1),
        weights=numbers(body["weights"], "weights") if "weights" in body else None,
    )


def _sample(value: JsonObject) -> edge.ScoringQueryType:
    if fields(value, "query", frozenset({"sample"}))["sample"] != "random":
        raise malformed("sample: expected `random`")
    return edge.Sample.Random


def _average(positive: list[NamedVector], negative: list[NamedVector]) -> list[float]:
    """Return Qdrant's average vector: the positives' mean, moved away from the negatives'."""
    if not positive:
        raise malformed("recommend: average_vector needs a positive example")
    liked = _mean(positive)
    if not negative:
        return liked
    return [2 * like - dislike for like, dislike in zip(liked, _mean(negative), strict=True)]


def _mean(vectors: list[NamedVector]) -> list[float]:
    dense = [cast("list[float]", vector) for vector in vectors if isinstance(vector, list)]
    if len(dense) != len(vectors):
        raise unsupported("average_vector over sparse vectors")
    return [sum(column) / len(dense) for column in zip(*dense, strict=True)]
