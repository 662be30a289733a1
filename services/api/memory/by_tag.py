"""/memory/by-tag: listing and deleting what carries any of some tags.

Tags match whole and without regard to case; a value with a comma is one tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer, memory_json
from services.api.http.middleware import TENANT
from services.api.http.query import integer
from services.api.http.route import Param, Route
from services.api.memory.handlers import TOUCHES
from shared.domain.memory import Memory, check_text, now_ms, tag_keys
from shared.errors import InvalidInput
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox

_MOST = 200
_MAX_OFFSET = 10_000_000
_MAX_TAGS = 100


@dataclass(frozen=True, slots=True)
class Page:
    memories: tuple[Memory, ...]
    has_more: bool


class ByTag:
    """Use cases on the memories of one tenant that have any of some tags."""

    def __init__(self, graph: GraphStore, outbox: Outbox) -> None:
        self._graph = graph
        self._outbox = outbox

    async def find(self, tenant: str, tags: Sequence[str], *, limit: int, offset: int) -> Page:
        """By importance, then timestamp, both falling, then id; archived ones too."""
        keys = tag_keys(tags)
        rows = await self._graph.memories.by_tags(tenant, keys, limit + 1, offset)
        return Page(tuple(rows[:limit]), has_more=len(rows) > limit)

    async def delete(self, tenant: str, tags: Sequence[str]) -> int:
        """Remove them a page at a time; how many. What is stored meanwhile may remain."""
        keys, deleted = tag_keys(tags), 0
        while ids := await self._graph.tags.ids(tenant, keys, _MOST):
            gone = await self._delete_page(tenant, ids)
            deleted += len(gone)
            if len(ids) < _MOST or not gone:
                break
        return deleted

    async def _delete_page(self, tenant: str, ids: list[str]) -> set[str]:
        """Whoever followed them in their sessions is embedded anew, without their words."""
        after = await self._graph.dialogue.refresh_after(tenant, ids, anyway=True)
        gone = await self._graph.memories.delete(tenant, ids)
        now = now_ms()
        jobs = [Job(tenant, memory_id, now) for memory_id in gone]
        jobs += [Job(tenant, due.id, due.payload_version) for due in after if due.id not in gone]
        await self._outbox.announce({Stage.EMBED: jobs}, exempt=True)
        return gone


# -- HTTP -------------------------------------------------------------------------------

BY_TAG: web.AppKey[ByTag] = web.AppKey("by_tag", ByTag)


async def find_by_tag(request: web.Request) -> web.Response:
    tags = _tags(request)
    limit = integer(request.query, "limit", default=20, least=1, most=_MOST)
    offset = integer(request.query, "offset", default=0, least=0, most=_MAX_OFFSET)
    tenant = request[TENANT]
    page = await request.app[BY_TAG].find(tenant, tags, limit=limit, offset=offset)
    request.app[TOUCHES].add(tenant, [memory.id for memory in page.memories], now_ms())
    return json_answer(
        {
            "status": "success",
            "tags": list(tags),
            "count": len(page.memories),
            "limit": limit,
            "offset": offset,
            "has_more": page.has_more,
            "memories": [memory_json(memory) for memory in page.memories],
        }
    )


async def delete_by_tag(request: web.Request) -> web.Response:
    tags = _tags(request)
    deleted = await request.app[BY_TAG].delete(request[TENANT], tags)
    return json_answer({"status": "success", "tags": list(tags), "deleted_count": deleted})


def _tags(request: web.Request) -> tuple[str, ...]:
    given = (tag.strip() for tag in request.query.getall("tags", []))
    tags = tuple(dict.fromkeys(check_text(tag, "'tags'") for tag in given if tag))
    if not tags:
        raise InvalidInput("'tags' query parameter is required")
    if len(tags) > _MAX_TAGS:
        raise InvalidInput(f"'tags' must not hold more than {_MAX_TAGS} tags")
    return tags


_TAGS = Param(
    "tags",
    {"type": "string"},
    "A whole tag, whatever its case; a memory with any of them matches",
    required=True,
    repeated=True,
)

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/memory/by-tag",
        find_by_tag,
        "List the memories with any of some tags",
        query=(
            _TAGS,
            Param("limit", {"type": "integer", "default": 20}, f"Clamped into 1..{_MOST}"),
            Param("offset", {"type": "integer", "default": 0}, "Memories to pass over"),
        ),
        returns=shape("Page"),
    ),
    Route(
        "DELETE",
        "/memory/by-tag",
        delete_by_tag,
        "Delete the memories with any of some tags",
        scope="write",
        query=(_TAGS,),
        returns=shape("DeletedByTag"),
    ),
)
