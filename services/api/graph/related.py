"""GET /memories/{id}/related: what a memory is related to, up to three steps away."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from services.api.http.answers import Absent, Answer, Id, Success, Time, Unit, json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, integer, texts
from services.api.http.route import Routes
from shared.domain.memory import check_text
from shared.domain.relations import AUTHORED
from shared.graph.memory.links import MAX_DEPTH, Links
from shared.graph.records import Summary

# Followed only where a request names them.
OPT_IN = ("SIMILAR_TO", "PRECEDED_BY", "DISCOVERED")
_CONTENT_CHARS = 160
_RELATION_TYPES = texts(
    "relationship_types", f"Of {', '.join((*AUTHORED, *OPT_IN))}", repeated=False, commas=True
)
_MAX_DEPTH = integer("max_depth", "How many relations away", default=1, least=1, most=MAX_DEPTH)
_LIMIT = integer("limit", "Most memories", default=5, least=1, most=200)
LINKS: web.AppKey[Links] = web.AppKey("links", Links)


class RelatedMemoryAnswer(Answer):
    """A related memory: its summary, else the beginning of its content."""

    id: Id
    type: str
    timestamp: Time
    importance: Unit
    confidence: Unit
    tags: tuple[str, ...]
    summary: Absent[str] = None
    content: Absent[str] = None

    @classmethod
    def of(cls, memory: Summary) -> RelatedMemoryAnswer:
        answer = cls.model_validate(memory)
        content = memory.content or ""
        if len(content) > _CONTENT_CHARS:
            content = content[: _CONTENT_CHARS - 1] + "…"
        answer.content = content if memory.summary is None else None
        return answer


class RelatedAnswer(Success):
    """Related memories in short."""

    memory_id: str
    count: int
    related_memories: list[RelatedMemoryAnswer]
    relationship_types: tuple[str, ...]
    max_depth: int
    limit: int


ROUTES = Routes(group="relations")


@ROUTES.add(
    "GET",
    "/memories/{memory_id}/related",
    "What a memory is related to",
    query=(_RELATION_TYPES, _MAX_DEPTH, _LIMIT),
    returns=RelatedAnswer,
)
async def related_memories(request: web.Request) -> web.Response:
    query = Query.of(request)
    memory_id = check_text(request.match_info["memory_id"], "memory_id")
    named: tuple[str, ...] = query[_RELATION_TYPES]
    types = relation_types(named)
    depth, limit = query[_MAX_DEPTH], query[_LIMIT]
    found = await request.app[LINKS].related(
        request[TENANT], memory_id.lower(), types=types, depth=depth, limit=limit
    )
    answer = RelatedAnswer(
        memory_id=memory_id,
        count=len(found),
        related_memories=[RelatedMemoryAnswer.of(memory) for memory in found],
        relationship_types=types,
        max_depth=depth,
        limit=limit,
    )
    return json_answer(answer)


def relation_types(named: Sequence[str]) -> tuple[str, ...]:
    """Return the known types among `named`; without any, those that clients author."""
    upper = (name.upper() for name in named)
    known = dict.fromkeys(name for name in upper if name in AUTHORED or name in OPT_IN)
    return tuple(known) or AUTHORED
