"""Point: what Qdrant holds of a memory, built from the node by one function.

The payload holds the keys that filters need and nothing else: no content, no metadata, no score, no
access time. A key without a value is left out, so two equal memories give equal payloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from shared.domain.memory import Memory, tag_keys, tag_prefixes
from shared.domain.tenant import DEFAULT_TENANT
from shared.vectors.sparse import SparseVector

# `dense` is the memory alone, `context` the memory with what was said before it; a point
# may lack any of them. Qdrant multiplies the weights of `bm25` by the query words' IDF.
DENSE: Final = "dense"
DENSE_VECTORS: Final = (DENSE, "context")
SPARSE_VECTORS: Final = ("bm25",)

# Every key that is filtered on: an unindexed one makes its filter ten times slower.
PAYLOAD_INDEXES: Final[Mapping[str, models.PayloadSchemaType | models.KeywordIndexParams]] = {
    "tenant": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    **dict.fromkeys(
        ("project", "session_id", "layer", "type", "tags", "tag_prefixes", "speaker", "state"),
        models.PayloadSchemaType.KEYWORD,
    ),
    **dict.fromkeys(
        ("timestamp", "t_valid", "t_invalid", "payload_version"), models.PayloadSchemaType.INTEGER
    ),
}

# The payload key with the memory's id; the only key that a search of a tenant reads.
MEMORY_ID: Final = "memory_id"
ARCHIVED: Final = "archived"
# The keys that have the name and the value of the memory's own field.
_SAME_KEYS: Final = (
    *("project", "session_id", "layer", "type", "timestamp", "t_valid", "t_invalid"),
    *("archived", "version", "payload_version"),
)
Vector = NDArray[np.float32]
# This value never changes: another one would make every point of every tenant an orphan.
_TENANTS: Final = UUID("4f5c0b0e-6d0e-5b8e-9d43-1f2a7c1e8a55")


def point_id(tenant: str, memory_id: str) -> str:
    """Return the id of a memory's point: the memory's own id for the default tenant alone.

    Two tenants may hold memories of one id, as after a restore into a second tenant.
    """
    if tenant == DEFAULT_TENANT:
        return memory_id
    return str(uuid5(_TENANTS, f"{tenant}|{memory_id}"))


@dataclass(frozen=True, slots=True)
class Point:
    """A memory's vectors by name and its payload; `vectors` is empty for a payload alone."""

    id: str
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector | SparseVector]

    @property
    def point_id(self) -> str:
        return point_id(self.payload["tenant"], self.id)

    @property
    def payload_version(self) -> int:
        return int(self.payload["payload_version"])


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """The stored point of the memory `id`, under `point_id`; `dense` where it was requested."""

    id: str
    point_id: str
    payload_version: int
    text_hash: str
    payload: Mapping[str, Any]
    dense: Vector | None = None

    def stands_for(self, tenant: str) -> bool:
        """Return whether its id is the one that this memory of `tenant` has now.

        Older versions wrote every tenant's points under the memories' own ids.
        """
        return self.point_id == point_id(tenant, self.id)


def point_for(
    tenant: str,
    memory: Memory,
    *,
    text_hash: str,
    vectors: Mapping[str, Vector | SparseVector] | None = None,
) -> Point:
    """Return the point of `memory`; no other function maps node properties to payload keys.

    `text_hash` is of the text that the vectors were computed from. Empty sparse vectors are
    left out, since they hold no word by which the memory could be found.
    """
    tags = memory.all_tags
    payload = {
        "tenant": tenant,
        MEMORY_ID: memory.id,
        **{key: getattr(memory, key) for key in _SAME_KEYS},
        "tags": list(tag_keys(tags)),
        "tag_prefixes": list(tag_prefixes(tags)),
        # Filters read this keyword: the index of a boolean costs ten times as much per point
        # (34 of 37 ms among 30 000 points that are not in the HNSW index yet).
        "state": ARCHIVED if memory.archived else None,
        "speaker": memory.speaker.strip().casefold() if memory.speaker else None,
        "text_hash": text_hash,
    }
    kept = {
        name: vector
        for name, vector in (vectors or {}).items()
        if not isinstance(vector, SparseVector) or vector
    }
    return Point(
        memory.id, {key: value for key, value in payload.items() if value is not None}, kept
    )


def sent_vector(vector: Vector | Sequence[float] | SparseVector) -> Any:
    """Return the vector as qdrant-client takes it."""
    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices, values=vector.values)
    return np.asarray(vector, np.float32).tolist()


def struct_of(point: Point) -> models.PointStruct:
    vectors = {name: sent_vector(vector) for name, vector in point.vectors.items()}
    return models.PointStruct(id=point.point_id, vector=vectors, payload=dict(point.payload))


def stored_of(record: models.Record) -> StoredPoint:
    # A point without the key was written by an older version under the memory's own id.
    payload = {MEMORY_ID: str(record.id), **(record.payload or {})}
    version = payload.get("payload_version")
    dense = record.vector.get(DENSE) if isinstance(record.vector, dict) else None
    return StoredPoint(
        id=str(payload[MEMORY_ID]),
        point_id=str(record.id),
        payload_version=version if isinstance(version, int) else 0,
        text_hash=str(payload.get("text_hash", "")),
        payload=payload,
        dense=None if dense is None else np.asarray(dense, np.float32),
    )
