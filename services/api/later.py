"""Routes of AutoMem that this version does not serve yet: 501, once their tokens are right.

A client learns that the path is right and the service is too young, not that it mistyped.
"""

from __future__ import annotations

from aiohttp import web

from services.api.http.answers import error_answer
from services.api.http.middleware import REQUEST_ID
from services.api.http.route import Route, Scope


async def not_yet(request: web.Request) -> web.Response:
    message = f"{request.method} {request.path} is not implemented in this version"
    return error_answer(501, message, request_id=request[REQUEST_ID])


def _later(method: str, path: str, summary: str, scope: Scope) -> Route:
    return Route(
        method,
        path,
        not_yet,
        summary,
        scope=scope,
        answers={501: "Not implemented in this version"},
        group="operations",
    )


ROUTES: tuple[Route, ...] = (
    _later("POST", "/consolidate", "Consolidate the memories", "write"),
    _later("GET", "/consolidate/status", "State of the consolidation", "read"),
)
