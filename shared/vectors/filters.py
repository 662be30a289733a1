"""RecallFilter and the write guards as Qdrant filters; the tenant is in every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from shared.domain.memory import tag_keys, tag_prefixes
from shared.domain.tenant import DEFAULT_TENANT
from shared.vectors.points import (
    ARCHIVED,
    MEMORY_ID,
    Point,
    StoredPoint,
    point_id,
    speaker_key,
)
from shared.vectors.sparse import SparseVector

_Conditions = list[models.Condition]


@dataclass(frozen=True, slots=True)
class RecallFilter:
    """What a candidate must be; empty or None means any.

    `start_ms` and `end_ms` bound `timestamp`, both included. `current_at_ms` hides what is
    archived, not yet valid (t_valid after it) or expired (t_invalid at or before it).
    Tags, also excluded ones, match whole segments: `temp` hides `temp:x`, not `temp-1`.
    """

    tags: tuple[str, ...] = ()
    tag_mode: Literal["any", "all"] = "any"
    tag_match: Literal["exact", "prefix"] = "prefix"
    exclude_tags: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    project: str | None = None
    session_id: str | None = None
    layer: str | None = None
    types: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = ()
    current_at_ms: int | None = None
    speaker: str | None = None


NO_FILTER = RecallFilter()


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `limit` nearest of one named vector; words for `bm25`, unit vectors otherwise."""

    kind: Literal["dense", "context", "bm25"]
    vector: NDArray[np.float32] | Sequence[float] | SparseVector
    limit: int
    filter: RecallFilter = NO_FILTER


class Hit(NamedTuple):
    """A memory's id with the score of its query: cosine, or BM25 (unbounded)."""

    id: str
    score: float


def tenant_is(tenant: str) -> models.FieldCondition:
    """Raises: ValueError for an empty tenant, which would be everyone's."""
    if not tenant:
        raise ValueError("a vector store call needs a tenant")
    return _is("tenant", tenant)


def is_empty(query: VectorQuery) -> bool:
    return isinstance(query.vector, SparseVector) and not query.vector


def request_of(tenant: str, query: VectorQuery) -> models.QueryRequest:
    vector: Any = query.vector
    if isinstance(vector, SparseVector):
        vector = models.SparseVector(indices=vector.indices, values=vector.values)
    else:
        vector = np.asarray(vector, np.float32).tolist()
    return models.QueryRequest(
        query=vector,
        using=query.kind,
        filter=recall_filter(tenant, query.filter),
        limit=query.limit,
        with_payload=naming(tenant),
        with_vector=False,
    )


def naming(tenant: str) -> list[str] | bool:
    """The payload that tells a hit's memory: none where the point's id does."""
    return False if tenant == DEFAULT_TENANT else [MEMORY_ID]


def hits_of(points: Sequence[models.ScoredPoint]) -> list[Hit]:
    """Each memory once: for a while it has two points, after an upgrade of its tenant."""
    found: dict[str, Hit] = {}
    for point in points:
        key = str((point.payload or {}).get(MEMORY_ID, point.id))
        found.setdefault(key, Hit(key, point.score))
    return list(found.values())


def recall_filter(tenant: str, wanted: RecallFilter) -> models.Filter:
    must = [tenant_is(tenant), *_scope(wanted), *_tags(wanted)]
    return models.Filter(must=must, must_not=_hidden(wanted) or None)


def newest_wins(tenant: str, points: Sequence[Point]) -> models.Filter:
    """The stored points that `points` may replace: no newer version, and of `tenant`.

    Equal versions may be replaced: running a job twice, or embedding a text again because
    its context changed, writes the same version with the same or a better vector.
    """
    return models.Filter(
        must=[tenant_is(tenant)],
        should=[models.Filter(must=_not_newer(point)) for point in points],
    )


def same_text(tenant: str, point: Point) -> models.Filter:
    """The stored point whose payload `point` may replace: its vectors are of the same text."""
    must = [tenant_is(tenant), *_not_newer(point), _is("text_hash", point.payload["text_hash"])]
    return models.Filter(must=must)


def owned(tenant: str, ids: Sequence[str]) -> models.Filter:
    return models.Filter(must=[tenant_is(tenant), _under(tenant, ids)])


def as_seen(tenant: str, seen: Sequence[StoredPoint]) -> models.Filter:
    """The points of `seen` that are no newer than they were; also one without a version."""
    return models.Filter(
        must=[tenant_is(tenant)],
        should=[
            models.Filter(
                must=[models.HasIdCondition(has_id=[parsed(point.point_id)])],
                must_not=[_range("payload_version", gt=point.payload_version)],
            )
            for point in seen
        ],
    )


def parsed(text: str) -> int | str:
    """A point's id; a number only where somebody else wrote the point: ours are UUIDs."""
    return int(text) if text.isdecimal() else text


def strays(tenants: Sequence[str], point_ids: Sequence[str] | None = None) -> models.Filter:
    """The points (of these ids) that are of none of `tenants`; most name no tenant at all."""
    chosen = None
    if point_ids is not None:
        chosen = [models.HasIdCondition(has_id=[parsed(each) for each in point_ids])]
    return models.Filter(must=chosen, must_not=[_any("tenant", tenants)])


def in_the_way(tenant: str, ids: Sequence[str]) -> models.Filter:
    """What stands where these memories' points belong, and is not of `tenant`."""
    return models.Filter(must=[_under(tenant, ids)], must_not=[tenant_is(tenant)])


def others(tenant: str, memory_id: str) -> models.Filter:
    itself = [point_id(tenant, memory_id), memory_id]  # the latter by an older Eunoe
    return models.Filter(must=[tenant_is(tenant)], must_not=[models.HasIdCondition(has_id=itself)])


def _under(tenant: str, ids: Sequence[str]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=[parsed(point_id(tenant, each)) for each in ids])


def _not_newer(point: Point) -> _Conditions:
    return [
        models.HasIdCondition(has_id=[point.point_id]),
        _range("payload_version", lte=point.payload_version),
    ]


def _scope(wanted: RecallFilter) -> _Conditions:
    named = {
        "project": wanted.project,
        "session_id": wanted.session_id,
        "layer": wanted.layer,
        "speaker": speaker_key(wanted.speaker),
    }
    found: _Conditions = [_is(key, value) for key, value in named.items() if value is not None]
    if wanted.types:
        found.append(_any("type", wanted.types))
    if wanted.start_ms is not None or wanted.end_ms is not None:
        found.append(_range("timestamp", gte=wanted.start_ms, lte=wanted.end_ms))
    return found


def _hidden(wanted: RecallFilter) -> _Conditions:
    """What must not be; a key that a point lacks hides nothing."""
    found: _Conditions = []
    if wanted.exclude_types:
        found.append(_any("type", wanted.exclude_types))
    if excluded := tag_keys(wanted.exclude_tags):
        found += [_any("tags", excluded), _any("tag_prefixes", _prefix_keys(excluded))]
    if wanted.current_at_ms is not None:
        found += _not_current(wanted.current_at_ms)
    return found


def _tags(wanted: RecallFilter) -> _Conditions:
    exact = wanted.tag_match == "exact"
    key = "tags" if exact else "tag_prefixes"
    values = tag_keys(wanted.tags) if exact else _prefix_keys(wanted.tags)
    if not values:
        return []
    return [_any(key, values)] if wanted.tag_mode == "any" else [_is(key, each) for each in values]


def _prefix_keys(tags: Sequence[str]) -> tuple[str, ...]:
    """`Proj/Alpha` as it stands among tag_prefixes: its own longest prefix."""
    return tuple(dict.fromkeys((tag, *tag_prefixes([tag]))[-1] for tag in tag_keys(tags)))


def _not_current(at_ms: int) -> _Conditions:
    return [
        _is("state", ARCHIVED),
        _range("t_valid", gt=at_ms),
        _range("t_invalid", lte=at_ms),
    ]


def _is(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


def _range(
    key: str, *, gt: int | None = None, gte: int | None = None, lte: int | None = None
) -> models.FieldCondition:
    return models.FieldCondition(key=key, range=models.Range(gt=gt, gte=gte, lte=lte))
