"""/memory/by-tag: list and delete the memories that have any of some tags.

Tags are compared whole and without regard to case; a value with a comma is one tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, integer, texts
from services.api.http.route import Routes
from services.api.memory.answers import DeletedByTagAnswer, PageAnswer
from services.api.memory.handlers import ACCESS_TIMES
from services.api.memory.service import delete_memories
from shared.domain.memory import Memory, now_ms, tag_keys
from shared.graph.store import GraphStore
from shared.streams.outbox import Outbox

_MOST = 200


@dataclass(frozen=True, slots=True)
class ByTag:
    """Use cases on the memories of one tenant that have any of some tags."""

    graph: GraphStore
    outbox: Outbox

    async def find(
        self, tenant: str, tags: Sequence[str], *, limit: int, offset: int
    ) -> tuple[list[Memory], bool]:
        """Return a page of memories, archived ones too, and whether more follow.

        They are ordered by importance, then timestamp, both falling, then id.
        """
        memories = await self.graph.memories.by_tags(tenant, tag_keys(tags), limit + 1, offset)
        return memories[:limit], len(memories) > limit

    async def delete(self, tenant: str, tags: Sequence[str]) -> int:
        """Delete them a page at a time; return how many. One stored meanwhile may remain."""
        keys, deleted = tag_keys(tags), 0
        while ids := await self.graph.memories.tagged_ids(tenant, keys, _MOST):
            deleted_ids = await delete_memories(self.graph, self.outbox, tenant, ids)
            deleted += len(deleted_ids)
            if len(ids) < _MOST or not deleted_ids:
                break
        return deleted


# -- HTTP -------------------------------------------------------------------------------

BY_TAG: web.AppKey[ByTag] = web.AppKey("by_tag", ByTag)
_TAGS = texts(
    "tags", "A whole tag, whatever its case; a memory with any of them matches", required=True
)
_LIMIT = integer("limit", "Memories per page", default=20, least=1, most=_MOST)
_OFFSET = integer("offset", "Memories to pass over", default=0, least=0, most=10_000_000)


ROUTES = Routes()


@ROUTES.add(
    "GET",
    "/memory/by-tag",
    "List the memories with any of some tags",
    query=(_TAGS, _LIMIT, _OFFSET),
    returns=PageAnswer,
)
async def find_by_tag(request: web.Request) -> web.Response:
    query, tenant = Query.of(request), request[TENANT]
    tags, limit, offset = query[_TAGS], query[_LIMIT], query[_OFFSET]
    by_tag = request.app[BY_TAG]
    memories, has_more = await by_tag.find(tenant, tags, limit=limit, offset=offset)
    request.app[ACCESS_TIMES].add(tenant, [memory.id for memory in memories], now_ms())
    return json_answer(
        PageAnswer(
            tags=tags,
            count=len(memories),
            limit=limit,
            offset=offset,
            has_more=has_more,
            memories=memories,
        )
    )


@ROUTES.add(
    "DELETE",
    "/memory/by-tag",
    "Delete the memories with any of some tags",
    scope="write",
    query=(_TAGS,),
    returns=DeletedByTagAnswer,
)
async def delete_by_tag(request: web.Request) -> web.Response:
    tags = Query.of(request)[_TAGS]
    deleted = await request.app[BY_TAG].delete(request[TENANT], tags)
    return json_answer(DeletedByTagAnswer(tags=tags, deleted_count=deleted))
