"""The route table: everything the API serves, in one place.

The application, the OpenAPI document and the documentation page are built from it; handlers
parse, call one use case, and render. `python -m services.api.routes` prints docs/openapi.json.
"""

from __future__ import annotations

import sys

from aiohttp import web

from services.api.backup import backup
from services.api.graph import analyze, entities, relations, views
from services.api.http import docs_page, openapi
from services.api.http.answers import error_answer
from services.api.http.middleware import REQUEST_ID
from services.api.http.route import Route, Routes
from services.api.memory import handlers
from services.api.operations import (
    dead_letters,
    enrichment,
    event_stream,
    generations,
    health,
    memory_status,
    queues,
    runs,
    vectors,
)
from services.api.recall import handler as recall
from services.api.recall import startup
from shared.config import Settings

_LATER = Routes(answers={501: "Not implemented in this version"}, group="operations")


@_LATER.add("GET", "/consolidate/status", "State of the consolidation")
@_LATER.add("POST", "/consolidate", "Consolidate the memories", scope="write")
async def not_yet(request: web.Request) -> web.Response:
    """Answer 501, so that a client learns that a later version serves this path."""
    message = f"{request.method} {request.path} is not implemented in this version"
    return error_answer(501, message, request_id=request[REQUEST_ID])


ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *docs_page.ROUTES,
    *handlers.ROUTES,
    *recall.ROUTES,
    *relations.ROUTES,
    *startup.ROUTES,
    *analyze.ROUTES,
    *views.ROUTES,
    *entities.ROUTES,
    *event_stream.ROUTES,
    *backup.ROUTES,
    *memory_status.ROUTES,
    *enrichment.ROUTES,
    *vectors.ROUTES,
    *runs.ROUTES,
    *generations.ROUTES,
    *dead_letters.ROUTES,
    *queues.ROUTES,
    *_LATER,
)


if __name__ == "__main__":
    sys.stdout.write(openapi.rendered(ROUTES, Settings()))
