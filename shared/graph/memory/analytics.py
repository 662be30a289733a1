"""Counts over a tenant's whole graph, for GET /analyze: one scan of the memories."""

from __future__ import annotations

from dataclasses import dataclass

from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.stages.patterns import CONFIDENCE, SEEN

_GROUPS = (
    "MATCH (m:Memory) WITH coalesce(m.type, 'Memory') AS type,"
    " toInteger(floor((coalesce(m.timestamp, 0) % 86400000 + 86400000) % 86400000 / 3600000.0))"
    " AS hour, coalesce(m.confidence, 0.5) AS confidence, coalesce(m.importance, 0.5) AS importance"
    " RETURN type, hour, count(confidence), sum(confidence), sum(importance),"
    " sum(CASE WHEN confidence < 0.4 THEN 1 ELSE 0 END),"
    " sum(CASE WHEN confidence >= 0.7 THEN 1 ELSE 0 END)"
)
_PATTERNS = (
    # What a Pattern says of itself is as of its last memory, and knows of no deletion.
    f"MATCH (p:Pattern) WITH p, {SEEN} AS seen WITH p, seen, {CONFIDENCE} AS confidence"
    " WHERE confidence > 0.6 RETURN p.type, p.content, confidence, seen"
    " ORDER BY confidence DESC, p.type LIMIT $most"
)
_PREFERENCES = (
    "MATCH (a:Memory)-[x:PREFERS_OVER]->(b:Memory)"
    " WITH a, x, b, coalesce(x.strength, 0.5) AS strength"
    " RETURN a.content, b.content, x.context, strength ORDER BY strength DESC, a.id, b.id"
    " LIMIT $most"
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


class Analytics:
    """`store.analytics`; every method is one tenant's and one query."""

    def __init__(self, client: GraphClient, schema: Schema) -> None:
        self._client = client
        self._schema = schema

    async def groups(self, tenant: str) -> list[Group]:
        rows = await self._client.read(tenant, "analyze", _GROUPS)
        return [
            Group(row[0], row[1], row[2], float(row[3]), float(row[4]), int(row[5]), int(row[6]))
            for row in rows
        ]

    async def patterns(self, tenant: str, limit: int) -> list[Pattern]:
        """Patterns of a confidence above 0.6, the surest first; of memories that exist."""
        rows = await self._client.read(tenant, "analyze", _PATTERNS, most=limit)
        return [Pattern(row[0], row[1] or "", float(row[2]), int(row[3])) for row in rows]

    async def preferences(self, tenant: str, limit: int) -> list[Preference]:
        """What is preferred over what, the strongest first."""
        rows = await self._client.read(tenant, "analyze", _PREFERENCES, most=limit)
        return [Preference(row[0] or "", row[1] or "", row[2], float(row[3])) for row in rows]

    async def entities(self, tenant: str, limit: int) -> dict[str, int]:
        """Name → in how many memories it occurs, the most frequent first."""
        rows = await self._client.read(tenant, "analyze", _ENTITIES, most=limit)
        return {row[0]: int(row[1]) for row in rows if row[0]}
