"""/memory/by-tag: listing and deleting what carries any of some tags.

Tags match whole and without regard to case; a value with a comma is one tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, integer, texts
from services.api.http.route import Route
from services.api.memory.answers import DeletedByTagAnswer, PageAnswer
from services.api.memory.handlers import ACCESS_TIMES
from shared.domain.memory import Memory, now_ms, tag_keys
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox

_MOST = 200


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
        """Delete them a page at a time; how many. What is stored meanwhile may remain."""
        keys, deleted = tag_keys(tags), 0
        while ids := await self._graph.memories.tagged_ids(tenant, keys, _MOST):
            deleted_ids = await self._delete_page(tenant, ids)
            deleted += len(deleted_ids)
            if len(ids) < _MOST or not deleted_ids:
                break
        return deleted

    async def _delete_page(self, tenant: str, ids: list[str]) -> set[str]:
        """Delete `ids`; what followed them in their sessions is embedded without their words."""
        after = await self._graph.dialogue.refresh_after(tenant, ids, anyway=True)
        deleted = await self._graph.memories.delete(tenant, ids)
        now = now_ms()
        jobs = [Job(tenant, memory_id, now) for memory_id in deleted]
        jobs += [Job(tenant, due.id, due.payload_version) for due in after if due.id not in deleted]
        await self._outbox.announce({Stage.EMBED: jobs}, exempt=True)
        return deleted


# -- HTTP -------------------------------------------------------------------------------

BY_TAG: web.AppKey[ByTag] = web.AppKey("by_tag", ByTag)
_TAGS = texts(
    "tags", "A whole tag, whatever its case; a memory with any of them matches", required=True
)
_LIMIT = integer("limit", "Memories per page", default=20, least=1, most=_MOST)
_OFFSET = integer("offset", "Memories to pass over", default=0, least=0, most=10_000_000)


async def find_by_tag(request: web.Request) -> web.Response:
    query, tenant = Query.of(request), request[TENANT]
    tags, limit, offset = query[_TAGS], query[_LIMIT], query[_OFFSET]
    page = await request.app[BY_TAG].find(tenant, tags, limit=limit, offset=offset)
    request.app[ACCESS_TIMES].add(tenant, [memory.id for memory in page.memories], now_ms())
    return json_answer(
        PageAnswer(
            tags=tags,
            count=len(page.memories),
            limit=limit,
            offset=offset,
            has_more=page.has_more,
            memories=page.memories,
        )
    )


async def delete_by_tag(request: web.Request) -> web.Response:
    tags = Query.of(request)[_TAGS]
    deleted = await request.app[BY_TAG].delete(request[TENANT], tags)
    return json_answer(DeletedByTagAnswer(tags=tags, deleted_count=deleted))


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/memory/by-tag",
        find_by_tag,
        "List the memories with any of some tags",
        query=(_TAGS, _LIMIT, _OFFSET),
        returns=PageAnswer,
    ),
    Route(
        "DELETE",
        "/memory/by-tag",
        delete_by_tag,
        "Delete the memories with any of some tags",
        scope="write",
        query=(_TAGS,),
        returns=DeletedByTagAnswer,
    ),
)
