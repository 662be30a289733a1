"""POST /memory/batch: up to 500 memories, stored in one query or not at all.

The request embeds nothing: the jobs of all memories are published together. As in AutoMem a
bad timestamp, or metadata that is no object, does not refuse the batch; `warnings` names it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from services.api.http.body import read_json
from services.api.http.large_json import in_thread_if_large
from services.api.http.middleware import REQUEST_ID
from services.api.http.parameters import SETTINGS
from services.api.http.route import Routes
from services.api.http.validation import Body, validate
from services.api.memory.admission import Admission
from services.api.memory.answers import StoredBatchAnswer
from services.api.memory.handlers import EVENTS, ms_since
from services.api.memory.idempotency import IDEMPOTENCY, Replay, finish_write, replayed_conflict
from services.api.memory.requests import BATCH_ROWS, Layer, MemoryIn, Metadata, Moment, Tags
from services.api.memory.requests import unit as unit_of
from services.api.memory.service import Announcement, Queued, announce, new_memory
from shared.domain.memory import Memory, parse_time
from shared.errors import Conflict, InvalidInput
from shared.events import emitter
from shared.events.emitter import Event
from shared.graph.records import Idem
from shared.graph.store import GraphStore
from shared.streams.outbox import Outbox


class BatchItem(Body):
    """One memory of a batch, as documented; its keys are checked as a MemoryIn."""

    content: Annotated[str, Field(pattern=r"\S")]
    tags: Tags = Field(default=[])
    importance: Annotated[float | None, unit_of("importance")] = None
    timestamp: Moment | None = None
    metadata: Metadata = Field(default={})
    type: str | None = None
    confidence: Annotated[float | None, unit_of("importance")] = None
    session_id: str | None = None
    project: str | None = None
    layer: Layer = None


class BatchIn(Body):
    """POST /memory/batch."""

    memories: list[BatchItem] = Field(min_length=1, max_length=BATCH_ROWS)


@dataclass(frozen=True, slots=True)
class Batch:
    """The memories of a request in its order, and warnings about ignored parts of them."""

    memories: tuple[MemoryIn, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """`written` are the memories that this request wrote, none if its first try wrote them."""

    ids: tuple[str, ...]
    queued: Queued = field(default_factory=Queued)
    written: tuple[Memory, ...] = ()


class Batches:
    """Stores many memories of one tenant at once."""

    def __init__(self, graph: GraphStore, outbox: Outbox, admission: Admission) -> None:
        self._graph = graph
        self._outbox = outbox
        self._admission = admission

    async def prepare(
        self, tenant: str, bodies: Sequence[MemoryIn], ids: Sequence[str]
    ) -> list[Memory]:
        """Return the memories to store; nothing is written yet. Raises: Overloaded."""
        await self._admission.admit(tenant)
        return list(map(new_memory, bodies, ids))

    async def store(
        self, tenant: str, memories: Sequence[Memory], *, idem: Idem | None = None, trace: str = ""
    ) -> StoredBatch:
        """Write all of them and announce them.

        Raises: Conflict where the key was used meanwhile, Unavailable("graph").
        """
        ids = tuple(memory.id for memory in memories)
        try:
            await self._graph.memories.create_many(tenant, memories, idem=idem)
        except Conflict:
            if idem is not None:
                raise
            return StoredBatch(ids)  # the first try of this request stored and announced them
        rows = [Announcement(memory, trace) for memory in memories]
        queued = await announce(self._outbox, tenant, rows)
        all_queued = Queued(all(row.enrich for row in queued), all(row.embed for row in queued))
        return StoredBatch(ids, all_queued, tuple(memories))


def parse_batch(body: object, *, content_chars: int) -> Batch:
    """Raises: InvalidInput for the first memory that is wrong; then nothing is stored."""
    if not isinstance(body, dict) or "memories" not in body:
        raise InvalidInput("JSON body with 'memories' array required")
    items = body["memories"]
    if not isinstance(items, list) or not items:
        raise InvalidInput("'memories' must be a non-empty array")
    if len(items) > BATCH_ROWS:
        raise InvalidInput(f"Batch size limit is {BATCH_ROWS} memories per request")
    warnings: list[str] = []
    memories = [_memory(at, item, content_chars, warnings) for at, item in enumerate(items)]
    return Batch(tuple(memories), tuple(warnings))


def _memory(at: int, item: object, content_chars: int, warnings: list[str]) -> MemoryIn:
    if not isinstance(item, dict):
        raise InvalidInput(f"Memory at index {at} must be an object")
    content = item.get("content")
    if not isinstance(content, str) or not content.strip():
        raise InvalidInput(f"Memory at index {at} missing 'content'")
    length = len(content.strip())
    if length > content_chars:
        raise InvalidInput(f"Memory at index {at} exceeds content limit ({length}/{content_chars})")
    members = {name: item[name] for name in BatchItem.model_fields if name in item}
    try:
        return validate(MemoryIn, _mended(at, members, warnings))
    except InvalidInput as error:
        raise InvalidInput(f"{error} (memory at index {at})") from error


def _mended(at: int, members: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    if not isinstance(members.get("metadata", {}), dict | None):
        warnings.append(f"Memory at index {at}: 'metadata' was no object and is left out")
        del members["metadata"]
    if members.get("timestamp") is not None:
        try:
            parse_time(members["timestamp"])
        except InvalidInput as error:
            warnings.append(f"Memory at index {at}: {error}; the time of storing is used")
            del members["timestamp"]
    return members


# -- HTTP -------------------------------------------------------------------------------

BATCHES: web.AppKey[Batches] = web.AppKey("batches", Batches)


ROUTES = Routes(scope="write")


@ROUTES.add(
    "POST",
    "/memory/batch",
    "Store up to 500 memories, all of them or none",
    body=BatchIn,
    answers={201: "Stored; enrichment and embedding follow"},
    returns=StoredBatchAnswer,
    repeatable=True,
)
async def store_batch(request: web.Request) -> web.StreamResponse:
    began = time.perf_counter()
    settings = request.app[SETTINGS].api
    body = await read_json(request, settings.batch_body_bytes)
    batch = await in_thread_if_large(
        len(body.raw), lambda: parse_batch(body.value, content_chars=settings.content_hard_chars)
    )
    write = await request.app[IDEMPOTENCY].begin(request, body)
    if isinstance(write, Replay):
        return write.response()
    batches, ids = request.app[BATCHES], write.ids(len(batch.memories))
    memories = await batches.prepare(write.tenant, batch.memories, ids)
    expected = StoredBatch(tuple(ids))
    idem = write.keep(ids, lambda: _answer(expected, batch.warnings, ms_since(began)))
    try:
        stored = await batches.store(write.tenant, memories, idem=idem, trace=request[REQUEST_ID])
    except Conflict as conflict:
        return await replayed_conflict(request, write, conflict)
    for memory in stored.written:
        event = emitter.stored(memory, ms_since(began))
        request.app[EVENTS].emit(write.tenant, Event.STORE, event)
    answer = _answer(stored, batch.warnings, ms_since(began))
    return await finish_write(request, write, answer)


def _answer(stored: StoredBatch, warnings: tuple[str, ...], elapsed_ms: float) -> StoredBatchAnswer:
    """Answer "queued" even if Redis is down: the relay then publishes the jobs later."""
    return StoredBatchAnswer(
        message=f"{len(stored.ids)} memories stored successfully",
        stored=len(stored.ids),
        memory_ids=stored.ids,
        enrichment_queued=stored.queued.enrich,
        embedding_queued=stored.queued.embed,
        query_time_ms=elapsed_ms,
        warnings=warnings or None,
    )
