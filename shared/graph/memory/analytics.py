"""Counts over a tenant's whole graph, for GET /analyze: one scan of the memories."""

from __future__ import annotations

from dataclasses import dataclass

from shared.graph.engine.part import StorePart
from shared.graph.stages.patterns import CONFIDENCE, SEEN

_GROUPS = (
    "MATCH (m:Memory) WITH coalesce(m.type, 'Memory') AS type,"
    " toInteger(floor((coalesce(m.timestamp, 0) % 86400000 + 86400000) % 86400000 / 3600000.0))"
    " AS hour, coalesce(m.confidence, 0.5) AS sure, coalesce(m.importance, 0.5) AS weight"
    " RETURN type, hour, count(sure) AS count, toFloat(sum(sure)) AS confidence,"
    " toFloat(sum(weight)) AS importance,"
    " toInteger(sum(CASE WHEN sure < 0.4 THEN 1 ELSE 0 END)) AS low,"
    " toInteger(sum(CASE WHEN sure >= 0.7 THEN 1 ELSE 0 END)) AS high"
)
_PATTERNS = (
    # The counts that a Pattern stores are those of its last memory: no deletion changes them.
    f"MATCH (p:Pattern) WITH p, {SEEN} AS seen WITH p, seen, {CONFIDENCE} AS confidence"
    " WHERE confidence > 0.6 RETURN p.type, coalesce(p.content, '') AS description,"
    " toFloat(confidence) AS confidence, toInteger(seen) AS observations"
    " ORDER BY confidence DESC, p.type LIMIT $most"
)
_PREFERENCES = (
    "MATCH (a:Memory)-[x:PREFERS_OVER]->(b:Memory)"
    " WITH a, x, b, toFloat(coalesce(x.strength, 0.5)) AS strength"
    " RETURN coalesce(a.content, '') AS prefers, coalesce(b.content, '') AS over, x.context,"
    " strength ORDER BY strength DESC, a.id, b.id LIMIT $most"
)
_ENTITIES = (
    "MATCH (e:Entity) WITH e.name AS name, sum(outdegree(e, ['REFERENCED_IN'])) AS references"
    " WHERE references > 0 RETURN name, references ORDER BY references DESC, name LIMIT $most"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Memories of one type and one hour of the day (UTC): how many, and sums over them.

    `low` have a confidence below 0.4, `high` of at least 0.7.
    """

    type: str
    hour: int
    count: int
    confidence: float
    importance: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Pattern:
    type: str
    description: str
    confidence: float
    observations: int


@dataclass(frozen=True, slots=True)
class Preference:
    prefers: str
    over: str
    context: str | None
    strength: float


class Analytics(StorePart):
    """`store.analytics`; every method is one query."""

    async def groups(self, tenant: str) -> list[Group]:
        return [Group(**row) for row in await self._read(tenant, "analyze", _GROUPS)]

    async def patterns(self, tenant: str, limit: int) -> list[Pattern]:
        """Return patterns of a confidence above 0.6, the surest first; of memories that exist."""
        rows = await self._read(tenant, "analyze", _PATTERNS, most=limit)
        return [Pattern(**row) for row in rows]

    async def preferences(self, tenant: str, limit: int) -> list[Preference]:
        """Return the PREFERS_OVER relations, the strongest first."""
        rows = await self._read(tenant, "analyze", _PREFERENCES, most=limit)
        return [Preference(**row) for row in rows]

    async def entities(self, tenant: str, limit: int) -> dict[str, int]:
        """Return name → in how many memories it occurs, the most frequent first."""
        rows = await self._read(tenant, "analyze", _ENTITIES, most=limit)
        return {row["name"]: int(row["references"]) for row in rows if row["name"]}
