"""Memories for requests: written whole or not at all, read in one query.

Every write sets the due times by which the relay finds what was never published. Creates of
one tenant that arrive together share one query (group commit).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import GraphSettings
from shared.domain.memory import NEVER_MS, Memory, now_ms
from shared.domain.relations import SUPERSEDING
from shared.errors import Conflict, EunoeError, PermanentError
from shared.graph.engine.client import GraphClient, Row
from shared.graph.engine.part import (
    EACH_MEMORY,
    StorePart,
    is_waiting,
    set_columns,
    set_due,
    set_each,
    unique,
)
from shared.graph.engine.schema import GUARD, Schema
from shared.graph.records import (
    AUTHORED,
    COLUMNS,
    CREATED,
    Embedding,
    Hydrated,
    Idem,
    check_key,
    columns,
    created_columns,
    embedding_columns,
    embedding_of,
    is_current_condition,
    memory_of,
    relation_cells,
    relation_of,
    tag_columns,
)
from shared.group_commit import GroupCommit
from shared.streams.job import Stage

_IDEM = (
    "i.key, i.body_hash, coalesce(i.ids, []) AS ids, coalesce(i.answer, '') AS answer_json,"
    " i.created_at"
)
_TAKE = (
    f"{GUARD} MERGE (i:Idem {{key: $key}})"
    " ON CREATE SET i.body_hash = $body_hash, i.ids = [], i.answer = '', i.created_at = $now"
    f" RETURN {_IDEM}"
)
STAGES = (Stage.ENRICH, Stage.EMBED, Stage.RELATE)
_IDEM_AT = len(CREATED)

# Existing ids and keys are looked for first, since no constraint may refuse a query: FalkorDB
# 4.16.3 rolls it back, but counts its nodes, and every later effect in the append-only file then
# names another node (a restart mixed values up, or crashed).
_FREE = (
    f"{GUARD} UNWIND $rows AS r OPTIONAL MATCH (e:Memory {{id: r[0]}})"
    f" OPTIONAL MATCH (k:Idem {{key: r[{_IDEM_AT}][0]}})"
    " WITH _ok, count(e) + count(k) AS taken"
)
_TAKEN = f"{_FREE} RETURN taken"
_CREATE = (
    f"{_FREE} WHERE taken = 0 UNWIND $rows AS r CREATE (m:Memory {{"
    + ", ".join(f"{name}: r[{at}]" for at, name in enumerate(CREATED))
    + f"}}) FOREACH (i IN CASE WHEN r[{_IDEM_AT}] IS NULL THEN [] ELSE [r[{_IDEM_AT}]] END |"
    " CREATE (:Idem {key: i[0], body_hash: i[1], ids: i[2], answer: i[3], created_at: i[4]}))"
    " RETURN m.id"
)
_GET = f"{EACH_MEMORY} RETURN {COLUMNS}"
# A memory with thousands of edges costs little, since the list is cut before the cells are
# built. Whether the memory that superseded the other one is current is not checked (that took
# 1 ms more for ten): a memory whose successor expired is a result, but no shown relation.
_CURRENT = f"{is_current_condition('o')} AND outDegree(o, {list(SUPERSEDING)}) = 0"
_HYDRATE = (
    f"{EACH_MEMORY} OPTIONAL MATCH (m)-[x]->(o:Memory)"
    " WITH m, x, o ORDER BY coalesce(x.updated_at, o.timestamp) DESC, o.id"
    f" WITH m, collect(CASE WHEN o IS NOT NULL AND ($at IS NULL OR {_CURRENT})"
    " THEN [x, o] ELSE null END)[0..$most] AS pairs"
    f" RETURN {COLUMNS}, [p IN pairs | [{relation_cells('p[0]', 'p[1]')}]] AS relations"
)
_CHANGED = (*AUTHORED, "tag_keys", "tag_prefixes")
_REPLACE = (
    "MATCH (m:Memory {id: $id})"
    " WHERE m.version = $seen AND m.payload_version = $seen_payload"
    # A supplied vector stays for as long as the content that it was supplied for.
    " WITH m, CASE WHEN $supplied[0] IS NULL AND ($keep OR m.content = $row[2]) THEN"
    " [m.embedding, m.embedding_model] ELSE $supplied END AS kept"
    f" SET {set_due('enrich', '$due')}, {set_due('embed', '$due')}"
    + set_columns("m", {name: f"$row[{at}]" for at, name in enumerate(_CHANGED)})
    + set_each("m.embedding = kept[0]", "m.embedding_model = kept[1]")
    + " RETURN m.id"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Memories of a tenant; per stage how many wait and how many have failed.

    `oldest_due_ms` is the smallest due time of all stages, None where nothing waits; a due
    time lies the outbox delay (or a relay's wait) after the write.
    """

    memories: int
    lagging: dict[Stage, int]
    failed: dict[Stage, int]
    oldest_due_ms: int | None


class Memories(StorePart):
    """`store.memories`."""

    def __init__(
        self, client: GraphClient, schema: Schema, settings: GraphSettings, *, outbox_ms: int
    ) -> None:
        super().__init__(client, schema, outbox_ms=outbox_ms)
        self._creates: GroupCommit[str, list[Any], str] = GroupCommit(
            self._flush, max_rows=settings.group_commit_rows, name="graph"
        )

    async def close(self) -> None:
        """Refuse further creates and wait for those that were accepted."""
        await self._creates.close()

    async def create(
        self,
        tenant: str,
        memory: Memory,
        *,
        embedding: Embedding | None = None,
        idem: Idem | None = None,
    ) -> None:
        """Store a new memory, due to be enriched and embedded; stored when this returns.

        Raises: Conflict where the id or the idempotency key exists: read it and compare.
        """
        self._client.graph(tenant)
        await self._creates.submit(tenant, self._row(memory, embedding, idem))

    async def create_many(
        self, tenant: str, memories: Sequence[Memory], *, idem: Idem | None = None
    ) -> None:
        """Store all of them or none, in one query. Raises: Conflict as `create` does."""
        if not memories:
            return
        rows = [self._row(memory, None, None) for memory in memories]
        rows[0][_IDEM_AT] = _idem_cells(idem)
        if len({row[0] for row in rows}) < len(rows):
            raise PermanentError("the same memory id occurs twice in one write")
        await self._insert(tenant, rows)

    async def idem(self, tenant: str, key: str) -> Idem | None:
        query = f"MATCH (i:Idem {{key: $key}}) RETURN {_IDEM}"
        rows = await self._read(tenant, "idem", query, key=key)
        return Idem(**rows[0]) if rows else None

    async def take_key(self, tenant: str, key: str, body_hash: str) -> Idem:
        """Return the request of the key: this one, not answered yet, if the key was free.

        Used for writes that create no memory. If the process dies before the answer is stored,
        a repeat runs the write again.
        """
        await self._schema.ensure(tenant)
        rows = await self._write(tenant, "take_key", _TAKE, key=key, body_hash=body_hash)
        if not rows:  # The graph was flushed meanwhile, and with it every key.
            self._schema.forget(tenant)
            return Idem(key, body_hash, (), "")
        return Idem(**rows[0])

    async def answer_key(self, tenant: str, key: str, answer: str) -> None:
        """Keep what the request under the key was answered; without a key nothing happens."""
        query = "MATCH (i:Idem {key: $key}) SET i.answer = $answer"
        await self._write(tenant, "answer_key", query, key=key, answer=answer)

    async def get(self, tenant: str, ids: Iterable[str]) -> dict[str, Memory]:
        """Return the memories that exist, by id."""
        rows = await self._read(tenant, "get", _GET, ids=unique(ids))
        return {row["id"]: memory_of(row) for row in rows}

    async def embeddings(self, tenant: str, ids: Iterable[str]) -> dict[str, Embedding]:
        """Return the supplied vectors of those memories that have one, by id."""
        supplied = "m.id, m.embedding, m.embedding_model"
        query = f"{EACH_MEMORY} WHERE m.embedding IS NOT NULL RETURN {supplied}"
        rows = await self._read(tenant, "embeddings", query, ids=unique(ids))
        found = {r["id"]: embedding_of(r["embedding"], r["embedding_model"]) for r in rows}
        return {key: embedding for key, embedding in found.items() if embedding is not None}

    async def hydrate(
        self, tenant: str, ids: Iterable[str], *, relation_limit: int, at_ms: int | None = None
    ) -> dict[str, Hydrated]:
        """Return the memories that exist with their relations to memories, in one query.

        With `at_ms` only relations to memories that are current then: not archived, expired,
        future or superseded.
        """
        rows = await self._read(
            tenant, "hydrate", _HYDRATE, ids=unique(ids), most=relation_limit, at=at_ms
        )
        return {
            row["id"]: Hydrated(memory_of(row), tuple(map(relation_of, row["relations"])))
            for row in rows
        }

    async def replace(
        self,
        tenant: str,
        memory: Memory,
        *,
        seen: Memory,
        embedding: Embedding | None = None,
        keep_embedding: bool = False,
    ) -> bool:
        """Store the authored fields of `memory`, due again; False if `seen` is out of date.

        `memory` carries its new versions. Read again and repeat on False: another change or
        the enricher's tags came between. Worker-owned fields are left as they are. With
        `keep_embedding` a supplied vector outlives its content: the new one says the same.
        """
        given = {
            "id": memory.id,
            "seen": seen.version,
            "seen_payload": seen.payload_version,
            "row": [*columns(memory, AUTHORED), *tag_columns(memory)],
            "supplied": embedding_columns(embedding),
            "keep": keep_embedding,
        }
        return bool(await self._write(tenant, "replace", _REPLACE, **given))

    async def delete(self, tenant: str, ids: Iterable[str]) -> set[str]:
        """Remove memories with their edges; returns those that were there."""
        query = f"{EACH_MEMORY} WITH m, m.id AS gone DETACH DELETE m RETURN gone"
        rows = await self._change(tenant, "delete", query, ids=unique(ids))
        return {row["gone"] for row in rows}

    async def touch(self, tenant: str, ids: Iterable[str], now_ms: int) -> None:
        """Raise `last_accessed` to `now_ms`; never lowers it."""
        query = (
            f"{EACH_MEMORY} WHERE coalesce(m.last_accessed, 0) < $now SET m.last_accessed = $now"
        )
        await self._change(tenant, "touch", query, ids=unique(ids), now=now_ms)

    async def by_tags(
        self, tenant: str, keys: Sequence[str], limit: int, offset: int = 0, *, prefix: bool = False
    ) -> list[Memory]:
        """Memories with any of `keys` (as `tag_keys` makes them; `prefix`: `tag_prefixes`).

        By importance, then timestamp, both falling, then id.
        """
        tagged = f"key IN m.{'tag_prefixes' if prefix else 'tag_keys'}"
        return await self._tagged(tenant, "by_tags", tagged, keys, most=limit, offset=offset)

    async def current_by_tags(
        self, tenant: str, keys: Sequence[str], *, now_ms: int, limit: int
    ) -> list[Memory]:
        """Return those with any of the tag keys that are current at `now_ms`, in that order."""
        current = f"key IN m.tag_keys AND {is_current_condition('m')}"
        return await self._tagged(
            tenant, "tagged_now", current, keys, most=limit, offset=0, at=now_ms
        )

    async def _tagged(
        self, tenant: str, operation: str, condition: str, keys: Sequence[str], **params: object
    ) -> list[Memory]:
        query = (
            f"UNWIND $keys AS key MATCH (m:Memory) WHERE {condition} WITH DISTINCT m"
            " ORDER BY m.importance DESC, m.timestamp DESC, m.id SKIP $offset LIMIT $most"
            f" RETURN {COLUMNS}"
        )
        rows = await self._read(tenant, operation, query, keys=unique(keys), **params)
        return [memory_of(row) for row in rows]

    async def tagged_ids(self, tenant: str, keys: Sequence[str], limit: int) -> list[str]:
        """Return the ids of some `limit` memories with any of the tag keys, in no order."""
        query = (
            "UNWIND $keys AS key MATCH (m:Memory) WHERE key IN m.tag_keys"
            " RETURN DISTINCT m.id LIMIT $most"
        )
        rows = await self._read(tenant, "tagged_ids", query, keys=unique(keys), most=limit)
        return [row["id"] for row in rows]

    async def counts(self, tenant: str) -> Counts:
        total, waiting = await asyncio.gather(
            self._read(tenant, "counts", "MATCH (m:Memory) RETURN count(m) AS memories"),
            asyncio.gather(*(self._waiting(tenant, stage) for stage in STAGES)),
        )
        stages = dict(zip(STAGES, waiting, strict=True))
        return Counts(
            total[0]["memories"] if total else 0,
            {stage: row["waiting"] for stage, row in stages.items()},
            {stage: row["failed"] for stage, row in stages.items()},
            min((row["oldest"] for row in waiting if row["oldest"] is not None), default=None),
        )

    async def _waiting(self, tenant: str, stage: Stage) -> Row:
        """How many wait for the stage, how many it gave up, and the smallest due time."""
        query = (
            f"OPTIONAL MATCH (m:Memory) WHERE {is_waiting(stage)}"
            f" WITH count(m) AS waiting, min(m.{stage}_due) AS oldest"
            f" OPTIONAL MATCH (g:Memory) WHERE g.{stage}_due >= {NEVER_MS}"
            " RETURN waiting, count(g) AS failed, oldest"
        )
        rows = await self._read(tenant, "counts", query)
        return rows[0] if rows else {"waiting": 0, "failed": 0, "oldest": None}

    def _row(self, memory: Memory, embedding: Embedding | None, idem: Idem | None) -> list[Any]:
        check_key(memory.id, "id")
        due = now_ms() + self.outbox_ms
        supplied = embedding_columns(embedding)
        return [*created_columns(memory, supplied, due, due), _idem_cells(idem)]

    async def _flush(self, tenant: str, rows: list[list[Any]]) -> list[str | EunoeError]:
        """Write the rows that share no id and no key in one query; refuse the later ones."""
        first: list[list[Any]] = []
        seen: set[str] = set()
        answers: list[str | EunoeError] = []
        for row in rows:
            names = {row[0], f"key {row[_IDEM_AT][0]}"} if row[_IDEM_AT] else {row[0]}
            if seen.isdisjoint(names):
                first.append(row)
                answers.append(row[0])
            else:
                answers.append(Conflict("Memory or Idem exists already"))
            seen |= names
        await self._insert(tenant, first)
        return answers

    async def _insert(self, tenant: str, rows: list[list[Any]]) -> None:
        """Create every row or none; a graph that was flushed meanwhile is made again, once.

        Raises: Conflict where an id or a key exists; nothing was created then.
        """
        for _ in range(2):
            await self._schema.ensure(tenant)
            created = await self._write(tenant, "create", _CREATE, rows=rows)
            if {row["id"] for row in created} == {row[0] for row in rows}:
                return
            if any(row["taken"] for row in await self._read(tenant, "taken", _TAKEN, rows=rows)):
                raise Conflict("Memory or Idem exists already")
            self._schema.forget(tenant)
        raise PermanentError("graph: a write was not confirmed")


def _idem_cells(idem: Idem | None) -> list[Any] | None:
    if idem is None:
        return None
    key, created_at = check_key(idem.key, "Idempotency-Key"), idem.created_at or now_ms()
    return [key, idem.body_hash, list(idem.ids), idem.answer_json, created_at]
