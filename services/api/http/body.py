"""Request bodies, read up to their route's own limit.

aiohttp's `client_max_size` is the whole application's; here each handler names its limit,
and a body that declares more is refused before a byte of it is read.
"""

from __future__ import annotations

from aiohttp import web

from shared.errors import InvalidInput

# What aiohttp undoes by itself; anything else would be read as if it were the text.
_ENCODINGS = ("identity", "gzip", "deflate")
BODY_BYTES: web.AppKey[int] = web.AppKey("body_bytes", int)
BATCH_BODY_BYTES: web.AppKey[int] = web.AppKey("batch_body_bytes", int)


async def read_body(request: web.Request, limit: web.AppKey[int] = BODY_BYTES) -> bytes:
    """The whole body.

    Raises: HTTPRequestEntityTooLarge past the application's `limit`, InvalidInput for an
    encoding that nobody undoes.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise InvalidInput(f"Content-Encoding must be one of {', '.join(_ENCODINGS)}")
    most = request.app[limit]
    declared = request.content_length or 0
    if declared > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=declared)
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
    return bytes(body)
