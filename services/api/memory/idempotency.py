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
# Does a request's work, which may run twice; returns the status and the body.
Effect = Callable[[], Awaitable[tuple[int, Body]]]


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
    """Recognises repeated writes; `close` it after the last answer."""

    def __init__(self, clients: RedisClients, graph: GraphStore) -> None:
        self._clients = clients
        self._graph = graph
        self._script = Script(clients.command, scripts_beside(__file__)["fingerprints"])
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

    async def begin(self, request: web.Request, body: JsonBody) -> Write | web.Response:
        """Return a write for this request, or the answer that is stored under its key.

        Raises: InvalidInput for a malformed key, Conflict if the key was sent with another body.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return await self._claim(request, body.raw)
        write = await keyed(request, key, body)
        return await self._replay(write) or write

    async def resolve(self, write: Write, conflict: Conflict) -> web.Response:
        """Return the answer of the request that used the key first. Raises: `conflict` if none."""
        if (replay := await self._replay(write)) is None:
            raise conflict
        return replay

    async def finish(self, request: web.Request, write: Write, answer: Answer) -> web.Response:
        """Answer 201 with `answer`, or with the one that is stored under the write's key."""
        if write.key is not None:
            # The stored answer has the time until the write; the same is sent.
            elapsed_ms = getattr(write.kept, "query_time_ms", None)
            answer = answer.model_copy(update={"query_time_ms": elapsed_ms})
            if answer != write.kept:
                await self._graph.memories.answer_key(write.tenant, write.key, _text(201, answer))
        return StoredResponse(request, write, answer)

    async def run_once(self, request: web.Request, body: JsonBody, effect: Effect) -> web.Response:
        """Answer what `effect` returns, or without it the answer stored under the request's key.

        It does no harm when it runs twice: a repeat is recognised only by its key.
        """
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            write = await keyed(request, key, body)
            record = await self._graph.memories.take_key(write.tenant, key, write.body_hash)
            if replay := _replayed(write, record):
                return replay
        status, answer = await effect()
        if key is not None:
            await self._graph.memories.answer_key(request[TENANT], key, _text(status, answer))
        return json_answer(answer, status=status)

    def answered(self, write: Write) -> None:
        """Delete the write's fingerprint: once answered, an equal request is a new write."""
        if write.fingerprint is None:
            return
        self._answered.append(write)
        if len(self._answered) == 1:  # the same call deletes the fingerprints of later ones
            task = asyncio.create_task(self._calls.submit("", None), name="repeats-answered")
            self._deleting.add(task)
            task.add_done_callback(self._deleting.discard)

    async def _replay(self, write: Write) -> web.Response | None:
        """Return the answer stored under the write's key, if there is one. Raises: Conflict."""
        if write.key is None:
            return None
        record = await self._graph.memories.idem(write.tenant, write.key)
        return None if record is None else _replayed(write, record)

    async def _claim(self, request: web.Request, raw: bytes) -> Write:
        write = Write(request[TENANT])
        if time.monotonic() < self._skip_until:
            return write
        identity = (write.tenant, request[ACCESS].digest, request.remote or "", _target(request))
        head = "\0".join(identity).encode()
        fingerprint = await in_thread_if_large(len(raw), lambda: _digest(head, [raw]))
        write.fingerprint = self._clients.key("writes", fingerprint)
        claimed_id = await self._calls.submit("", write)
        if claimed_id != write.id:
            WRITES_REPEATED.labels(by="fingerprint").inc()
            write.id = claimed_id
        return write

    async def _flush(self, _: str, rows: list[Write | None]) -> Sequence[str]:
        """Delete the answered fingerprints, then claim those of `rows`; None claims nothing.

        A claim's result is the id to write under: its own, unless it is a repeat.
        """
        answered, self._answered = self._answered, []
        writes = [*answered, *filter(None, rows)]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                claimed_ids = await self._script(
                    [str(write.fingerprint) for write in writes],
                    [len(answered), _HELD_MS, *(write.id for write in writes)],
                )
        except (TransientError, PermanentError, TimeoutError) as error:
            self._skip_until = time.monotonic() + _SKIP_S
            claims = len(writes) - len(answered)
            _log.warning("repeats.blind", writes=claims, error=str(error) or "timeout")
            claimed_ids = [write.id for write in writes[len(answered) :]]
        following = iter(claimed_ids)
        return ["" if row is None else next(following) for row in rows]


async def keyed(request: web.Request, key: str, body: JsonBody) -> Write:
    """Return the write of a request that has a key. Raises: InvalidInput for a malformed one."""
    if not (0 < len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable characters")
    head, pieces = _target(request).encode(), map(str.encode, canonical(body.value))
    digest = await in_thread_if_large(len(body.raw), lambda: _digest(head, pieces))
    return Write(request[TENANT], key=key, body_hash=digest)


def _target(request: web.Request) -> str:
    return f"{request.method} {request.path}"


def _replayed(write: Write, record: Idem) -> web.Response | None:
    if record.body_hash != write.body_hash:
        raise Conflict("This Idempotency-Key was used for another request")
    if not record.answer_json:
        return None
    WRITES_REPEATED.labels(by="key").inc()
    answer = json.loads(record.answer_json)
    return json_answer(answer["body"], status=answer["status"], Idempotent_Replay="true")


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


IDEMPOTENCY: web.AppKey[Idempotency] = web.AppKey("idempotency", Idempotency)


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
