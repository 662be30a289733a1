"""/memory: store, read, change, list and delete memories."""

from __future__ import annotations

import time
from functools import partial

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.body import read_json, read_model, validate
from services.api.http.large_json import in_thread_if_large
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.parameters import SETTINGS, Query, integer, texts
from services.api.http.route import Routes
from services.api.memory.access_times import AccessTimes
from services.api.memory.answers import (
    ChangedAnswer,
    DeletedByTagAnswer,
    FoundAnswer,
    PageAnswer,
    StoredAnswer,
    StoredBatchAnswer,
)
from services.api.memory.idempotency import IDEMPOTENCY
from services.api.memory.requests import BatchIn, MemoryIn, MemoryPatch, parse_batch
from services.api.memory.service import MOST_TAGGED, Memories, Queued
from shared.domain.memory import now_ms
from shared.errors import Conflict
from shared.events import emitter
from shared.events.emitter import Event, Events

MEMORIES: web.AppKey[Memories] = web.AppKey("memories", Memories)
ACCESS_TIMES: web.AppKey[AccessTimes] = web.AppKey("access_times", AccessTimes)
EVENTS: web.AppKey[Events] = web.AppKey("events", Events)
_PATH = "/memory/{memory_id}"
_TAGS = texts(
    "tags", "A whole tag, whatever its case; a memory with any of them matches", required=True
)
_LIMIT = integer("limit", "Memories per page", default=20, least=1, most=MOST_TAGGED)
_OFFSET = integer("offset", "Memories to pass over", default=0, least=0, most=10_000_000)
# The first match wins, so the other paths below /memory come before _PATH.
ROUTES = Routes()


@ROUTES.add(
    "POST",
    "/memory",
    "Store a memory",
    scope="write",
    body=MemoryIn,
    answers={201: "Stored; enrichment and embedding follow"},
    returns=StoredAnswer,
    repeatable=True,
)
async def store_memory(request: web.Request) -> web.StreamResponse:
    began = time.perf_counter()
    body = await read_json(request)
    memory_in = validate(MemoryIn, body.members())
    idempotency, memories = request.app[IDEMPOTENCY], request.app[MEMORIES]
    write = await idempotency.begin(request, body)
    if isinstance(write, web.Response):
        return write
    memory = await memories.prepare(write.tenant, memory_in, write.id)
    embedding = memory_in.embedding
    answer = partial(StoredAnswer.of, has_embedding=embedding is not None)
    idem = write.keep([memory.id], lambda: answer(memory, Queued(), ms_since(began)))
    try:
        stored, queued = await memories.store(
            write.tenant, memory, embedding, idem=idem, trace=request[REQUEST_ID]
        )
    except Conflict as conflict:
        return await idempotency.resolve(write, conflict)
    event = emitter.stored(stored, ms_since(began))
    request.app[EVENTS].emit(write.tenant, Event.STORE, event)
    return await idempotency.finish(request, write, answer(stored, queued, ms_since(began)))


@ROUTES.add(
    "POST",
    "/memory/batch",
    "Store up to 500 memories, all of them or none",
    scope="write",
    body=BatchIn,
    answers={201: "Stored; enrichment and embedding follow"},
    returns=StoredBatchAnswer,
    repeatable=True,
)
async def store_batch(request: web.Request) -> web.StreamResponse:
    """The request embeds nothing: the jobs of all memories are published together."""
    began = time.perf_counter()
    settings = request.app[SETTINGS].api
    body = await read_json(request, settings.batch_body_bytes)
    batch, warnings = await in_thread_if_large(
        len(body.raw), lambda: parse_batch(body.value, content_chars=settings.content_hard_chars)
    )
    idempotency, memories = request.app[IDEMPOTENCY], request.app[MEMORIES]
    write = await idempotency.begin(request, body)
    if isinstance(write, web.Response):
        return write
    ids = write.ids(len(batch))
    rows = await memories.prepare_many(write.tenant, batch, ids)

    def answer(queued: Queued) -> StoredBatchAnswer:
        return StoredBatchAnswer.of(ids, queued, warnings, ms_since(began))

    idem = write.keep(ids, lambda: answer(Queued()))
    try:
        queued = await memories.store_many(write.tenant, rows, idem=idem, trace=request[REQUEST_ID])
    except Conflict as conflict:
        return await idempotency.resolve(write, conflict)
    for memory in rows if queued else ():
        event = emitter.stored(memory, ms_since(began))
        request.app[EVENTS].emit(write.tenant, Event.STORE, event)
    return await idempotency.finish(request, write, answer(queued or Queued()))


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
    found, has_more = await request.app[MEMORIES].find_tagged(
        tenant, tags, limit=limit, offset=offset
    )
    request.app[ACCESS_TIMES].add(tenant, [memory.id for memory in found], now_ms())
    page = PageAnswer(
        tags=tags, count=len(found), limit=limit, offset=offset, has_more=has_more, memories=found
    )
    return json_answer(page)


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
    deleted = await request.app[MEMORIES].delete_tagged(request[TENANT], tags)
    return json_answer(DeletedByTagAnswer(tags=tags, deleted_count=deleted))


@ROUTES.add("GET", _PATH, "Read a memory", returns=FoundAnswer)
async def fetch_memory(request: web.Request) -> web.Response:
    memory = await request.app[MEMORIES].fetch(request[TENANT], request.match_info["memory_id"])
    request.app[ACCESS_TIMES].add(request[TENANT], [memory.id], now_ms())
    return json_answer(FoundAnswer(memory=memory))


@ROUTES.add(
    "PATCH",
    _PATH,
    "Change the given fields of a memory",
    scope="write",
    body=MemoryPatch,
    answers={200: "Changed", 409: "Others keep changing it; try again"},
    returns=ChangedAnswer,
)
async def change_memory(request: web.Request) -> web.Response:
    patch = await read_model(request, MemoryPatch)
    memory = await request.app[MEMORIES].change(
        request[TENANT], request.match_info["memory_id"], patch, trace=request[REQUEST_ID]
    )
    message = "Memory updated successfully"
    return json_answer(
        ChangedAnswer(message=message, memory_id=memory.id, updated_at=memory.updated_at)
    )


@ROUTES.add("DELETE", _PATH, "Delete a memory", scope="write", returns=ChangedAnswer)
async def delete_memory(request: web.Request) -> web.Response:
    memory_id = request.match_info["memory_id"]
    await request.app[MEMORIES].delete(request[TENANT], memory_id)
    return json_answer(
        ChangedAnswer(message="Memory deleted successfully", memory_id=memory_id.lower())
    )


def ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
