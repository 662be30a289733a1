"""One Qdrant call with a time limit, counted, its exceptions translated. Nothing is retried."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shared.errors import EunoeError, NotFound, PermanentError, TransientError, Unavailable
from shared.telemetry.metrics import STORE_DURATION, STORE_ERRORS

_T = TypeVar("_T")
STORE = "vectors"
_SHOWN_CHARS = 200
_CLIENT_ERRORS = (ResponseHandlingException, UnexpectedResponse, ResourceExhaustedResponse)


async def observed_call(operation: str, call: Awaitable[_T], timeout_s: float) -> _T:
    """Await `call` for at most `timeout_s`, and count it.

    Raises: Unavailable if Qdrant does not answer or fails, TransientError if it is too busy,
    NotFound for a missing collection, PermanentError for a request that it refuses.
    """
    started = perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except (*_CLIENT_ERRORS, TimeoutError) as error:
        ours = _translated(operation, error)
        kind = "transient" if isinstance(ours, TransientError) else "permanent"
        STORE_ERRORS.labels(store=STORE, operation=operation, kind=kind).inc()
        raise ours from error
    finally:
        STORE_DURATION.labels(store=STORE, operation=operation).observe(perf_counter() - started)


def _translated(operation: str, error: Exception) -> EunoeError:
    if isinstance(error, ResourceExhaustedResponse):
        text = f"{STORE}: {operation}: too many requests"
        return TransientError(text, retry_after_s=float(error.retry_after_s))
    if not isinstance(error, UnexpectedResponse):
        # The class says enough (ConnectError, ReadTimeout …); the text may hold a URL with a key.
        source = error.source if isinstance(error, ResponseHandlingException) else error
        return Unavailable(STORE, f"{operation}: {type(source).__name__}")
    status = error.status_code or 500
    text = f"{operation}: HTTP {status}: {_reason(error.content)}"
    if status == 404:
        return NotFound(f"{STORE}: {text}")
    if status in (401, 403, 429) or status >= 500:
        return Unavailable(STORE, text)
    return PermanentError(f"{STORE}: {text}")


def _reason(content: bytes) -> str:
    """Qdrant's own sentence; its errors name fields and sizes, not payloads."""
    try:
        return str(json.loads(content)["status"]["error"])[:_SHOWN_CHARS]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
