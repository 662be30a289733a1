"""What the API answers, as JSON Schema: the keys that a client may count on.

Bodies may hold more than these: they are supersets of AutoMem's and of the seeds' shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_MAYBE_WHOLE: Schema = {"type": ["integer", "null"]}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_ID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_UNIT: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_ANY: Schema = {"type": "object"}
_SUCCESS: Schema = {"type": "string", "enum": ["success"]}


def shape(name: str) -> Schema:
    """A reference to one of SHAPES."""
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(description: str, /, optional: Schema | None = None, **needed: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": {**needed, **(optional or {})},
        "required": list(needed),
    }


_MEMORY = _object(
    "What is unset is absent",
    {
        "t_invalid": _TIME,
        "summary": _TEXT,
        "session_id": _TEXT,
        "relevance_score": _NUMBER,
        "archived": _FLAG,
        "enriched_at": _TIME,
    },
    id=_ID,
    memory_id=_ID,
    content=_TEXT,
    type=_TEXT,
    confidence=_UNIT,
    importance=_UNIT,
    tags=_list_of(_TEXT),
    tag_prefixes=_list_of(_TEXT),
    timestamp=_TIME,
    updated_at=_TIME,
    last_accessed=_TIME,
    metadata=_ANY,
    project=_TEXT,
    layer=_TEXT,
    version=_WHOLE,
    enriched=_FLAG,
    embedded=_FLAG,
)
_REFERENCE: Schema = {"$ref": "#/components/schemas/Memory"}
_ROW = _object(
    "One memory with why it stands where it stands",
    {
        "deduped_from": _list_of(_ID),
        "relation_score": _NUMBER,
        "related_to": _list_of(_ANY),
        "expanded_from_entity": _TEXT,
        "outside_tag_scope": _FLAG,
        "state_replaces": _ID,
    },
    id=_ID,
    match_type=_TEXT,
    source={"type": "string", "enum": ["qdrant", "graph"]},
    match_score=_NUMBER,
    original_score=_NUMBER,
    score=_NUMBER,
    final_score=_NUMBER,
    score_components={
        "type": "object",
        "properties": {"relevance_gated": _FLAG},
        "additionalProperties": {"type": ["number", "boolean"]},
    },
    memory=_REFERENCE,
    relations=_list_of(_ANY),
)
_ASSOCIATED: Schema = {
    "anyOf": [
        _object(
            "One relation",
            status=_SUCCESS,
            message=_TEXT,
            memory1_id=_ID,
            memory2_id=_ID,
            relation_type=_TEXT,
            strength=_UNIT,
        ),
        _object(
            "Many relations",
            status={"type": "string", "enum": ["success", "partial_success"]},
            created_count=_WHOLE,
            failed_count=_WHOLE,
            succeeded=_list_of(_ANY),
            failed=_list_of(_object("One that failed", index=_WHOLE, reason=_TEXT)),
            summary=_TEXT,
        ),
    ]
}
SHAPES: Mapping[str, Schema] = {
    "Error": _object(
        "Every error; `error`, `message` and `detail` say the same, for different clients",
        status={"type": "string", "enum": ["error"]},
        code=_WHOLE,
        error=_TEXT,
        message=_TEXT,
        detail=_TEXT,
        request_id=_TEXT,
    ),
    "Memory": _MEMORY,
    "Found": _object("A memory", status=_SUCCESS, memory=_REFERENCE),
    "Stored": _object(
        "A stored memory",
        status=_SUCCESS,
        message=_TEXT,
        memory_id=_ID,
        id=_ID,
        stored_at=_TIME,
        timestamp=_TIME,
        type=_TEXT,
        confidence=_UNIT,
        qdrant=_TEXT,
        embedding_status=_TEXT,
        enrichment=_TEXT,
        enrichment_queued=_FLAG,
        embedding_queued=_FLAG,
        query_time_ms=_NUMBER,
    ),
    "StoredBatch": _object(
        "Stored memories; their ids are in the order of the request",
        {"warnings": _list_of(_TEXT)},
        status=_SUCCESS,
        stored=_WHOLE,
        memory_ids=_list_of(_ID),
        qdrant=_TEXT,
        enrichment=_TEXT,
        query_time_ms=_NUMBER,
    ),
    "Changed": _object("What was changed", status=_SUCCESS, message=_TEXT, memory_id=_ID),
    "Page": _object(
        "Memories with any of the tags",
        status=_SUCCESS,
        tags=_list_of(_TEXT),
        count=_WHOLE,
        limit=_WHOLE,
        offset=_WHOLE,
        has_more=_FLAG,
        memories=_list_of(_REFERENCE),
    ),
    "DeletedByTag": _object(
        "How many went", status=_SUCCESS, tags=_list_of(_TEXT), deleted_count=_WHOLE
    ),
    "Related": _object(
        "Related memories in short",
        status=_SUCCESS,
        memory_id=_TEXT,
        count=_WHOLE,
        related_memories=_list_of(_ANY),
        relationship_types=_list_of(_TEXT),
        max_depth=_WHOLE,
        limit=_WHOLE,
    ),
    "Associated": _ASSOCIATED,
    "RecallResult": _ROW,
    "Recalled": _object(
        "Memories, best first; blocks appear where the request asks for what they tell",
        {
            "degraded": _list_of(_TEXT),
            "warnings": _list_of(_TEXT),
            "keywords": _list_of(_TEXT),
            "queries": _list_of(_TEXT),
            "time_window": _object("The window", start=_MAYBE_TEXT, end=_MAYBE_TEXT),
            "tags": _list_of(_TEXT),
            "exclude_tags": _list_of(_TEXT),
            "tag_scope": _ANY,
            "expansion": _ANY,
            "entity_expansion": _ANY,
            "state_filter": _ANY,
            "score_filter": _ANY,
            "context_priority": _ANY,
            "entities": _list_of(_ANY),
            "recency_bias": _TEXT,
            "scope_fallback": _FLAG,
        },
        status=_SUCCESS,
        query=_TEXT,
        results=_list_of({"$ref": "#/components/schemas/RecallResult"}),
        count=_WHOLE,
        dedup_removed=_WHOLE,
        sort=_TEXT,
        state_mode={"type": "string", "enum": ["current", "history"]},
        vector_search=_object("Of the vectors", enabled=_FLAG, matched=_FLAG),
        tag_mode=_TEXT,
        tag_match=_TEXT,
        query_time_ms=_NUMBER,
    ),
    "Health": _object(
        "Always 200; `status` says how it is",
        status={"type": "string", "enum": ["healthy", "degraded"]},
        falkordb=_TEXT,
        qdrant=_TEXT,
        graph=_TEXT,
        timestamp=_TIME,
        memory_count=_MAYBE_WHOLE,
        vector_count=_MAYBE_WHOLE,
        sync_status=_TEXT,
        vector_dimensions=_ANY,
        enrichment=_ANY,
        embedding=_ANY,
    ),
}
