"""Store, read, change and delete memories: the use cases behind /memory.

A write is answered once the graph holds it. Its jobs for enrichment and embedding are published
to the streams, those of concurrent requests together.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.api.memory.admission import Admission
from services.api.memory.metadata import terms
from services.api.memory.requests import SESSION_CHARS, MemoryIn, MemoryPatch, check_label
from shared.config import ApiSettings
from shared.domain.memory import (
    DEFAULT_LAYER,
    DEFAULT_PROJECT,
    DERIVED_KEYS,
    Derived,
    Memory,
    marks_of,
    next_version,
    now_ms,
    speaker_of,
    tag_keys,
)
from shared.domain.memory_type import classify
from shared.errors import Conflict, InvalidInput, NotFound
from shared.graph.records import Embedding, Idem
from shared.graph.store import GraphStore
from shared.group_commit import GroupCommit
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Published
from shared.vectors.active_model import ModelFollower

_GIVEN_TYPE_CONFIDENCE = 0.9
_CHANGE_TRIES = 5
# Memories per page of those with a tag; as many are deleted at once.
MOST_TAGGED = 200
# A null in a change clears these; for the others it changes nothing.
_CLEARABLE = ("t_valid", "t_invalid", "session_id")


@dataclass(frozen=True, slots=True)
class Queued:
    """Whether the two jobs of a write reached their streams; else the relay publishes them."""

    enrich: bool = True
    embed: bool = True


# A memory whose jobs are to be published, and the id of the request that wrote it.
_Announcement = tuple[Memory, str]


@dataclass(slots=True)
class Memories:
    """Use cases on the memories of one tenant."""

    _graph: GraphStore
    _outbox: Outbox
    _admission: Admission
    _settings: ApiSettings
    _serving: ModelFollower
    _announcer: GroupCommit[str, _Announcement, Queued] = field(init=False)

    def __post_init__(self) -> None:
        self._announcer = GroupCommit(self._announce, max_rows=256, name="announce")

    async def close(self) -> None:
        await self._announcer.close()

    async def prepare(self, tenant: str, body: MemoryIn, memory_id: str) -> Memory:
        """Return the memory to store; nothing is written yet. Raises: InvalidInput, Overloaded."""
        self._check_sizes(body)
        await self._admission.admit(tenant)
        return new_memory(body, memory_id)

    async def store(
        self,
        tenant: str,
        memory: Memory,
        embedding: list[float] | None,
        *,
        idem: Idem | None = None,
        trace: str = "",
    ) -> tuple[Memory, Queued]:
        """Write one memory and publish its jobs. A repeat without a key publishes them again.

        Raises: Unavailable("graph"), Conflict where the key was used meanwhile.
        """
        try:
            await self._graph.memories.create(
                tenant, memory, embedding=self._supplied(embedding), idem=idem
            )
        except Conflict:
            if idem is not None:
                raise
            memory = await self.fetch(tenant, memory.id)  # the first try of this request stored it
        return memory, await self._announcer.submit(tenant, (memory, trace))

    async def prepare_many(
        self, tenant: str, bodies: Sequence[MemoryIn], ids: Sequence[str]
    ) -> list[Memory]:
        """Return the memories to store; nothing is written yet. Raises: Overloaded."""
        await self._admission.admit(tenant)
        return list(map(new_memory, bodies, ids))

    async def store_many(
        self, tenant: str, memories: Sequence[Memory], *, idem: Idem | None = None, trace: str = ""
    ) -> Queued | None:
        """Write all of them and publish their jobs; None where the first try of a repeat did that.

        Raises: Unavailable("graph"), Conflict where the key was used meanwhile.
        """
        try:
            await self._graph.memories.create_many(tenant, memories, idem=idem)
        except Conflict:
            if idem is not None:
                raise
            return None
        queued = await self._announce(tenant, [(memory, trace) for memory in memories])
        return Queued(all(each.enrich for each in queued), all(each.embed for each in queued))

    async def fetch(self, tenant: str, memory_id: str) -> Memory:
        """Return one memory. Raises: InvalidInput for an id that is no UUID, NotFound."""
        key = check_id(memory_id)
        memories = await self._graph.memories.get(tenant, [key])
        if key not in memories:
            raise NotFound("Memory not found")
        return memories[key]

    async def change(
        self, tenant: str, memory_id: str, body: MemoryPatch, *, trace: str = ""
    ) -> Memory:
        """Apply the keys that are present, on top of any change that another request makes.

        Raises: InvalidInput, NotFound, Conflict after five other changes in a row.
        """
        self._check_sizes(body)
        reorders = not body.model_fields_set.isdisjoint(("timestamp", "session_id"))
        for _ in range(_CHANGE_TRIES):
            old = await self.fetch(tenant, memory_id)
            new = changed(old, body)
            moves = reorders or new.session_id != old.session_id
            before = await self._successors(tenant, [old.id]) if moves else []
            if await self._graph.memories.replace(
                tenant, new, seen=old, embedding=self._supplied(body.embedding)
            ):
                after = await self._successors(tenant, [old.id]) if moves else []
                await self._announcer.submit(tenant, (new, trace))
                await self._outbox.announce({Stage.EMBED: [*before, *after]}, exempt=True)
                return new
        raise Conflict("The memory is being changed by others; try again")

    async def delete(self, tenant: str, memory_id: str) -> None:
        """Delete the memory, and publish a job that deletes its vector."""
        if not await self._delete(tenant, [check_id(memory_id)]):
            raise NotFound("Memory not found")

    async def find_tagged(
        self, tenant: str, tags: Sequence[str], *, limit: int, offset: int
    ) -> tuple[list[Memory], bool]:
        """Return a page of the memories with any of the tags, and whether more follow.

        Archived ones too, ordered by importance, then timestamp, both falling, then id.
        """
        memories = await self._graph.memories.by_tags(tenant, tag_keys(tags), limit + 1, offset)
        return memories[:limit], len(memories) > limit

    async def delete_tagged(self, tenant: str, tags: Sequence[str]) -> int:
        """Delete them a page at a time; return how many. One stored meanwhile may remain."""
        keys, count = tag_keys(tags), 0
        while ids := await self._graph.memories.tagged_ids(tenant, keys, MOST_TAGGED):
            deleted = await self._delete(tenant, ids)
            count += len(deleted)
            if len(ids) < MOST_TAGGED or not deleted:
                break
        return count

    async def _delete(self, tenant: str, ids: Sequence[str]) -> set[str]:
        """Delete memories, and publish jobs for their vectors; return the ids that existed."""
        to_embed = await self._successors(tenant, ids)
        deleted = await self._graph.memories.delete(tenant, ids)
        if deleted:
            now = now_ms()
            jobs = [Job(tenant, memory_id, now) for memory_id in deleted]
            jobs += [job for job in to_embed if job.memory_id not in deleted]
            await self._outbox.announce({Stage.EMBED: jobs}, exempt=True)
        return deleted

    async def _successors(self, tenant: str, ids: Sequence[str]) -> list[Job]:
        """Return jobs that embed again the memories whose vectors hold words of these ones."""
        rows = await self._graph.dialogue.refresh_after(tenant, ids, anyway=True)
        return [Job(tenant, row.id, row.payload_version) for row in rows]

    async def _announce(self, tenant: str, rows: Sequence[_Announcement]) -> list[Queued]:
        """Publish the jobs that enrich and embed each memory; return which reached their stream."""
        enrich = [Job(tenant, memory.id, memory.version, trace=trace) for memory, trace in rows]
        embed = [
            Job(tenant, memory.id, memory.payload_version, trace=trace) for memory, trace in rows
        ]
        answers = await self._outbox.announce({Stage.ENRICH: enrich, Stage.EMBED: embed})
        reached = (Published.NEW, Published.DUPLICATE)
        unreached: list[Published | None] = [None] * len(rows)
        enriched, embedded = (answers[stage] or unreached for stage in (Stage.ENRICH, Stage.EMBED))
        pairs = zip(enriched, embedded, strict=True)
        return [Queued(first in reached, second in reached) for first, second in pairs]

    def _supplied(self, embedding: list[float] | None) -> Embedding | None:
        """Return the vector, unless the live model was changed to another size meanwhile."""
        model = self._serving.live.model
        if embedding is None or len(embedding) != model.dimension:
            return None
        return Embedding(model.name, embedding)

    def _check_sizes(self, body: MemoryIn | MemoryPatch) -> None:
        """Raises: InvalidInput for a content too long, or an embedding of another size."""
        limit, length = self._settings.content_hard_chars, len(body.content or "")
        if length > limit:
            raise InvalidInput(
                f"Content exceeds maximum length of {limit} characters ({length} provided)."
                " Split it into several memories."
            )
        dimension = self._serving.live.model.dimension
        if body.embedding is not None and len(body.embedding) != dimension:
            raise InvalidInput(f"Embedding must contain exactly {dimension} values")


def new_memory(body: MemoryIn, memory_id: str) -> Memory:
    """Return the memory of a request, with defaults; rules choose the type it does not name."""
    now = now_ms()
    timestamp = now if body.timestamp is None else body.timestamp
    updated_at = timestamp if body.updated_at is None else body.updated_at
    kind, confidence = _typed(body)
    metadata = authored(body.metadata)
    return Memory(
        id=memory_id,
        version=now,
        payload_version=now,
        content=body.content,
        type=kind,
        confidence=confidence,
        importance=0.5 if body.importance is None else body.importance,
        tags=tuple(body.tags),
        timestamp=timestamp,
        updated_at=updated_at,
        last_accessed=updated_at if body.last_accessed is None else body.last_accessed,
        t_valid=timestamp if body.t_valid is None else body.t_valid,
        t_invalid=body.t_invalid,
        project=body.project or DEFAULT_PROJECT,
        layer=body.layer or DEFAULT_LAYER,
        session_id=body.session_id or _session_of(metadata),
        speaker=speaker_of(body.content, metadata),
        metadata=metadata,
        meta_terms=terms(metadata),
    )


def _typed(body: MemoryIn) -> tuple[str, float]:
    if body.type is None:
        return classify(body.content)
    return body.type, _GIVEN_TYPE_CONFIDENCE if body.confidence is None else body.confidence


def _session_of(metadata: dict[str, Any]) -> str | None:
    if "session_id" not in metadata:
        return None
    try:
        return check_label(metadata.get("session_id"), "session_id", SESSION_CHARS)
    except InvalidInput:  # metadata may hold anything; what cannot name a session is ignored
        return None


def authored(metadata: dict[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `metadata` without the workers' keys, which a client that read it may send back.

    What those keys hid of the client's own `stored` metadata is kept: it could not read that.
    """
    enrichment = metadata.get(Derived.ENRICHMENT)
    if not (isinstance(enrichment, dict) and "last_run" in enrichment):
        return metadata
    own = dict(metadata)
    for key, workers in DERIVED_KEYS.items():
        block = _uncovered(own.pop(key, None), workers, (stored or {}).get(key))
        own |= {} if block is None else {key: block}
    return own


def _uncovered(read: object, workers: Sequence[str], hidden: object) -> object:
    """Remove the workers' keys from a block, and restore the client's own values of them."""
    if not isinstance(read, dict):
        return read
    own = {name: value for name, value in read.items() if name not in workers}
    if not isinstance(hidden, Mapping):
        return own or hidden
    restored = {name: hidden[name] for name in workers if name in read and name in hidden}
    return own | restored or None


def _remarked(metadata: Mapping[str, Any], old: Memory, content: str) -> dict[str, Any]:
    """Return metadata with the marks of a shortened memory, or without where its text changed."""
    marks = marks_of(old.metadata)
    if content == old.content:
        return {**metadata, **{key: marks[key] for key in marks if key not in metadata}}
    stale = marks if marks_of(metadata) == marks else {}
    return {key: value for key, value in metadata.items() if key not in stale}


def changed(old: Memory, body: MemoryPatch) -> Memory:
    """Return `old` with the present keys of `body` applied, at its next version."""
    now = now_ms()
    fields: dict[str, Any] = {
        name: value
        for name in body.model_fields_set - {"embedding"}
        if (value := getattr(body, name)) is not None or name in _CLEARABLE
    }
    if "tags" in fields:
        fields["tags"] = tuple(tag for tag in fields["tags"] if tag not in old.entity_tags)
    if "metadata" in fields:
        fields["metadata"] = authored(fields["metadata"], old.metadata)
        session_id = _session_of(fields["metadata"])
        if session_id is not None:  # as in POST, a `session_id` beside the metadata takes priority
            fields.setdefault("session_id", session_id)
    metadata = fields.get("metadata", old.metadata)
    fields["metadata"] = _remarked(metadata, old, fields.get("content", old.content))
    fields.setdefault("updated_at", now)
    version = next_version(max(old.version, old.payload_version), now)
    new = replace(old, **fields, version=version, payload_version=version)
    return replace(
        new, speaker=speaker_of(new.content, new.metadata), meta_terms=terms(new.metadata)
    )


def check_id(text: str) -> str:
    """Return the canonical form of a UUID. Raises: InvalidInput."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidInput("memory_id must be a valid UUID") from error
