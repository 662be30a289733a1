"""Repeats: who sends the same write again gets the memory of the first time.

With an Idempotency-Key the graph decides: the key's node is written in the memory's own
query. Without one, a client that got no answer repeats blindly; so the id of a memory
exists before the memory, under the request's fingerprint in Redis, until the answer was
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from services.api.http.answers import Answer
from shared.errors import Conflict, InvalidInput, PermanentError, TransientError
from shared.graph.records import Idem
from shared.graph.store import GraphStore
from shared.group_commit import GroupCommit
from shared.redis.client import RedisClients, Script, scripts_beside
from shared.telemetry import log
from shared.telemetry.metrics import WRITES_REPEATED

_HELD_MS = 60_000
_MAX_KEY_CHARS = 255
# The fingerprint is a help, not a condition: past this a write goes on without, and the
# next ones do not even ask for a while.
_TIMEOUT_S = 1.0
_BLIND_S = 2.0
_log = log.get_logger(__name__)
Body = Answer | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Who sends a write: `peer` is the address, `target` the method and path."""

    tenant: str
    digest: str
    peer: str
    target: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What the request under this key was answered before."""

    status: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class Write:
    """One request that stores something; whoever repeats it gets the same ids."""

    tenant: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fingerprint: str | None = None
    key: str | None = None
    body_hash: str = ""
    sealed: Body | None = None

    def ids(self, count: int) -> list[str]:
        """So many UUIDv4s: `id`, then what follows from it."""
        return [self.id, *(_derived(self.id, at) for at in range(1, count))][:count]

    def seal(self, ids: Sequence[str], answer: Callable[[], Body]) -> Idem | None:
        """What is written with the memories where the request has a key.

        The answer must be known by then; it tells what will be so if all goes well.
        """
        if self.key is None:
            return None
        self.sealed = answer()
        return Idem(self.key, self.body_hash, tuple(ids), _text(201, self.sealed))


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

    async def begin(self, sender: RequestIdentity, raw: bytes) -> Write | Replay:
        """The write that this request is, or the answer that its key got before.

        Raises: InvalidInput for a key that is none, Conflict for another body's key.
        """
        if sender.key is None:
            return await self._claim(sender, raw)
        write = _keyed(sender, raw)
        return await self.replay(write) or write

    async def take(self, sender: RequestIdentity, raw: bytes) -> Write | Replay:
        """As `begin`, for what may be done twice: without a key there is nothing to recognise.

        The key is taken before the effect and answered by `finish`.
        """
        if sender.key is None:
            return Write(sender.tenant)
        write = _keyed(sender, raw)
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
        if write.sealed is not None and isinstance(body, Answer):
            # Elapsed time was known up to the write only.
            elapsed_ms = getattr(write.sealed, "query_time_ms", None)
            body = body.model_copy(update={"query_time_ms": elapsed_ms})
        if body != write.sealed:
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
        write.fingerprint = self._clients.key("writes", _fingerprint(sender, raw))
        held = await self._calls.submit("", write)
        if held != write.id:
            WRITES_REPEATED.labels(by="fingerprint").inc()
            write.id = held
        return write

    async def _flush(self, _: str, rows: list[Write | None]) -> Sequence[str]:
        """Forget what was answered, then claim; a `None` among the rows only sends the former."""
        answered, self._answered = self._answered, []
        claims = [row for row in rows if row is not None]
        held = iter(await self._ask(answered, claims))
        return ["" if row is None else next(held) for row in rows]

    async def _ask(self, answered: list[Write], claims: list[Write]) -> list[str]:
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


def _keyed(sender: RequestIdentity, raw: bytes) -> Write:
    key = sender.key or ""
    if not (0 < len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable characters")
    # The same JSON however it is spaced and ordered; `raw` was parsed before, so it is JSON.
    body = json.dumps(json.loads(raw), sort_keys=True).encode()
    return Write(sender.tenant, key=key, body_hash=_digest(sender.target.encode(), body))


def _replay(write: Write, found: Idem) -> Replay | None:
    if found.body_hash != write.body_hash:
        raise Conflict("This Idempotency-Key was used for another request")
    if not found.answer_json:
        return None
    WRITES_REPEATED.labels(by="key").inc()
    kept = json.loads(found.answer_json)
    return Replay(kept["status"], kept["body"])


def _fingerprint(sender: RequestIdentity, raw: bytes) -> str:
    who = (sender.tenant, sender.digest, sender.peer, sender.target)
    return _digest("\0".join(who).encode(), raw)


def _digest(head: bytes, body: bytes) -> str:
    # The head cannot hold a NUL after its last separator, so no two pairs look alike.
    return hashlib.blake2b(b"\0".join((head, body)), digest_size=16).hexdigest()


def _derived(seed: str, at: int) -> str:
    digest = hashlib.blake2b(f"{seed}:{at}".encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _text(status: int, body: Body) -> str:
    return to_json({"status": status, "body": body}).decode()
