"""The HTTP side of repeated writes: who asks, the key's header, and when an answer is out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic_core import to_json

from services.api.http.answers import Answer, json_answer
from services.api.http.middleware import ACCESS, TENANT
from services.api.memory.idempotency import Body, Idempotency, Replay, RequestIdentity, Write
from shared.errors import Conflict

REPEATS: web.AppKey[Idempotency] = web.AppKey("repeats", Idempotency)
KEY_HEADER = "Idempotency-Key"

# Stores under the write's ids and key; the body to answer with 201.
Store = Callable[[Write], Awaitable[Answer]]
# Does what may be done twice; status and body.
Effect = Callable[[], Awaitable[tuple[int, Body]]]


class Written(web.Response):
    """An answer that says when it was written on a connection that is still alive."""

    def __init__(self, request: web.Request, body: Body, written: Callable[[], None]) -> None:
        super().__init__(
            body=to_json(body), status=201, content_type="application/json", charset="utf-8"
        )
        self._asked = request
        self._written = written

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)  # raises on a connection that is known to be gone
        # Not a turn of the loop later: who has read its answer may hang up at once.
        transport = self._asked.transport
        if transport is not None and not transport.is_closing():
            self._written()


async def storing(request: web.Request, raw: bytes, store: Store) -> web.StreamResponse:
    """201 with what `store` did, under the ids of the first try of this very request."""
    repeats = request.app[REPEATS]
    write = await repeats.begin(_sender(request), raw)
    if isinstance(write, Replay):
        return _replayed(write)
    try:
        body = await store(write)
    except Conflict:
        # Another request with this key was quicker; its answer is this one's.
        replay = await repeats.replay(write)
        if replay is None:
            raise
        return _replayed(replay)
    return Written(request, await repeats.finish(write, 201, body), lambda: repeats.answered(write))


async def effecting(request: web.Request, raw: bytes, effect: Effect) -> web.StreamResponse:
    """What `effect` answers; with a key that was answered before, that answer again."""
    repeats = request.app[REPEATS]
    write = await repeats.take(_sender(request), raw)
    if isinstance(write, Replay):
        return _replayed(write)
    status, body = await effect()
    return json_answer(await repeats.finish(write, status, body), status=status)


def _replayed(replay: Replay) -> web.Response:
    return json_answer(replay.body, status=replay.status, Idempotent_Replay="true")


def _sender(request: web.Request) -> RequestIdentity:
    return RequestIdentity(
        tenant=request[TENANT],
        digest=request[ACCESS].digest,
        peer=request.remote or "",
        target=f"{request.method} {request.path}",
        key=request.headers.get(KEY_HEADER),
    )
