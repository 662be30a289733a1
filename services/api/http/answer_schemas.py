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
    NUMBER,
    SUCCESS,
    TEXT,
    WHOLE,
    Schema,
    list_of,
    object_of,
)


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
SHAPES: Mapping[str, Schema] = {
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
}
