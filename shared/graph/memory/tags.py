"""Memories by exact tag, where `memories.by_tags` says too much: ids, and what holds now."""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.memory import Memory
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.records import COLUMNS, memory_of

_ANY = "UNWIND $keys AS key MATCH (m:Memory) WHERE key IN m.tag_keys"


class Tags:
    """`store.tags`; keys are as `tag_keys` makes them, a memory has any of them."""

    def __init__(self, client: GraphClient, schema: Schema) -> None:
        self._client = client
        self._schema = schema

    async def ids(self, tenant: str, keys: Sequence[str], limit: int) -> list[str]:
        """Some `limit` of the memories, in no order."""
        rows = await self._client.read(
            tenant,
            "tagged_ids",
            f"{_ANY} RETURN DISTINCT m.id LIMIT $most",
            keys=list(dict.fromkeys(keys)),
            most=limit,
        )
        return [row[0] for row in rows]

    async def current(
        self, tenant: str, keys: Sequence[str], *, now_ms: int, limit: int
    ) -> list[Memory]:
        """Those that hold at `now_ms` and are not archived, as `memories.by_tags` orders."""
        rows = await self._client.read(
            tenant,
            "tagged_now",
            f"{_ANY} AND (m.archived IS NULL OR m.archived = false)"
            " AND (m.t_valid IS NULL OR m.t_valid <= $now)"
            " AND (m.t_invalid IS NULL OR m.t_invalid > $now) WITH DISTINCT m"
            " ORDER BY m.importance DESC, m.timestamp DESC, m.id LIMIT $most"
            f" RETURN {COLUMNS}",
            keys=list(dict.fromkeys(keys)),
            now=now_ms,
            most=limit,
        )
        return [memory_of(row) for row in rows]
