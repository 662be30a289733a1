"""What the API answers, as JSON Schema: the keys that a client may count on.

Bodies may hold more than these: they are supersets of AutoMem's and of the seeds' shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.api.json_schema import (
    ANY,
    FLAG,
    ID,
    MAYBE_TEXT,
    MAYBE_WHOLE,
    NUMBER,
    SUCCESS,
    TEXT,
    TIME,
    UNIT,
    WHOLE,
    Schema,
    list_of,
    object_of,
)
from services.api.operation_shapes import OPERATIONS


def shape(name: str) -> Schema:
    """A reference to one of SHAPES."""
    return {"$ref": f"#/components/schemas/{name}"}


_REFERENCE: Schema = {"$ref": "#/components/schemas/Memory"}
_ROW = object_of(
    "One memory with why it stands where it stands",
    {
        "deduped_from": list_of(ID),
        "relation_score": NUMBER,
        "related_to": list_of(ANY),
        "expanded_from_entity": TEXT,
        "outside_tag_scope": FLAG,
        "state_replaces": ID,
    },
    id=ID,
    match_type=TEXT,
    source={"type": "string", "enum": ["qdrant", "graph"]},
    match_score=NUMBER,
    original_score=NUMBER,
    score=NUMBER,
    final_score=NUMBER,
    score_components={
        "type": "object",
        "properties": {"relevance_gated": FLAG},
        "additionalProperties": {"type": ["number", "boolean"]},
    },
    memory=_REFERENCE,
    relations=list_of(ANY),
)
_ASSOCIATED: Schema = {
    "anyOf": [
        object_of(
            "One relation",
            status=SUCCESS,
            message=TEXT,
            memory1_id=ID,
            memory2_id=ID,
            relation_type=TEXT,
            strength=UNIT,
        ),
        object_of(
            "Many relations",
            status={"type": "string", "enum": ["success", "partial_success"]},
            created_count=WHOLE,
            failed_count=WHOLE,
            succeeded=list_of(ANY),
            failed=list_of(object_of("One that failed", index=WHOLE, reason=TEXT)),
            summary=TEXT,
        ),
    ]
}
SHAPES: Mapping[str, Schema] = {
    **OPERATIONS,
    "Related": object_of(
        "Related memories in short",
        status=SUCCESS,
        memory_id=TEXT,
        count=WHOLE,
        related_memories=list_of(ANY),
        relationship_types=list_of(TEXT),
        max_depth=WHOLE,
        limit=WHOLE,
    ),
    "Associated": _ASSOCIATED,
    "RecallResult": _ROW,
    "Recalled": object_of(
        "Memories, best first; blocks appear where the request asks for what they tell",
        {
            "degraded": list_of(TEXT),
            "warnings": list_of(TEXT),
            "keywords": list_of(TEXT),
            "queries": list_of(TEXT),
            "time_window": object_of("The window", start=MAYBE_TEXT, end=MAYBE_TEXT),
            "tags": list_of(TEXT),
            "exclude_tags": list_of(TEXT),
            "tag_scope": ANY,
            "expansion": ANY,
            "entity_expansion": ANY,
            "state_filter": ANY,
            "score_filter": ANY,
            "context_priority": ANY,
            "entities": list_of(ANY),
            "recency_bias": TEXT,
            "scope_fallback": FLAG,
        },
        status=SUCCESS,
        query=TEXT,
        results=list_of({"$ref": "#/components/schemas/RecallResult"}),
        count=WHOLE,
        dedup_removed=WHOLE,
        sort=TEXT,
        state_mode={"type": "string", "enum": ["current", "history"]},
        vector_search=object_of("Of the vectors", enabled=FLAG, matched=FLAG),
        tag_mode=TEXT,
        tag_match=TEXT,
        query_time_ms=NUMBER,
    ),
    "Health": object_of(
        "Always 200; `status` says how it is",
        status={"type": "string", "enum": ["healthy", "degraded"]},
        falkordb=TEXT,
        qdrant=TEXT,
        graph=TEXT,
        timestamp=TIME,
        memory_count=MAYBE_WHOLE,
        vector_count=MAYBE_WHOLE,
        sync_status=TEXT,
        vector_dimensions=ANY,
        enrichment=ANY,
        embedding=ANY,
    ),
}
