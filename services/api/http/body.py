"""Request bodies: read up to the limit of their route, and parsed as JSON.

aiohttp's `client_max_size` applies to all routes; here each handler names its own limit, and a
body whose Content-Length exceeds it is refused before any of it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

from services.api.http.large_json import in_thread_if_large, parse_json
from services.api.http.parameters import SETTINGS
from services.api.http.validation import validate
from shared.errors import InvalidInput

# aiohttp decodes these by itself; a body in another encoding would be read as if it were JSON.
_ENCODINGS = ("identity", "gzip", "deflate")


_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JsonBody:
    """The bytes of a body, and the value that they encode."""

    raw: bytes
    value: Any

    def members(self) -> dict[str, Any]:
        """Return the members of the object that the body is. Raises: InvalidInput."""
        if not isinstance(self.value, dict):
            raise InvalidInput("JSON body is required")
        return self.value


async def read_model(request: web.Request, model: type[_M], *, optional: bool = False) -> _M:
    """Return the body as a `model`; an `optional` one that is absent counts as `{}`.

    Raises: as `read_json` and `validate`.
    """
    body = await read_json(request, optional=optional)
    return validate(model, body.members())


async def read_json(
    request: web.Request, most_bytes: int | None = None, *, optional: bool = False
) -> JsonBody:
    """Return the body of at most `most_bytes`. Raises: as `_read` and `parse_json`."""
    raw = await _read(request, most_bytes or request.app[SETTINGS].api.body_bytes)
    if optional and not raw.strip():
        return JsonBody(raw, {})
    return JsonBody(raw, await in_thread_if_large(len(raw), lambda: parse_json(raw)))


async def _read(request: web.Request, most_bytes: int) -> bytes:
    """Raises: HTTPRequestEntityTooLarge, InvalidInput for an encoding that is not decoded."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise InvalidInput(f"Content-Encoding must be one of {', '.join(_ENCODINGS)}")
    declared = request.content_length or 0
    if declared > most_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=declared)
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > most_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=len(body))
    return bytes(body)
