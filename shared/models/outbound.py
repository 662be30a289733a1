"""Translate a provider's answers: its failures to our errors, its numbers to unit vectors.

Our messages carry a status and the provider's error code, never its text: providers repeat
inputs and parts of keys, and messages end up in logs and dead-letter streams.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from shared.errors import EunoeError, PermanentError, PoisonInput, TransientError, Unavailable
from shared.models.circuit import Kind
from shared.models.types import Vectors
from shared.telemetry.metrics import MODEL_DURATION, MODEL_ERRORS

Input = TypeVar("Input")
Answer = TypeVar("Answer")

# Embedding this text costs a fraction of a cent and shows whether the provider is up, and which
# dimension its model has.
HARMLESS = "dimension"
_REFUSED = frozenset({400, 413, 422})
_REASONS = {
    401: "the key is refused",
    402: "the account must be paid",
    403: "the key may not use this model",
    404: "no such model or address",
    429: "too many requests",
}
# A provider that asks for a longer wait than an hour is called again after an hour.
_LONGEST_RETRY_AFTER_S = 3600.0
_CODE = re.compile(r"[\w.-]{1,64}")


@asynccontextmanager
async def observed_call(kind: Kind, model: str, timeout_s: float) -> AsyncIterator[None]:
    """Count and time one provider call; `timeout_s` is for all of it, the body included."""
    started = perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        MODEL_ERRORS.labels(model=model, kind=kind).inc()
        raise Unavailable(kind, f"{model} did not answer within {timeout_s:g} s") from error
    except EunoeError:
        MODEL_ERRORS.labels(model=model, kind=kind).inc()
        raise
    finally:
        MODEL_DURATION.labels(model=model, kind=kind).observe(perf_counter() - started)


class ServerFailure(Unavailable):
    """HTTP 5xx: usually the provider is down, but some servers fail at one text in this way."""


async def isolate_bad_input(
    call: Callable[[Input], Awaitable[Answer]], given: Input, harmless: Input
) -> Answer:
    """Return `call(given)`; after a server failure, call with a harmless input to tell why.

    Raises: PoisonInput if the harmless input is answered, else what `call` raises.
    """
    try:
        return await call(given)
    except ServerFailure as error:
        if given == harmless:
            raise
        await call(harmless)
        raise PoisonInput(str(error)) from error


def error_of_status(
    kind: Kind, status: int, body: object, headers: Mapping[str, str]
) -> EunoeError:
    """Return our error: 400, 413 and 422 concern the input, other statuses every call.

    A server without chat answers 404 for good, so that is permanent. An embedding model has
    answered once at the start, so its 404 is an outage.
    """
    code = _error_code(body)
    status_text = f"HTTP {status}{f' ({code})' if code else ''}"
    wait_s = retry_after_s(headers)
    if status in _REFUSED:
        return PermanentError(f"{kind}: input refused, {status_text}")
    if kind == "chat" and status == 404:
        return PermanentError(f"chat: {_REASONS[404]}, {status_text}")
    if status >= 500 and wait_s is None:
        return ServerFailure(kind, f"the provider fails, {status_text}")
    reason = _REASONS.get(status, "the provider fails")
    return Unavailable(kind, f"{reason}, {status_text}", retry_after_s=wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After` or OpenAI's `retry-after-ms`; None if unreadable."""
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return _bounded(float(ms) / 1000)
        if (given := headers.get("retry-after")) is None:
            return None
        if not given.strip().replace(".", "", 1).isdigit():
            return _bounded((parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
        return _bounded(float(given))
    except (ValueError, TypeError):
        return None


def vectors_of(content: bytes, count: int, dimension: int | None) -> tuple[Vectors, int]:
    """Return unit vectors in input order, and the tokens used, of an OpenAI-shaped answer.

    Raises: TransientError for an answer that is cut or has the wrong count, order or
    numbers; Unavailable for another dimension than the model's.
    """
    try:
        answer = json.loads(content)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(count)):
            raise TransientError(f"embedding: {len(rows)} vectors for {count} texts")
        vectors = np.array([_numbers(row["embedding"]) for row in rows], np.float32)
        used = answer.get("usage") or {}
        spent = int(used.get("prompt_tokens") or used.get("total_tokens") or 0)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise TransientError("embedding: the answer is not a list of vectors") from error
    return _unit(vectors, dimension), spent


def _unit(vectors: Vectors, dimension: int | None) -> Vectors:
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        raise Unavailable(
            "embedding", f"vectors of shape {vectors.shape} instead of dimension {dimension}"
        )
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise TransientError("embedding: a vector is zero or not finite")
    unit: Vectors = vectors / lengths
    return unit


def _numbers(embedding: str | Sequence[float]) -> Any:
    """Return a row as floats, or as base64 of little-endian float32."""
    if not isinstance(embedding, str):
        return embedding
    return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")


def _error_code(body: object) -> str:
    """Return the provider's short name for the failure, where it gives one."""
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(inner, Mapping):
        for name in ("code", "type"):
            if isinstance(inner.get(name), str) and _CODE.fullmatch(inner[name]):
                return str(inner[name])
    return ""


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None
