"""Memories by exact tag, where `memories.by_tags` reads more than is needed."""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.memory import Memory
from shared.graph.engine.part import StorePart, unique
from shared.graph.records import COLUMNS, is_current_condition, memory_of

_ANY = "UNWIND $keys AS key MATCH (m:Memory) WHERE key IN m.tag_keys"


class Tags(StorePart):
    """`store.tags`; keys are as `tag_keys` makes them, a memory has any of them."""

    async def ids(self, tenant: str, keys: Sequence[str], limit: int) -> list[str]:
        """Return some `limit` of the memories, in no order."""
        query = f"{_ANY} RETURN DISTINCT m.id LIMIT $most"
        rows = await self._read(tenant, "tagged_ids", query, keys=unique(keys), most=limit)
        return [row["id"] for row in rows]

    async def current(
        self, tenant: str, keys: Sequence[str], *, now_ms: int, limit: int
    ) -> list[Memory]:
        """Return those that are current at `now_ms`, ordered as by `memories.by_tags`."""
        rows = await self._read(
            tenant,
            "tagged_now",
            f"{_ANY} AND {is_current_condition('m')} WITH DISTINCT m"
            " ORDER BY m.importance DESC, m.timestamp DESC, m.id LIMIT $most"
            f" RETURN {COLUMNS}",
            keys=unique(keys),
            at=now_ms,
            most=limit,
        )
        return [memory_of(row) for row in rows]
