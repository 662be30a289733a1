"""A recall's Scope and the write guards as Qdrant filters; each one names the tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qdrant_client import models

from shared.domain.memory import tag_keys
from shared.domain.scope import EVERYTHING, Scope, longest_prefixes
from shared.domain.tenant import DEFAULT_TENANT
from shared.vectors.points import (
    ARCHIVED,
    MEMORY_ID,
    Point,
    StoredPoint,
    Vector,
    point_id,
    sent_vector,
)
from shared.vectors.sparse import SparseVector

_Conditions = list[models.Condition]


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `limit` nearest of one named vector; words for `bm25`, unit vectors otherwise."""

    kind: Literal["dense", "context", "bm25"]
    vector: Vector | Sequence[float] | SparseVector
    limit: int
    scope: Scope = EVERYTHING

    @property
    def is_empty(self) -> bool:
        return isinstance(self.vector, SparseVector) and not self.vector


class Hit(NamedTuple):
    """A memory's id with the score of its query: cosine, or BM25 (unbounded)."""

    id: str
    score: float


def tenant_is(tenant: str) -> models.FieldCondition:
    """Raises: ValueError for an empty tenant, which would be everyone's."""
    if not tenant:
        raise ValueError("a vector store call needs a tenant")
    return _is("tenant", tenant)


def of_tenant(tenant: str) -> models.Filter:
    return models.Filter(must=[tenant_is(tenant)])


def request_of(tenant: str, query: VectorQuery) -> models.QueryRequest:
    return models.QueryRequest(
        query=sent_vector(query.vector),
        using=query.kind,
        filter=models.Filter(
            must=[tenant_is(tenant), *_fields(query.scope), *_tags(query.scope)],
            must_not=_hidden(query.scope) or None,
        ),
        limit=query.limit,
        with_payload=naming(tenant),
        with_vector=False,
    )


def naming(tenant: str) -> list[str] | bool:
    """Return the payload keys that name a hit's memory; none where the point's id names it."""
    return False if tenant == DEFAULT_TENANT else [MEMORY_ID]


def hits_of(points: Sequence[models.ScoredPoint]) -> list[Hit]:
    """Return each memory once; while its tenant is being upgraded it may have two points."""
    found: dict[str, Hit] = {}
    for point in points:
        key = str((point.payload or {}).get(MEMORY_ID, point.id))
        found.setdefault(key, Hit(key, point.score))
    return list(found.values())


def newest_wins(tenant: str, points: Sequence[Point]) -> models.Filter:
    """Match the tenant's stored points that `points` may replace: those of no newer version.

    An equal version may be replaced. A job that runs twice, or that embeds a text again after
    its context changed, writes the same version with the same or a better vector.
    """
    replaceable = [models.Filter(must=_not_newer(point)) for point in points]
    return models.Filter(must=[tenant_is(tenant)], should=replaceable)


def same_text(tenant: str, point: Point) -> models.Filter:
    """Match the stored point whose payload `point` may replace: its text must be the same."""
    must = [tenant_is(tenant), *_not_newer(point), _is("text_hash", point.payload["text_hash"])]
    return models.Filter(must=must)


def owned(tenant: str, ids: Sequence[str]) -> models.Filter:
    return models.Filter(must=[tenant_is(tenant), _of_memories(tenant, ids)])


def as_seen(tenant: str, seen: Sequence[StoredPoint]) -> models.Filter:
    """Match the points of `seen` that did not become newer; also one without a version."""
    unchanged = [
        models.Filter(
            must=[_ids([point.point_id])],
            must_not=[_range("payload_version", gt=point.payload_version)],
        )
        for point in seen
    ]
    return models.Filter(must=[tenant_is(tenant)], should=unchanged)


def parsed(text: str) -> int | str:
    """Return a point's id; only a point that another program wrote has a number."""
    return int(text) if text.isdecimal() else text


def foreign_points(tenants: Sequence[str], point_ids: Sequence[str] | None = None) -> models.Filter:
    """Match the points (of these ids) whose tenant is missing or none of `tenants`."""
    chosen = None if point_ids is None else [_ids(point_ids)]
    return models.Filter(must=chosen, must_not=[_any("tenant", tenants)])


def of_other_tenants(tenant: str, ids: Sequence[str]) -> models.Filter:
    """Match points with the ids of these memories' points that belong to another tenant."""
    return models.Filter(must=[_of_memories(tenant, ids)], must_not=[tenant_is(tenant)])


def others(tenant: str, memory_id: str) -> models.Filter:
    itself = [point_id(tenant, memory_id), memory_id]  # the latter by an older Eunoe
    return models.Filter(must=[tenant_is(tenant)], must_not=[_ids(itself)])


def _of_memories(tenant: str, ids: Sequence[str]) -> models.HasIdCondition:
    return _ids([point_id(tenant, each) for each in ids])


def _ids(point_ids: Sequence[str]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=[parsed(each) for each in point_ids])


def _not_newer(point: Point) -> _Conditions:
    return [_ids([point.point_id]), _range("payload_version", lte=point.payload_version)]


def _fields(scope: Scope) -> _Conditions:
    named = {"project": scope.project, "session_id": scope.session_id, "layer": scope.layer}
    found: _Conditions = [_is(key, value) for key, value in named.items() if value is not None]
    if scope.start_ms is not None or scope.end_ms is not None:
        found.append(_range("timestamp", gte=scope.start_ms, lte=scope.end_ms))
    return found


def _hidden(scope: Scope) -> _Conditions:
    """Return the conditions that hide a point; one on a key that it lacks does not."""
    found: _Conditions = []
    if scope.exclude_types:
        found.append(_any("type", scope.exclude_types))
    if excluded := tag_keys(scope.exclude_tags):
        found += [_any("tags", excluded), _any("tag_prefixes", longest_prefixes(excluded))]
    if (at_ms := scope.current_at_ms) is not None:
        found += [_is("state", ARCHIVED), _range("t_valid", gt=at_ms)]
        found.append(_range("t_invalid", lte=at_ms))
    return found


def _tags(scope: Scope) -> _Conditions:
    if not scope.stored_tags:
        return []
    key = "tags" if scope.tag_match == "exact" else "tag_prefixes"
    if scope.tag_mode == "any":
        return [_any(key, scope.stored_tags)]
    return [_is(key, each) for each in scope.stored_tags]


def _is(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


def _range(
    key: str, *, gt: int | None = None, gte: int | None = None, lte: int | None = None
) -> models.FieldCondition:
    return models.FieldCondition(key=key, range=models.Range(gt=gt, gte=gte, lte=lte))
