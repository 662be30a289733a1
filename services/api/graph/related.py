"""GET /memories/{id}/related: what a memory is related to, up to three steps away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.query import integer, texts
from services.api.http.route import Param, Route
from shared.domain.memory import check_text, iso
from shared.domain.relations import AUTHORED
from shared.graph.memory.links import MAX_DEPTH
from shared.graph.records import Summary
from shared.graph.store import GraphStore

# Followed only where a request names them.
OPT_IN = ("SIMILAR_TO", "PRECEDED_BY", "DISCOVERED")
_CONTENT_CHARS = 160
_MOST = 200


class Related:
    """Reads one tenant's relations."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph

    async def find(
        self, tenant: str, memory_id: str, *, types: Sequence[str], depth: int, limit: int
    ) -> list[Summary]:
        """In either direction, by importance, then timestamp; an unknown id has none."""
        return await self._graph.links.related(
            tenant, memory_id, types=types, depth=depth, limit=limit
        )


def relation_types(named: Sequence[str]) -> tuple[str, ...]:
    """The known ones among `named`; those that clients author where there is none."""
    wanted = (name.upper() for name in named)
    known = dict.fromkeys(name for name in wanted if name in AUTHORED or name in OPT_IN)
    return tuple(known) or AUTHORED


def summary_json(summary: Summary) -> dict[str, Any]:
    """A related memory in short: its summary, else the beginning of its content."""
    shown: dict[str, Any] = {
        "id": summary.id,
        "type": summary.type,
        "timestamp": iso(summary.timestamp),
        "importance": summary.importance,
        "confidence": summary.confidence,
        "tags": list(summary.tags),
    }
    if summary.summary is not None:
        shown["summary"] = summary.summary
    else:
        shown["content"] = _shortened(summary.content or "")
    return shown


def _shortened(text: str) -> str:
    return text if len(text) <= _CONTENT_CHARS else text[: _CONTENT_CHARS - 1] + "…"


# -- HTTP -------------------------------------------------------------------------------

RELATED: web.AppKey[Related] = web.AppKey("related", Related)


async def related_memories(request: web.Request) -> web.Response:
    query = request.query
    memory_id = check_text(request.match_info["memory_id"], "memory_id")
    types = relation_types(texts(query, "relationship_types"))
    depth = integer(query, "max_depth", default=1, least=1, most=MAX_DEPTH)
    limit = integer(query, "limit", default=5, least=1, most=_MOST)
    found = await request.app[RELATED].find(
        request[TENANT], memory_id.lower(), types=types, depth=depth, limit=limit
    )
    return json_answer(
        {
            "status": "success",
            "memory_id": memory_id,
            "count": len(found),
            "related_memories": [summary_json(each) for each in found],
            "relationship_types": list(types),
            "max_depth": depth,
            "limit": limit,
        }
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/memories/{memory_id}/related",
        related_memories,
        "What a memory is related to",
        query=(
            Param(
                "relationship_types",
                {"type": "string"},
                f"Separated by commas; of {', '.join((*AUTHORED, *OPT_IN))}",
            ),
            Param(
                "max_depth",
                {"type": "integer", "default": 1},
                f"How many relations away; clamped into 1..{MAX_DEPTH}",
            ),
            Param("limit", {"type": "integer", "default": 5}, f"Clamped into 1..{_MOST}"),
        ),
        returns=shape("Related"),
        group="relations",
    ),
)
