"""Request bodies: read up to their route's own limit, which is a setting, and parsed as JSON.

aiohttp's `client_max_size` is the whole application's; here each handler names its limit,
and a body that declares more is refused before a byte of it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.api.http.large_json import in_thread_if_large, parse_json
from services.api.http.parameters import SETTINGS
from shared.errors import InvalidInput

# aiohttp decodes these by itself; a body in another encoding would be read as if it were JSON.
_ENCODINGS = ("identity", "gzip", "deflate")


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body as it came, and what it says."""

    raw: bytes
    value: Any


async def read_json(request: web.Request, most_bytes: int | None = None) -> JsonBody:
    """The body of at most `most_bytes`. Raises: as `read_body` and `parse_json`."""
    raw = await read_body(request, most_bytes)
    return JsonBody(raw, await in_thread_if_large(len(raw), lambda: parse_json(raw)))


async def read_body(request: web.Request, most_bytes: int | None = None) -> bytes:
    """The whole body, of at most `most_bytes` (EUNOE_BODY_BYTES where it is None).

    Raises: HTTPRequestEntityTooLarge, InvalidInput for an encoding that is not decoded.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise InvalidInput(f"Content-Encoding must be one of {', '.join(_ENCODINGS)}")
    most = most_bytes or request.app[SETTINGS].api.body_bytes
    declared = request.content_length or 0
    if declared > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=declared)
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
    return bytes(body)
