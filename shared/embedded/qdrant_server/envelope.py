"""Qdrant's envelope around every answer and refusal, and a limit on a request's time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

from aiohttp import web
from pydantic_core import to_json

from .errors import ServerError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[object]]

_REQUEST_TIMEOUT_S = 60.0


def enveloped(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return an aiohttp handler that answers with what `handler` returns as the `result`."""

    async def handle(request: web.Request) -> web.Response:
        started_s = perf_counter()
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                result = await handler(request)
        except ServerError as error:
            return _refusal(error.status, str(error), started_s)
        except web.HTTPException as error:  # aiohttp's own: the body is too large
            return _refusal(error.status, error.reason, started_s)
        except TimeoutError:
            return _refusal(408, f"Timeout: not done in {_REQUEST_TIMEOUT_S:g} s", started_s)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return _refusal(500, "Service internal error: see the server's log", started_s)
        return answer({"result": result, "status": "ok", "time": perf_counter() - started_s})

    return handle


def answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(body), status=status, content_type="application/json")


def _refusal(status: int, text: str, started_s: float) -> web.Response:
    elapsed_s = perf_counter() - started_s
    return answer({"status": {"error": text}, "time": elapsed_s}, status)
