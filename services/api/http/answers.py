"""How memories and errors look on the wire: supersets of AutoMem's shapes and the seeds'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from shared.domain.memory import Memory, iso, tag_prefixes


def json_answer(body: Mapping[str, Any], *, status: int = 200, **headers: str) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(
        text=text,
        status=status,
        content_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error_answer(
    status: int, message: str, *, request_id: str, retry_after_s: float | None = None
) -> web.Response:
    """One body for all errors: the three systems' clients read error, message or detail."""
    body = {
        "status": "error",
        "code": status,
        "error": message,
        "message": message,
        "detail": message,
        "request_id": request_id,
    }
    headers = {}
    if retry_after_s is not None:
        headers["Retry_After"] = str(max(1, round(retry_after_s)))
    return json_answer(body, status=status, **headers)


def memory_json(memory: Memory) -> dict[str, Any]:
    """Every field of a memory; what is unset is absent, as clients of AutoMem expect."""
    shown: dict[str, Any] = {
        "id": memory.id,
        "memory_id": memory.id,
        "content": memory.content,
        "type": memory.type,
        "confidence": memory.confidence,
        "importance": memory.importance,
        "tags": list(memory.all_tags),
        "tag_prefixes": list(tag_prefixes(memory.all_tags)),
        "timestamp": iso(memory.timestamp),
        "updated_at": iso(memory.updated_at),
        "last_accessed": iso(memory.last_accessed),
        "t_valid": iso(memory.t_valid),
        "t_invalid": iso(memory.t_invalid),
        "metadata": memory.shown_metadata(),
        "summary": memory.summary,
        "session_id": memory.session_id,
        "project": memory.project,
        "layer": memory.layer,
        "relevance_score": memory.relevance_score,
        "archived": memory.archived or None,
        "archived_at": iso(memory.archived_at),
        "protected": memory.protected or None,
        "protected_reason": memory.protected_reason,
        "version": memory.version,
        "processed": memory.enriched,
        "enriched": memory.enriched,
        "embedded": memory.embedded_version >= memory.payload_version,
        "related": memory.embedded_version > 0 and memory.related_version > 0,
        "enriched_at": iso(memory.enriched_at),
    }
    return {name: value for name, value in shown.items() if value is not None}
