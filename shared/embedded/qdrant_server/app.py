"""The HTTP side: one wrapper around all handlers, and what the wrapper promises.

A handler returns the `result` of Qdrant's envelope or raises a `ServerError`; the
wrapper bounds its time, writes the envelope and picks the status.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

from aiohttp import web
from pydantic_core import to_json

from .errors import ServerError
from .fields import parse
from .registry import Registry

log = logging.getLogger(__name__)

REGISTRY = web.AppKey("registry", Registry)
Handler = Callable[[web.Request], Awaitable[object]]

# qdrant-client 1.20 warns unless the server reports 1.19 to 1.21.
VERSION = "1.19.0"
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_REQUEST_TIMEOUT_S = 60.0


def new_application(registry: Registry) -> web.Application:
    app = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[_http_errors])
    app[REGISTRY] = registry
    app.router.add_get("/", _root)
    for path in ("healthz", "livez", "readyz"):
        app.router.add_get(f"/{path}", _healthy)
    return app


def add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """Serve a path with a handler that returns the `result` of the envelope."""

    async def handle(request: web.Request) -> web.Response:
        started_s = perf_counter()
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                result = await handler(request)
        except ServerError as error:
            return _failure(error.status, str(error), started_s)
        except TimeoutError:
            return _failure(408, f"Timeout: not done in {_REQUEST_TIMEOUT_S:g} s", started_s)
        return _answer({"result": result, "status": "ok", "time": perf_counter() - started_s})

    app.router.add_route(method, path, handle)


async def body_of(request: web.Request) -> object:
    return parse(await request.read())


@web.middleware
async def _http_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give aiohttp's own refusals (no such route, body too large) Qdrant's shape."""
    started_s = perf_counter()
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _failure(error.status, error.reason, started_s)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _failure(500, "Service internal error: see the server's log", started_s)


def _failure(status: int, text: str, started_s: float) -> web.Response:
    elapsed_s = perf_counter() - started_s
    return _answer({"status": {"error": text}, "time": elapsed_s}, status)


def _answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(body), status=status, content_type="application/json")


async def _root(_request: web.Request) -> web.Response:
    return _answer({"title": "qdrant - vector search engine", "version": VERSION})


async def _healthy(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.path[1:]} check passed")
