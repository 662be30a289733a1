"""GET /recall: parse the query, recall, tell the event stream, answer.

The answer has AutoMem's keys, and blocks for what the request asks for.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from services.api.http.answers import Absent, Answer, Id, OnlyTrue, Success, json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query
from services.api.http.route import Routes
from services.api.memory.answers import MemoryAnswer
from services.api.memory.handlers import EVENTS, ms_since
from services.api.recall.rank import Draft, Scored
from services.api.recall.request import PARAMETERS, parse_recall
from services.api.recall.service import Recall
from services.api.recall.words import keywords
from shared.domain.memory import iso, now_ms
from shared.events.emitter import Event, preview
from shared.graph.records import Hydrated, Relation

_SHOWN_ENTITIES = 10
_PREVIEW_CHARS = 160
RECALL: web.AppKey[Recall] = web.AppKey("recall", Recall)


class RecallResultAnswer(Answer):
    """One memory, and why it has its rank."""

    id: Id
    match_type: str
    source: Literal["qdrant", "graph"]
    match_score: float
    original_score: float
    score: float
    final_score: float
    score_components: dict[str, float | bool]
    memory: MemoryAnswer
    enriched: bool
    relations: list[dict[str, Any]]
    query: str = Field(serialization_alias="_query")
    deduped_from: Absent[list[Id]] = None
    expanded_from_entity: Absent[str] = None
    relation_score: Absent[float] = None
    related_to: Absent[list[dict[str, Any]]] = None
    outside_tag_scope: OnlyTrue = False
    state_replaces: Absent[Id] = None


class VectorSearchAnswer(Answer):
    """Whether the vectors answered, and whether they found any result."""

    enabled: bool
    matched: bool


class TimeWindowAnswer(Answer):
    """The times between which memories were searched."""

    start: str | None
    end: str | None


class RecalledAnswer(Success):
    """Memories, best first. Optional blocks appear only when the request asks for them."""

    query: str
    results: list[RecallResultAnswer]
    count: int
    dedup_removed: int
    sort: str
    state_mode: Literal["current", "history"]
    vector_search: VectorSearchAnswer
    tag_mode: str
    tag_match: str
    query_time_ms: float
    degraded: Absent[tuple[str, ...]] = None
    warnings: Absent[tuple[str, ...]] = None
    queries: Absent[tuple[str, ...]] = None
    keywords: Absent[list[str]] = None
    entities: Absent[list[dict[str, Any]]] = None
    time_window: Absent[TimeWindowAnswer] = None
    tags: Absent[tuple[str, ...]] = None
    tag_scope: Absent[dict[str, Any]] = None
    exclude_tags: Absent[tuple[str, ...]] = None
    scope_fallback: OnlyTrue = False
    expansion: Absent[dict[str, Any]] = None
    entity_expansion: Absent[dict[str, Any]] = None
    state_filter: Absent[dict[str, Any]] = None
    score_filter: Absent[dict[str, Any]] = None
    recency_bias: Absent[Literal["on"]] = None
    context_priority: Absent[dict[str, Any]] = None


ROUTES = Routes()


@ROUTES.add(
    "GET",
    "/recall",
    "Find memories by meaning, words, tags and time",
    query=PARAMETERS,
    returns=RecalledAnswer,
)
async def recall(request: web.Request) -> web.Response:
    began = time.perf_counter()
    wanted = parse_recall(Query.of(request), now_ms=now_ms())
    found = await request.app[RECALL].recall(request[TENANT], wanted)
    elapsed_ms = ms_since(began)
    event = {
        "query": preview(wanted.query, 50),
        "limit": wanted.limit,
        "result_count": len(found.rows),
        "elapsed_ms": round(elapsed_ms, 2),
        "tags": list(wanted.scope.tags[:3]),
    }
    request.app[EVENTS].emit(request[TENANT], Event.RECALL, event)
    return json_answer(answer_of(found, elapsed_ms))


def answer_of(draft: Draft, elapsed_ms: float) -> RecalledAnswer:
    request, scope = draft.request, draft.request.scope
    # A memory that was deleted while it was being ranked is left out.
    rows = [row for row in draft.rows if row.id in draft.hydrated]
    return RecalledAnswer(
        query=request.query,
        results=[_result(row, draft.hydrated[row.id]) for row in rows],
        count=len(rows),
        dedup_removed=draft.duplicates,
        sort=request.sort,
        state_mode="history" if scope.current_at_ms is None else "current",
        vector_search=VectorSearchAnswer(
            enabled=not draft.degraded,
            matched=any(row.candidate.source == "qdrant" for row in draft.rows),
        ),
        tag_mode=scope.tag_mode,
        tag_match=scope.tag_match,
        query_time_ms=elapsed_ms,
        degraded=("vector",) if draft.degraded else None,
        warnings=request.warnings or None,
        tags=scope.tags or None,
        exclude_tags=scope.exclude_tags or None,
        scope_fallback=draft.fell_back,
        recency_bias="on" if draft.biased else None,
        **_query_blocks(draft),
        **_filter_blocks(draft),
        **_expansion_blocks(draft),
    )


def _query_blocks(draft: Draft) -> dict[str, Any]:
    blocks: dict[str, Any] = {}
    texts = draft.question.texts
    if len(texts) > 1 or draft.request.queries:
        blocks["queries"] = texts
    elif draft.question.text:
        blocks["keywords"] = keywords(draft.question.text)
    if draft.entities:
        blocks["entities"] = [
            {**each, "identity_updated_at": iso(each["identity_updated_at"])}
            for each in draft.entities[:_SHOWN_ENTITIES]
        ]
    if profile := draft.question.profile:
        blocks["context_priority"] = {
            "language": profile.language,
            "context": profile.context,
            "priority_tags": profile.tags,
            "priority_types": profile.types,
            "injected": draft.injected,
        }
    return blocks


def _filter_blocks(draft: Draft) -> dict[str, Any]:
    request, scope, blocks = draft.request, draft.request.scope, dict[str, Any]()
    if scope.start_ms is not None or scope.end_ms is not None:
        blocks["time_window"] = TimeWindowAnswer(start=iso(scope.start_ms), end=iso(scope.end_ms))
    if scope.tags:
        by_vector = sum(each.match_type == "vector" for each in draft.candidates.values())
        gated = [row for row in draft.rows if row.components.get("relevance_gated")]
        blocks["tag_scope"] = {
            "filtered": True,
            "pool_size_hint": by_vector if draft.question.texts else None,
            "gated_low_evidence": len(gated),
        }
    if draft.filtered_ids or request.min_score > 0:
        blocks["score_filter"] = {
            "min_score": request.min_score,
            "adaptive_floor": request.adaptive_floor,
            "filtered_count": len(draft.filtered_ids),
        }
    if scope.current_at_ms is not None:
        blocks["state_filter"] = _state_filter(draft)
    return blocks


def _expansion_blocks(draft: Draft) -> dict[str, Any]:
    wanted, blocks = draft.request.expansion, dict[str, Any]()
    if wanted.relations:
        blocks["expansion"] = {
            "enabled": True,
            "seed_count": draft.seeds,
            "expanded_count": draft.related,
            "relation_limit": wanted.relation_limit,
            "expansion_limit": wanted.limit,
            "respect_tags": wanted.respect_tags,
        }
    if wanted.entities:
        blocks["entity_expansion"] = {
            "enabled": True,
            "expanded_count": draft.entity_rows,
            "entities_found": draft.entity_names,
        }
    return blocks


def _state_filter(draft: Draft) -> dict[str, Any]:
    replaced = [row for row in draft.rows if "state_replaces" in row.notes]
    block: dict[str, Any] = {
        "current_only": True,
        "suppressed_count": len(draft.suppressed),
        "replacement_count": len(replaced),
    }
    if draft.request.state_debug:
        block["suppressed"] = [
            {name: value for name, value in asdict(each).items() if value is not None}
            for each in draft.suppressed.values()
        ]
        block["replacements"] = [
            {
                "id": row.id,
                "replaces_id": row.notes["state_replaces"],
                "relation_type": row.notes["state_relation"],
            }
            for row in replaced
        ]
    return block


def _result(row: Scored, hydrated: Hydrated) -> RecallResultAnswer:
    """Return one result; of the row's notes those that the answer has a field for."""
    score, candidate = round(row.final, 6), row.candidate
    # A rounded -0.0 becomes 0.0.
    components: dict[str, Any] = {k: round(v, 6) + 0.0 for k, v in row.components.items()}
    components["relevance_gated"] = bool(components.get("relevance_gated"))
    return RecallResultAnswer.model_validate(
        {
            "id": row.id,
            "match_type": candidate.match_type,
            "source": candidate.source,
            "match_score": round(_match_score(row), 6),
            "original_score": score,
            "score": score,
            "final_score": score,
            "score_components": components,
            "memory": hydrated.memory,
            "enriched": hydrated.memory.enriched,
            "relations": row.notes.get("state_path")
            or row.notes.get("related_to")
            or list(map(_relation, hydrated.relations)),
            "query": candidate.query,
            **row.notes,
        }
    )


def _match_score(row: Scored) -> float:
    scores = {
        "trending": row.memory.importance,
        "metadata": row.components.get("metadata", 0.0),
        "keyword": row.candidate.words,
    }
    return scores.get(row.candidate.match_type, row.candidate.vector)


def _relation(relation: Relation) -> dict[str, Any]:
    """Return one outgoing relation with a summary of the memory at its end."""
    other = relation.other
    text = (
        {"summary": other.summary}
        if other.summary
        else {"content": (other.content or "")[:_PREVIEW_CHARS]}
    )
    memory = {
        "id": other.id,
        "type": other.type,
        "timestamp": iso(other.timestamp),
        "importance": other.importance,
        "confidence": other.confidence,
        "tags": list(other.tags),
        **text,
    }
    answer = {"type": relation.type, "strength": relation.strength, "memory": memory}
    return answer if relation.kind is None else {**answer, "kind": relation.kind}
