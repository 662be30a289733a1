"""The answer of GET /recall: AutoMem's keys, each where it applies."""

from __future__ import annotations

from typing import Any

from services.api.http.answers import memory_json
from services.api.recall.draft import Draft
from services.api.recall.rank import Scored
from services.api.recall.request import RecallRequest
from services.api.recall.words import keywords
from shared.domain.memory import iso
from shared.graph.records import Hydrated, Relation

_SHOWN_ENTITIES = 10
_PREVIEW_CHARS = 160
_PASSED = (
    *("deduped_from", "expanded_from_entity", "relation_score", "related_to"),
    *("outside_tag_scope", "state_replaces"),
)


def recall_json(found: Draft, elapsed_ms: float) -> dict[str, Any]:
    wanted, scope = found.request, found.request.scope
    # What was deleted while it was being ranked is not answered.
    results = [
        result_json(row, found.hydrated[row.id]) for row in found.rows if row.id in found.hydrated
    ]
    body: dict[str, Any] = {
        "status": "success",
        "query": wanted.query,
        "results": results,
        "count": len(results),
        "dedup_removed": found.duplicates,
        "sort": wanted.sort,
        "state_mode": "current" if scope.current_at_ms is not None else "history",
        "vector_search": {
            "enabled": "vector" not in found.degraded,
            "matched": any(row.candidate.source == "qdrant" for row in found.rows),
        },
        "tag_mode": scope.tag_mode,
        "tag_match": scope.tag_match,
        "query_time_ms": elapsed_ms,
    }
    blocks = (_query, _scope, _expansion, _state, _filters, _context)
    return body | {key: value for block in blocks for key, value in block(wanted, found).items()}


def _query(wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if found.degraded:
        block["degraded"] = list(dict.fromkeys(found.degraded))
    if wanted.warnings:
        block["warnings"] = list(wanted.warnings)
    if len(found.texts) > 1 or wanted.queries:
        block["queries"] = list(found.texts)
    elif found.texts and found.texts[0]:
        block["keywords"] = keywords(found.texts[0])
    if found.entities:
        block["entities"] = [
            {
                "id": each.id,
                "slug": each.slug,
                "category": each.category,
                "name": each.name,
                "aliases": list(each.aliases),
                "identity": each.identity,
                "identity_source_count": each.identity_source_count,
                "identity_updated_at": iso(each.identity_updated_at),
            }
            for each in found.entities[:_SHOWN_ENTITIES]
        ]
    return block


def _scope(wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    scope = wanted.scope
    block: dict[str, Any] = {}
    if scope.start_ms is not None or scope.end_ms is not None:
        block["time_window"] = {"start": iso(scope.start_ms), "end": iso(scope.end_ms)}
    if scope.tags:
        block["tags"] = list(scope.tags)
        block["tag_scope"] = {
            "filtered": True,
            "pool_size_hint": _by_vector(found) if found.texts else None,
            "gated_low_evidence": sum(
                bool(row.components.get("relevance_gated")) for row in found.rows
            ),
        }
    if scope.exclude_tags:
        block["exclude_tags"] = list(scope.exclude_tags)
    if found.fell_back:
        block["scope_fallback"] = True
    return block


def _by_vector(found: Draft) -> int:
    return sum(each.match_type == "vector" for each in found.candidates.values())


def _expansion(wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    asked = wanted.expansion
    block: dict[str, Any] = {}
    if asked.relations:
        block["expansion"] = {
            "enabled": True,
            "seed_count": found.seeds,
            "expanded_count": found.related,
            "relation_limit": asked.relation_limit,
            "expansion_limit": asked.limit,
            "respect_tags": asked.respect_tags,
        }
    if asked.entities:
        block["entity_expansion"] = {
            "enabled": True,
            "expanded_count": found.entity_rows,
            "entities_found": list(found.entity_names),
        }
    return block


def _state(wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    if wanted.scope.current_at_ms is None:
        return {}
    replaced = [row for row in found.rows if "state_replaces" in row.notes]
    block: dict[str, Any] = {
        "current_only": True,
        "suppressed_count": len(found.suppressed),
        "replacement_count": len(replaced),
    }
    if wanted.state_debug:
        block["suppressed"] = [
            {
                key: value
                for key, value in (
                    ("id", each.id),
                    ("reason", each.reason),
                    ("replacement_id", each.replacement_id),
                    ("relation_type", each.relation_type),
                )
                if value is not None
            }
            for each in found.suppressed.values()
        ]
        block["replacements"] = [
            {
                "id": row.id,
                "replaces_id": row.notes["state_replaces"],
                "relation_type": row.notes["state_relation"],
            }
            for row in replaced
        ]
    return {"state_filter": block}


def _filters(wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if found.filtered_ids or wanted.min_score > 0:
        block["score_filter"] = {
            "min_score": wanted.min_score,
            "adaptive_floor": wanted.adaptive_floor,
            "filtered_count": len(found.filtered_ids),
        }
    if found.biased:
        block["recency_bias"] = "on"
    return block


def _context(_wanted: RecallRequest, found: Draft) -> dict[str, Any]:
    profile = found.question.profile
    if profile is None:
        return {}
    return {
        "context_priority": {
            "language": profile.language,
            "context": profile.context,
            "priority_tags": list(profile.tags),
            "priority_types": list(profile.types),
            "injected": found.injected,
        }
    }


def result_json(row: Scored, hydrated: Hydrated) -> dict[str, Any]:
    final = round(row.final, 6)
    candidate = row.candidate
    components: dict[str, Any] = {name: _shown(value) for name, value in row.components.items()}
    components["relevance_gated"] = bool(components.get("relevance_gated"))
    shown = {
        "id": row.id,
        "match_type": candidate.match_type,
        "source": candidate.source,
        "match_score": round(_match_score(row), 6),
        "original_score": final,
        "score": final,
        "final_score": final,
        "score_components": components,
        "memory": memory_json(hydrated.memory),
        "enriched": hydrated.memory.enriched,
        "relations": row.notes.get("state_path")
        or row.notes.get("related_to")
        or list(map(relation_json, hydrated.relations)),
        "_query": candidate.query,
    }
    return shown | {name: row.notes[name] for name in _PASSED if name in row.notes}


def _shown(value: float) -> float:
    return round(value, 6) + 0.0  # never -0.0


def _match_score(row: Scored) -> float:
    kind = row.candidate.match_type
    if kind == "trending":
        return row.memory.importance
    if kind == "metadata":
        return row.components["metadata"]
    if kind == "keyword":
        return row.candidate.words
    return row.candidate.vector


def relation_json(relation: Relation) -> dict[str, Any]:
    """One outgoing relation with a summary of its far end."""
    other = relation.other
    memory = {
        "id": other.id,
        "type": other.type,
        "timestamp": iso(other.timestamp),
        "importance": other.importance,
        "confidence": other.confidence,
        "tags": list(other.tags),
    }
    if other.summary:
        memory["summary"] = other.summary
    else:
        memory["content"] = (other.content or "")[:_PREVIEW_CHARS]
    shown = {"type": relation.type, "strength": relation.strength, "memory": memory}
    return shown if relation.kind is None else {**shown, "kind": relation.kind}
