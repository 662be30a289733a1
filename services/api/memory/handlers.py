"""HTTP handlers: parse, call one use case, render."""

from __future__ import annotations

import time

from aiohttp import web

from services.api.http.access import Forbidden, Tokens, Unauthorized
from services.api.http.answers import json_answer
from services.api.http.authentication import identify
from services.api.http.body import read_body
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.validation import parse_object, validate
from services.api.memory.access_times import AccessTimes
from services.api.memory.answers import ChangedAnswer, FoundAnswer, StoredAnswer
from services.api.memory.idempotency import Write
from services.api.memory.requests import MemoryIn, MemoryPatch
from services.api.memory.service import Memories, Stored
from services.api.operations.health import HealthReport
from services.api.recall.answer import recall_json
from services.api.recall.request import parse_recall
from services.api.recall.service import Recall
from services.api.repeatable import storing
from shared.config import RecallSettings
from shared.domain.memory import now_ms
from shared.domain.tenant import DEFAULT_TENANT
from shared.events import emitter
from shared.events.emitter import Event, Events

MEMORIES: web.AppKey[Memories] = web.AppKey("memories", Memories)
RECALL: web.AppKey[Recall] = web.AppKey("recall", Recall)
HEALTH: web.AppKey[HealthReport] = web.AppKey("health", HealthReport)
TOUCHES: web.AppKey[AccessTimes] = web.AppKey("touches", AccessTimes)
TOKENS: web.AppKey[Tokens] = web.AppKey("tokens", Tokens)
EVENTS: web.AppKey[Events] = web.AppKey("events", Events)
RECALL_SETTINGS: web.AppKey[RecallSettings] = web.AppKey("recall_settings", RecallSettings)


async def health(request: web.Request) -> web.Response:
    """Always 200 and open; a valid token shows its own tenant's counts."""
    try:
        identify(request, request.app[TOKENS])
        tenant = request[TENANT]
    except (Unauthorized, Forbidden):
        tenant = DEFAULT_TENANT
    return json_answer(await request.app[HEALTH].report(tenant))


async def store_memory(request: web.Request) -> web.StreamResponse:
    began = time.perf_counter()
    raw = await read_body(request)
    body, memories = validate(MemoryIn, parse_object(raw)), request.app[MEMORIES]

    def answer(stored: Stored) -> StoredAnswer:
        return StoredAnswer.of(stored, _ms_since(began))

    async def store(write: Write) -> StoredAnswer:
        done = await memories.store(write, body, answer, trace=request[REQUEST_ID])
        told = emitter.stored(done.memory, _ms_since(began))
        request.app[EVENTS].emit(request[TENANT], Event.STORE, told)
        return answer(done)

    return await storing(request, raw, store)


async def fetch_memory(request: web.Request) -> web.Response:
    memory = await request.app[MEMORIES].fetch(request[TENANT], request.match_info["memory_id"])
    request.app[TOUCHES].add(request[TENANT], [memory.id], now_ms())
    return json_answer(FoundAnswer(memory=memory))


async def change_memory(request: web.Request) -> web.Response:
    body = validate(MemoryPatch, parse_object(await read_body(request)))
    memory_id = request.match_info["memory_id"]
    memory = await request.app[MEMORIES].change(
        request[TENANT], memory_id, body, trace=request[REQUEST_ID]
    )
    return json_answer(
        ChangedAnswer(
            message="Memory updated successfully",
            memory_id=memory.id,
            updated_at=memory.updated_at,
        )
    )


async def delete_memory(request: web.Request) -> web.Response:
    memory_id = request.match_info["memory_id"]
    await request.app[MEMORIES].delete(request[TENANT], memory_id)
    return json_answer(
        ChangedAnswer(message="Memory deleted successfully", memory_id=memory_id.lower())
    )


async def recall(request: web.Request) -> web.Response:
    began = time.perf_counter()
    wanted = parse_recall(request.query, request.app[RECALL_SETTINGS], now_ms=now_ms())
    found = await request.app[RECALL].recall(request[TENANT], wanted)
    elapsed_ms = _ms_since(began)
    told = emitter.recalled(
        wanted.query,
        limit=wanted.limit,
        count=len(found.rows),
        elapsed_ms=elapsed_ms,
        tags=wanted.scope.tags,
    )
    request.app[EVENTS].emit(request[TENANT], Event.RECALL, told)
    return json_answer(recall_json(found, elapsed_ms))


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
