"""Idempotency: a client that sends the same write again gets the memory of the first time.

With an Idempotency-Key the graph decides: the key's node is written in the memory's own
query. Without one, a client that got no answer repeats the request as it was; so the id of a
memory exists before the memory, under the request's fingerprint in Redis, until the answer was
written. A write that was answered is forgotten at once: storing the same twice is allowed.

The limit: an answer that was written on a live connection, and lost behind it, counts as
answered. Without Redis nothing is recognised, and everything is stored.
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
# The fingerprint is a help, not a condition: past this a write goes on without, and for a
# while the next ones do not look for theirs either.
_TIMEOUT_S = 1.0
_BLIND_S = 2.0
_log = log.get_logger(__name__)
Body = Answer | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Who sends a write: `digest` is the token's, `peer` the address, `target` method and path."""

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
    """What the request under this key was answered before."""

    status: int
    body: Mapping[str, Any]

    def response(self) -> web.Response:
        return json_answer(self.body, status=self.status, Idempotent_Replay="true")


@dataclass(slots=True)
class Write:
    """One request that stores something; its repeat gets the same ids."""

    tenant: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fingerprint: str | None = None
    key: str | None = None
    body_hash: str = ""
    kept: Answer | None = None

    def ids(self, count: int) -> list[str]:
        """So many UUIDv4s: `id`, then what follows from it."""
        return [self.id, *(_derived(self.id, at) for at in range(1, count))][:count]

    def keep(self, ids: Sequence[str], answer: Answer) -> Idem | None:
        """What is written with the memories `ids` where the request has a key.

        `answer` says what will be so if all goes well: the write itself must hold it.
        """
        if self.key is None:
            return None
        self.kept = answer
        return Idem(self.key, self.body_hash, tuple(ids), _text(201, answer))


class Idempotency:
    """Recognises repeated writes; `close()` it after the last answer."""

    def __init__(self, clients: RedisClients, graph: GraphStore) -> None:
        self._clients = clients
        self._graph = graph
        self._script = Script(clients.command, scripts_beside(__file__)["repeats"])
        # One call in flight: an answer noted before a claim reaches Redis before it.
        self._calls: GroupCommit[str, Write | None, str] = GroupCommit(
            self._flush, max_rows=256, name="repeats"
        )
        self._answered: list[Write] = []
        self._noting: set[asyncio.Task[str]] = set()
        self._blind_until = 0.0

    async def close(self) -> None:
        while self._noting:
            await asyncio.wait(self._noting)
        await self._calls.close()

    async def begin(self, sender: RequestIdentity, body: JsonBody) -> Write | Replay:
        """The write that this request is, or the answer that its key got before.

        Raises: InvalidInput for a key that is none, Conflict for another body's key.
        """
        if sender.key is None:
            return await self._claim(sender, body.raw)
        write = await _keyed(sender, sender.key, body)
        return await self.replay(write) or write

    async def take(self, sender: RequestIdentity, body: JsonBody) -> Write | Replay:
        """As `begin`, for what may be done twice: without a key there is nothing to recognise.

        The key is taken before the effect and answered by `finish`.
        """
        if sender.key is None:
            return Write(sender.tenant)
        write = await _keyed(sender, sender.key, body)
        found = await self._graph.keys.take(write.tenant, sender.key, write.body_hash)
        return _replay(write, found) or write

    async def replay(self, write: Write) -> Replay | None:
        """What stands under the write's key, if anything. Raises: Conflict."""
        if write.key is None:
            return None
        found = await self._graph.memories.idem(write.tenant, write.key)
        return None if found is None else _replay(write, found)

    async def finish(self, write: Write, status: int, body: Body) -> Body:
        """The answer to give: with a key, the one that is kept under it."""
        if write.key is None:
            return body
        if write.kept is not None and isinstance(body, Answer):
            # Elapsed time was known up to the write only.
            elapsed_ms = getattr(write.kept, "query_time_ms", None)
            body = body.model_copy(update={"query_time_ms": elapsed_ms})
        if body != write.kept:
            await self._graph.keys.answer(write.tenant, write.key, _text(status, body))
        return body

    def answered(self, write: Write) -> None:
        """The answer was written on a live connection: the same again is a write of its own."""
        if write.fingerprint is None:
            return
        self._answered.append(write)
        if len(self._answered) == 1:  # later ones go with it
            task = asyncio.create_task(self._calls.submit("", None), name="repeats-answered")
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def _claim(self, sender: RequestIdentity, raw: bytes) -> Write:
        write = Write(sender.tenant)
        if time.monotonic() < self._blind_until:
            return write
        fingerprint = await in_thread_if_large(len(raw), lambda: _fingerprint(sender, raw))
        write.fingerprint = self._clients.key("writes", fingerprint)
        held = await self._calls.submit("", write)
        if held != write.id:
            WRITES_REPEATED.labels(by="fingerprint").inc()
            write.id = held
        return write

    async def _flush(self, _: str, rows: list[Write | None]) -> Sequence[str]:
        """Forget what was answered, then claim; a `None` among the rows only sends the former."""
        answered, self._answered = self._answered, []
        claims = [row for row in rows if row is not None]
        held = iter(await self._claimed_ids(answered, claims))
        return ["" if row is None else next(held) for row in rows]

    async def _claimed_ids(self, answered: list[Write], claims: list[Write]) -> list[str]:
        """The id that each claim must write under: its own, unless it repeats another."""
        calls = [*answered, *claims]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                held = await self._script(
                    [str(each.fingerprint) for each in calls],
                    [len(answered), _HELD_MS, *(each.id for each in calls)],
                )
        except (TransientError, PermanentError, TimeoutError) as error:
            self._blind_until = time.monotonic() + _BLIND_S
            _log.warning("repeats.blind", writes=len(claims), error=str(error) or "timeout")
            return [each.id for each in claims]
        return list(held)


async def _keyed(sender: RequestIdentity, key: str, body: JsonBody) -> Write:
    if not (0 < len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable characters")
    pieces = canonical(body.value)
    digest = await in_thread_if_large(
        len(body.raw), lambda: _digest(sender.target.encode(), map(str.encode, pieces))
    )
    return Write(sender.tenant, key=key, body_hash=digest)


def _replay(write: Write, found: Idem) -> Replay | None:
    if found.body_hash != write.body_hash:
        raise Conflict("This Idempotency-Key was used for another request")
    if not found.answer_json:
        return None
    WRITES_REPEATED.labels(by="key").inc()
    kept = json.loads(found.answer_json)
    return Replay(kept["status"], kept["body"])


def _fingerprint(sender: RequestIdentity, raw: bytes) -> str:
    identity = (sender.tenant, sender.digest, sender.peer, sender.target)
    return _digest("\0".join(identity).encode(), [raw])


def _digest(head: bytes, pieces: Iterable[bytes]) -> str:
    # The head cannot hold a NUL after its last separator, so no two pairs look alike.
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
# Does what may be done twice; status and body.
Effect = Callable[[], Awaitable[tuple[int, Body]]]


class StoredResponse(web.Response):
    """201; forgets the write once the answer was written on a connection that is still alive."""

    def __init__(self, request: web.Request, write: Write, body: Body) -> None:
        super().__init__(
            body=to_json(body), status=201, content_type="application/json", charset="utf-8"
        )
        self._request = request
        self._write = write

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)  # raises on a connection that is known to be gone
        # Not a turn of the loop later: a client that has read its answer may hang up at once.
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            self._request.app[IDEMPOTENCY].answered(self._write)


async def begin_write(request: web.Request, body: JsonBody) -> Write | Replay:
    """See `Idempotency.begin`."""
    return await request.app[IDEMPOTENCY].begin(RequestIdentity.of(request), body)


async def finish_write(request: web.Request, write: Write, answer: Answer) -> web.StreamResponse:
    """201 with `answer`, or with the one that is kept under the write's key."""
    body = await request.app[IDEMPOTENCY].finish(write, 201, answer)
    return StoredResponse(request, write, body)


async def replayed_conflict(
    request: web.Request, write: Write, conflict: Conflict
) -> web.StreamResponse:
    """The answer of the request that used this key while this one was at work.

    Raises: the conflict, where there is no such answer.
    """
    replay = await request.app[IDEMPOTENCY].replay(write)
    if replay is None:
        raise conflict
    return replay.response()


async def effecting(request: web.Request, body: JsonBody, effect: Effect) -> web.StreamResponse:
    """What `effect` answers; with a key that was answered before, that answer again."""
    idempotency = request.app[IDEMPOTENCY]
    write = await idempotency.take(RequestIdentity.of(request), body)
    if isinstance(write, Replay):
        return write.response()
    status, answer = await effect()
    return json_answer(await idempotency.finish(write, status, answer), status=status)
