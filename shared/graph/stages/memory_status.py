"""Receipts: how far the stages have come with one memory, as its node tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.memory import NEVER_MS
from shared.graph.engine.client import GraphClient
from shared.graph.stages.writes import VERSION_OF
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
class Receipt:
    """Times are ms; None for what has not happened, or was not noted."""

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
        "m.id, m.version, m.timestamp, m.text_hash IS NOT NULL, coalesce(m.archived, false)",
        "m.enriched_at, m.embedded_at, m.related_at",
        *(
            f"[m.{VERSION_OF[stage]}, m.{reached}, m.{stage}_due]"
            for stage, reached in _REACHED.items()
        ),
    )
)


class Receipts:
    """`store.receipts`."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def get(self, tenant: str, memory_id: str) -> Receipt | None:
        rows = await self._client.read(
            tenant, "receipt", f"MATCH (m:Memory {{id: $id}}) RETURN {_COLUMNS}", id=memory_id
        )
        if not rows:
            return None
        cells = rows[0]
        stages = {
            stage: StageStatus(version, reached or 0, due_ms)
            for stage, (version, reached, due_ms) in zip(_REACHED, cells[8:], strict=True)
        }
        known: list[Any] = [*cells[:8], stages]
        return Receipt(*known)

    async def waiting(self, tenant: str, stage: Stage, limit: int) -> list[str]:
        """Ids of some memories that the stage has not finished and not given up."""
        rows = await self._client.read(
            tenant,
            "waiting",
            f"MATCH (m:Memory) WHERE m.{stage}_due > 0 AND m.{stage}_due < $never"
            " RETURN m.id LIMIT $most",
            never=NEVER_MS,
            most=limit,
        )
        return [row[0] for row in rows]
