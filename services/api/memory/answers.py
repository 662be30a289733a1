"""The answers of the routes of memories: AutoMem's keys, and the product's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from services.api.http.answers import Absent, Answer, Id, OnlyTrue, Success, Time, Unit, attribute
from services.api.memory.service import Queued
from shared.domain.memory import Memory, tag_prefixes

_Prefixes = Annotated[tuple[str, ...], BeforeValidator(tag_prefixes)]


class MemoryAnswer(Answer):
    """What is unset is absent."""

    id: Id
    memory_id: Id = attribute("id")
    content: str
    type: str
    confidence: Unit
    importance: Unit
    tags: tuple[str, ...] = attribute("all_tags")
    tag_prefixes: _Prefixes = attribute("all_tags")
    timestamp: Time
    updated_at: Time
    last_accessed: Time
    t_valid: Absent[Time] = None
    t_invalid: Absent[Time] = None
    metadata: dict[str, Any] = attribute("shown_metadata")
    summary: Absent[str] = None
    session_id: Absent[str] = None
    project: str
    layer: str
    relevance_score: Absent[float] = None
    archived: OnlyTrue = False
    archived_at: Absent[Time] = None
    protected: OnlyTrue = False
    protected_reason: Absent[str] = None
    version: int
    processed: bool = attribute("enriched")
    enriched: bool
    embedded: bool
    related: bool
    enriched_at: Absent[Time] = None


class FoundAnswer(Success):
    """A memory."""

    memory: MemoryAnswer


class StoredAnswer(Success):
    """A stored memory."""

    message: str = "Memory stored successfully"
    memory_id: Id
    id: Id
    stored_at: Time
    timestamp: Time
    updated_at: Time
    last_accessed: Time
    type: str
    confidence: Unit
    metadata: dict[str, Any]
    session_id: str | None
    qdrant: Literal["queued"] = "queued"
    embedding_status: Literal["provided", "queued"]
    enrichment: Literal["queued"] = "queued"
    enrichment_queued: bool
    embedding_queued: bool
    queued: bool
    query_time_ms: float

    @classmethod
    def of(
        cls, memory: Memory, queued: Queued, elapsed_ms: float, *, has_embedding: bool
    ) -> StoredAnswer:
        return cls(
            memory_id=memory.id,
            id=memory.id,
            stored_at=memory.timestamp,
            timestamp=memory.timestamp,
            updated_at=memory.updated_at,
            last_accessed=memory.last_accessed,
            type=memory.type,
            confidence=memory.confidence,
            metadata=memory.shown_metadata,
            session_id=memory.session_id,
            embedding_status="provided" if has_embedding else "queued",
            enrichment_queued=queued.enrich,
            embedding_queued=queued.embed,
            queued=queued.enrich and queued.embed,
            query_time_ms=elapsed_ms,
        )


class StoredBatchAnswer(Success):
    """Stored memories; their ids are in the order of the request."""

    message: str
    stored: int
    memory_ids: list[Id]
    qdrant: Literal["queued"] = "queued"
    enrichment: Literal["queued"] = "queued"
    enrichment_queued: bool
    embedding_queued: bool
    query_time_ms: float
    warnings: Absent[list[str]] = None

    @classmethod
    def of(
        cls, ids: list[str], queued: Queued, warnings: list[str], elapsed_ms: float
    ) -> StoredBatchAnswer:
        return cls(
            message=f"{len(ids)} memories stored successfully",
            stored=len(ids),
            memory_ids=ids,
            enrichment_queued=queued.enrich,
            embedding_queued=queued.embed,
            query_time_ms=elapsed_ms,
            warnings=warnings or None,
        )


class ChangedAnswer(Success):
    """What was changed."""

    message: str
    memory_id: Id
    updated_at: Absent[Time] = None


class PageAnswer(Success):
    """Memories with any of the tags."""

    tags: tuple[str, ...]
    count: int
    limit: int
    offset: int
    has_more: bool
    memories: list[MemoryAnswer]


class DeletedByTagAnswer(Success):
    """How many were deleted."""

    tags: tuple[str, ...]
    deleted_count: int
