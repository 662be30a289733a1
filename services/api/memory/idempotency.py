"""Idempotency: a client that sends the same write again gets the memory of its first try.

With an Idempotency-Key the graph decides: the node of the key is written in the same query as
the memory. A client without a key that got no answer repeats its request unchanged. Redis keeps
the memory's id under the request's fingerprint, from before the write until the answer is sent.
Then the fingerprint is deleted at once, because storing the same text twice is allowed.

An answer counts as received once it was sent on a live connection, even if a proxy loses it later.
While Redis is down, repeats are not recognised by their fingerprint, and each one is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from services.api.http.answers import Answer, json_answer
from services.api.http.body import JsonBody
from services.api.http.large_json import canonical, in_thread_if_large
from services.api.http.middleware import ACCESS, TENANT
from shared.errors import Conflict, InvalidInput, PermanentError, TransientError
from shared.graph.records import Idem
from shared.graph.store import GraphStore
from shared.group_commit import GroupCommit
from shared.redis.client import RedisClients, Script, scripts_beside
from shared.telemetry import log
from shared.telemetry.metrics import WRITES_REPEATED

_HELD_MS = 60_000
_MAX_KEY_CHARS = 255
# A write waits for Redis so long, then goes on without its fingerprint; after that, no write
# looks its fingerprint up for _SKIP_S.
_TIMEOUT_S = 1.0
_SKIP_S = 2.0
_log = log.get_logger(__name__)
Body = Answer | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The sender of a write: the token's `digest`, and its address as `peer`.

    `target` is the method and path, `key` the Idempotency-Key.
    """

    tenant: str
    digest: str
    peer: str
    target: str
    key: str | None = None

    @classmethod
    def of(cls, request: web.Request) -> RequestIdentity:
        return cls(
            tenant=request[TENANT],
            digest=request[ACCESS].digest,
            peer=request.remote or "",
            target=f"{request.method} {request.path}",
            key=request.headers.get("Idempotency-Key"),
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same key got."""

    status: int
    body: Mapping[str, Any]

    def response(self) -> web.Response:
        return json_answer(self.body, status=self.status, Idempotent_Replay="true")


@dataclass(slots=True)
class Write:
    """One request that stores memories, whose repeat stores them under the same ids."""

    tenant: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fingerprint: str | None = None
    key: str | None = None
    body_hash: str = ""
    kept: Answer | None = None

    def ids(self, count: int) -> list[str]:
        """Return `count` UUIDv4s: `id`, and others that are computed from it."""
        return [self.id, *(_derived(self.id, at) for at in range(1, count))][:count]

    def keep(self, ids: Sequence[str], answer: Callable[[], Answer]) -> Idem | None:
        """Return the record of the key, to be written with the memories `ids`; None without one.

        It holds the `answer` of a success, because it is written before the request ends.
        `answer` is called only where there is a key: making one costs a tenth of a write.
        """
        if self.key is None:
            return None
        self.kept = answer()
        return Idem(self.key, self.body_hash, tuple(ids), _text(201, self.kept))


class Idempotency:
    """Recognises repeated writes; call `close()` after the last answer."""

    def __init__(self, clients: RedisClients, graph: GraphStore) -> None:
        self._clients = clients
        self._graph = graph
        self._script = Script(clients.command, scripts_beside(__file__)["repeats"])
        # One call is in flight at a time, so that Redis deletes the fingerprint of an answered
        # write before it looks for the fingerprint of a later write.
        self._calls: GroupCommit[str, Write | None, str] = GroupCommit(
            self._flush, max_rows=256, name="repeats"
        )
        self._answered: list[Write] = []
        self._deleting: set[asyncio.Task[str]] = set()
        self._skip_until = 0.0

    async def close(self) -> None:
        while self._deleting:
            await asyncio.wait(self._deleting)
        await self._calls.close()

    async def begin(self, request: web.Request, body: JsonBody) -> Write | Replay:
        """Return a write for this request, or the answer that is stored under its key.

        Raises: InvalidInput for a malformed key, Conflict if the key was sent with another body.
        """
        sender = RequestIdentity.of(request)
        if sender.key is None:
            return await self._claim(sender, body.raw)
        write = await _keyed(sender, sender.key, body)
        return await self.replay(write) or write

    async def take(self, request: web.Request, body: JsonBody) -> Write | Replay:
        """Return the same as `begin`, for a request that does no harm when it runs twice.

        A repeat is recognised only by its key, which is stored now; `finish` stores its answer.
        """
        sender = RequestIdentity.of(request)
        if sender.key is None:
            return Write(sender.tenant)
        write = await _keyed(sender, sender.key, body)
        record = await self._graph.keys.take(write.tenant, sender.key, write.body_hash)
        return _replay(write, record) or write

    async def replay(self, write: Write) -> Replay | None:
        """Return the answer stored under the write's key, if there is one. Raises: Conflict."""
        if write.key is None:
            return None
        record = await self._graph.memories.idem(write.tenant, write.key)
        return None if record is None else _replay(write, record)

    async def finish(self, write: Write, status: int, body: Body) -> Body:
        """Return the answer to send: with a key, the one that is stored under it."""
        if write.key is None:
            return body
        if write.kept is not None and isinstance(body, Answer):
            # The stored answer has the time until the write; the same is sent.
            elapsed_ms = getattr(write.kept, "query_time_ms", None)
            body = body.model_copy(update={"query_time_ms": elapsed_ms})
        if body != write.kept:
            await self._graph.keys.answer(write.tenant, write.key, _text(status, body))
        return body

    def answered(self, write: Write) -> None:
        """Delete the write's fingerprint: once answered, an equal request is a new write."""
        if write.fingerprint is None:
            return
        self._answered.append(write)
        if len(self._answered) == 1:  # the same call deletes the fingerprints of later ones
            task = asyncio.create_task(self._calls.submit("", None), name="repeats-answered")
            self._deleting.add(task)
            task.add_done_callback(self._deleting.discard)

    async def _claim(self, sender: RequestIdentity, raw: bytes) -> Write:
        write = Write(sender.tenant)
        if time.monotonic() < self._skip_until:
            return write
        parts = (sender.tenant, sender.digest, sender.peer, sender.target)
        head = "\0".join(parts).encode()
        fingerprint = await in_thread_if_large(len(raw), lambda: _digest(head, [raw]))
        write.fingerprint = self._clients.key("writes", fingerprint)
        claimed_id = await self._calls.submit("", write)
        if claimed_id != write.id:
            WRITES_REPEATED.labels(by="fingerprint").inc()
            write.id = claimed_id
        return write

    async def _flush(self, _: str, rows: list[Write | None]) -> Sequence[str]:
        """Delete the answered fingerprints, then claim those of `rows`; None claims nothing."""
        answered, self._answered = self._answered, []
        claims = [row for row in rows if row is not None]
        claimed_ids = iter(await self._claimed_ids(answered, claims))
        return ["" if row is None else next(claimed_ids) for row in rows]

    async def _claimed_ids(self, answered: list[Write], claims: list[Write]) -> list[str]:
        """Return the id that each claim must write under: its own, unless it is a repeat."""
        writes = [*answered, *claims]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                claimed_ids = await self._script(
                    [str(write.fingerprint) for write in writes],
                    [len(answered), _HELD_MS, *(write.id for write in writes)],
                )
        except (TransientError, PermanentError, TimeoutError) as error:
            self._skip_until = time.monotonic() + _SKIP_S
            _log.warning("repeats.blind", writes=len(claims), error=str(error) or "timeout")
            return [write.id for write in claims]
        return list(claimed_ids)


async def _keyed(sender: RequestIdentity, key: str, body: JsonBody) -> Write:
    if not (0 < len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable characters")
    pieces = canonical(body.value)
    digest = await in_thread_if_large(
        len(body.raw), lambda: _digest(sender.target.encode(), map(str.encode, pieces))
    )
    return Write(sender.tenant, key=key, body_hash=digest)


def _replay(write: Write, record: Idem) -> Replay | None:
    if record.body_hash != write.body_hash:
        raise Conflict("This Idempotency-Key was used for another request")
    if not record.answer_json:
        return None
    WRITES_REPEATED.labels(by="key").inc()
    answer = json.loads(record.answer_json)
    return Replay(answer["status"], answer["body"])


def _digest(head: bytes, pieces: Iterable[bytes]) -> str:
    # No part of a head holds a NUL, so different pairs give different bytes.
    digest = hashlib.blake2b(head + b"\0", digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _derived(seed: str, at: int) -> str:
    digest = hashlib.blake2b(f"{seed}:{at}".encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _text(status: int, body: Body) -> str:
    return to_json({"status": status, "body": body}).decode()


# -- HTTP -------------------------------------------------------------------------------

IDEMPOTENCY: web.AppKey[Idempotency] = web.AppKey("idempotency", Idempotency)
# Does a request's work, which may run twice; returns the status and the body.
Effect = Callable[[], Awaitable[tuple[int, Body]]]


class StoredResponse(web.Response):
    """A 201 that deletes the write's fingerprint once it was sent on a live connection."""

    def __init__(self, request: web.Request, write: Write, body: Body) -> None:
        super().__init__(
            body=to_json(body), status=201, content_type="application/json", charset="utf-8"
        )
        self._request = request
        self._write = write

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)  # raises on a connection that is known to be gone
        # Look at once: a client that has read its answer may close the connection.
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            self._request.app[IDEMPOTENCY].answered(self._write)


async def finish_write(request: web.Request, write: Write, answer: Answer) -> web.StreamResponse:
    """Answer 201 with `answer`, or with the one that is stored under the write's key."""
    body = await request.app[IDEMPOTENCY].finish(write, 201, answer)
    return StoredResponse(request, write, body)


async def replayed_conflict(
    request: web.Request, write: Write, conflict: Conflict
) -> web.StreamResponse:
    """Answer with the stored answer of the request that used this key at the same time.

    Raises: the conflict, where no answer is stored.
    """
    replay = await request.app[IDEMPOTENCY].replay(write)
    if replay is None:
        raise conflict
    return replay.response()


async def effecting(request: web.Request, body: JsonBody, effect: Effect) -> web.StreamResponse:
    """Answer what `effect` returns, or without it the answer stored under the request's key."""
    idempotency = request.app[IDEMPOTENCY]
    write = await idempotency.take(request, body)
    if isinstance(write, Replay):
        return write.response()
    status, answer = await effect()
    return json_answer(await idempotency.finish(write, status, answer), status=status)
