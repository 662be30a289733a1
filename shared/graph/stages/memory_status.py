"""How far the stages have come with one memory, read from its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.memory import NEVER_MS
from shared.graph.engine.part import StorePart, is_waiting
from shared.graph.records import VERSION_OF
from shared.streams.job import Stage


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage of a memory: the version its next job carries, and when it is due (ms).

    `reached` is the version that the stage has brought the memory to; 0 before the first.
    """

    version: int
    reached: int
    due_ms: int | None

    @property
    def given_up(self) -> bool:
        return self.due_ms is not None and self.due_ms >= NEVER_MS


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """The status of one memory. Times are ms; None for what has not happened or was not noted."""

    id: str
    version: int
    timestamp: int
    has_vector: bool
    archived: bool
    enriched_at: int | None
    embedded_at: int | None
    related_at: int | None
    stages: Mapping[Stage, StageStatus]


_REACHED = {
    Stage.ENRICH: "enriched_version",
    Stage.EMBED: "embedded_version",
    Stage.RELATE: "related_version",
}
_COLUMNS = ", ".join(
    (
        "m.id, m.version, m.timestamp, m.text_hash IS NOT NULL AS has_vector",
        "coalesce(m.archived, false) AS archived, m.enriched_at, m.embedded_at, m.related_at",
        *(
            f"[m.{VERSION_OF[stage]}, coalesce(m.{reached}, 0), m.{stage}_due] AS {stage}"
            for stage, reached in _REACHED.items()
        ),
    )
)


class MemoryStatuses(StorePart):
    """`store.memory_statuses`."""

    async def get(self, tenant: str, memory_id: str) -> StoredStatus | None:
        query = f"MATCH (m:Memory {{id: $id}}) RETURN {_COLUMNS}"
        rows = await self._read(tenant, "receipt", query, id=memory_id)
        if not rows:
            return None
        row = rows[0]
        stages = {stage: StageStatus(*row.pop(stage)) for stage in _REACHED}
        return StoredStatus(**row, stages=stages)

    async def waiting(self, tenant: str, stage: Stage, limit: int) -> list[str]:
        """Return ids of some memories that the stage has neither finished nor failed."""
        query = f"MATCH (m:Memory) WHERE {is_waiting(stage)} RETURN m.id LIMIT $most"
        return [row["id"] for row in await self._read(tenant, "waiting", query, most=limit)]
