"""What happens around every request: name it, authenticate it, answer its errors, measure it.

This is one middleware, because each layer of aiohttp's chain costs as much as the work here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.api.http.answers import error_answer
from services.api.http.graph_circuit import GraphCircuit
from services.api.http.tenancy import Access, Forbidden, Unauthorized
from shared.errors import (
    Conflict,
    EunoeError,
    InvalidInput,
    NotFound,
    Overloaded,
    TransientError,
    Unavailable,
)
from shared.telemetry import log, metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TENANT: web.RequestKey[str] = web.RequestKey("tenant", str)
ACCESS: web.RequestKey[Access] = web.RequestKey("access", Access)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
# The response whose headers were sent, if any.
BEGUN: web.RequestKey[web.StreamResponse] = web.RequestKey("begun", web.StreamResponse)

_STATUS: tuple[tuple[type[EunoeError], int], ...] = (
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Unauthorized, 401),
    (Forbidden, 403),
    (Overloaded, 503),
    (TransientError, 503),
)
_STORES = {"graph": "FalkorDB", "vectors": "Qdrant", "redis": "Redis"}
_METHODS = frozenset({"GET", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "PUT"})
_RETRY_AFTER_S = 2.0
_log = log.get_logger(__name__)


def make_middleware(
    authenticate: Callable[[web.Request], None], circuit: GraphCircuit
) -> Middleware:
    """Return the middleware; `authenticate` puts the tenant and its access on a request."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        request[REQUEST_ID] = _request_id(request)
        response = await _translate(request, handler, authenticate, circuit)
        _observe(request, response.status, time.perf_counter() - began)
        begun: web.StreamResponse | None = request.get(BEGUN)
        if begun is None or begun is response:
            return response
        # A second response would become a part of the first one's body. The connection is
        # aborted, so that the client sees that the first one is not complete.
        _log.warning("response.aborted", route=_route(request), request_id=request[REQUEST_ID])
        if request.transport is not None:
            request.transport.abort()
        return begun

    return around


def _request_id(request: web.Request) -> str:
    name = request.headers.get("X-Request-Id", "")
    is_usable = 0 < len(name) <= 64 and name.isascii() and name.isprintable()
    return name if is_usable else os.urandom(16).hex()


async def _translate(
    request: web.Request,
    handler: Handler,
    authenticate: Callable[[web.Request], None],
    circuit: GraphCircuit,
) -> web.StreamResponse:
    request_id = request[REQUEST_ID]
    try:
        if request.method == "OPTIONS":
            return web.Response(status=204)
        authenticate(request)
        with circuit.protected(request.path):
            return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _http_answer(error, request_id)
    except EunoeError as error:
        return _domain_answer(error, request_id)
    except web.RequestPayloadError:
        return error_answer(400, "The body is not what its headers say", request_id=request_id)
    # At the HTTP boundary a bug is logged, and answered with 500 in our shape.
    except Exception:  # noqa: BLE001
        _log.exception("request.failed", route=_route(request), request_id=request_id)
        return error_answer(500, "Internal server error", request_id=request_id)


def _http_answer(error: web.HTTPException, request_id: str) -> web.Response:
    if error.status == web.HTTPRequestEntityTooLarge.status_code:
        metrics.HTTP_REJECTED.labels(reason="size").inc()
        return error_answer(413, "The body is too large", request_id=request_id)
    answer = error_answer(error.status, error.reason, request_id=request_id)
    if isinstance(error, web.HTTPMethodNotAllowed):
        answer.headers["Allow"] = ",".join(sorted(error.allowed_methods))
    return answer


def _domain_answer(error: EunoeError, request_id: str) -> web.Response:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    message, retry_after_s = str(error), None
    if isinstance(error, Overloaded):
        metrics.HTTP_REJECTED.labels(reason="busy").inc()
        retry_after_s = error.retry_after_s
    elif isinstance(error, TransientError):
        retry_after_s = error.retry_after_s or _RETRY_AFTER_S
        if isinstance(error, Unavailable):
            # Not its address or the library's words, which may hold secrets.
            message = f"{_STORES.get(error.dependency, error.dependency)} is unavailable"
    elif status == 500:
        _log.error("request.refused", error=message, request_id=request_id)
        message = "Internal server error"
    elif status in (401, 403):
        metrics.HTTP_REJECTED.labels(reason="auth").inc()
    return error_answer(status, message, request_id=request_id, retry_after_s=retry_after_s)


def mark_response(
    cors_origins: str,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return a handler that sets an answer's headers; for streams a middleware is too late."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        request[BEGUN] = response
        response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
        if "Origin" in request.headers:
            _allow_origin(request, response, cors_origins)

    return prepare


def _allow_origin(request: web.Request, response: web.StreamResponse, allowed: str) -> None:
    origin = request.headers["Origin"]
    origins = [name.strip() for name in allowed.split(",")]
    if "*" not in origins and origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    response.headers["Access-Control-Allow-Headers"] = (
        "Content-Type, X-API-Key, Authorization, X-Tenant-Id, Idempotency-Key, Last-Event-ID"
    )
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE, OPTIONS"


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _observe(request: web.Request, status: int, seconds: float) -> None:
    metrics.HTTP_DURATION.labels(
        method=request.method if request.method in _METHODS else "other",
        route=_route(request),
        status=str(status),
    ).observe(seconds)
