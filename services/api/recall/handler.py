"""GET /recall: parse the query, recall, tell the event stream, render."""

from __future__ import annotations

import time

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query
from services.api.http.route import Route
from services.api.memory.handlers import EVENTS, ms_since
from services.api.recall.answer import RecalledAnswer, answer_of
from services.api.recall.request import PARAMETERS, parse_recall
from services.api.recall.service import Recall
from shared.domain.memory import now_ms
from shared.events import emitter
from shared.events.emitter import Event

RECALL: web.AppKey[Recall] = web.AppKey("recall", Recall)


async def recall(request: web.Request) -> web.Response:
    began = time.perf_counter()
    wanted = parse_recall(Query.of(request), now_ms=now_ms())
    found = await request.app[RECALL].recall(request[TENANT], wanted)
    elapsed_ms = ms_since(began)
    event = emitter.recalled(
        wanted.query,
        limit=wanted.limit,
        count=len(found.rows),
        elapsed_ms=elapsed_ms,
        tags=wanted.scope.tags,
    )
    request.app[EVENTS].emit(request[TENANT], Event.RECALL, event)
    return json_answer(answer_of(found, elapsed_ms))


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/recall",
        recall,
        "Find memories by meaning, words, tags and time",
        query=PARAMETERS,
        returns=RecalledAnswer,
    ),
)
