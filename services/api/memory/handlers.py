"""/memory: store, read, change and delete one memory."""

from __future__ import annotations

import time

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.body import read_json, read_model
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.route import Routes
from services.api.http.validation import validate
from services.api.memory.access_times import AccessTimes
from services.api.memory.answers import ChangedAnswer, FoundAnswer, StoredAnswer
from services.api.memory.idempotency import IDEMPOTENCY, Replay, finish_write, replayed_conflict
from services.api.memory.requests import MemoryIn, MemoryPatch
from services.api.memory.service import Memories, Stored
from shared.domain.memory import now_ms
from shared.errors import Conflict
from shared.events import emitter
from shared.events.emitter import Event, Events

MEMORIES: web.AppKey[Memories] = web.AppKey("memories", Memories)
ACCESS_TIMES: web.AppKey[AccessTimes] = web.AppKey("access_times", AccessTimes)
EVENTS: web.AppKey[Events] = web.AppKey("events", Events)


STORE = Routes(scope="write")
# After the other paths below /memory: the first match wins.
ROUTES = Routes()
_PATH = "/memory/{memory_id}"


@STORE.add(
    "POST",
    "/memory",
    "Store a memory",
    body=MemoryIn,
    answers={201: "Stored; enrichment and embedding follow"},
    returns=StoredAnswer,
    repeatable=True,
)
async def store_memory(request: web.Request) -> web.StreamResponse:
    began = time.perf_counter()
    body = await read_json(request)
    memory_in = validate(MemoryIn, body.members())
    write = await request.app[IDEMPOTENCY].begin(request, body)
    if isinstance(write, Replay):
        return write.response()
    memories = request.app[MEMORIES]
    memory = await memories.prepare(write.tenant, memory_in, write.id)
    expected = Stored(memory, embedding=memory_in.embedding is not None)
    idem = write.keep([memory.id], lambda: StoredAnswer.of(expected, ms_since(began)))
    try:
        stored = await memories.store(
            write.tenant, memory, memory_in.embedding, idem=idem, trace=request[REQUEST_ID]
        )
    except Conflict as conflict:
        return await replayed_conflict(request, write, conflict)
    event = emitter.stored(stored.memory, ms_since(began))
    request.app[EVENTS].emit(write.tenant, Event.STORE, event)
    return await finish_write(request, write, StoredAnswer.of(stored, ms_since(began)))


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
