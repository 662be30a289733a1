"""What a picture of the graph shows: memories, the edges between them, and counts for /analyze.

Entities, fences, runs and other nodes are not shown. A query that reads all memories goes
over ranges of slots, so that no write waits longer than for one range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.memory import FALLBACK_TYPE
from shared.domain.relations import RELATIONS
from shared.graph.engine.client import Row
from shared.graph.engine.part import EACH_MEMORY, StorePart
from shared.graph.records import SLOTS
from shared.graph.stages.patterns import CONFIDENCE, SEEN

# About 5 ms a page, with what the client takes to read it.
_RANKED_PAGE = 2_000
_COUNTED_PAGE = 5_000
_EDGES_OF = 200
HIGH, MEDIUM = 0.8, 0.5

_VISIBLE = "(m.type IS NULL OR NOT m.type IN $hidden)"
_RANKED = (
    "MATCH (m:Memory) WHERE m.slot >= $lo AND m.slot < $hi AND m.importance >= $least"
    f" AND {_VISIBLE} AND (size($types) = 0 OR m.type IN $types)"
    " AND ($since IS NULL OR m.timestamp >= $since)"
    " RETURN m.importance, m.timestamp, m.id"
    " ORDER BY m.importance DESC, m.timestamp DESC, m.id LIMIT $most"
)
_COUNTED = (
    f"MATCH (m:Memory) WHERE m.slot >= $lo AND m.slot < $hi AND {_VISIBLE}"
    " WITH coalesce(m.type, $fallback) AS type, coalesce(m.importance, 0.5) AS weight"
    f" RETURN type, CASE WHEN weight >= {HIGH} THEN 'high' WHEN weight >= {MEDIUM} THEN 'medium'"
    " ELSE 'low' END AS level, count(weight) AS count"
)
_STRENGTH = "coalesce(x.strength, x.score, x.confidence, x.similarity, 0.5)"
_EDGES = (
    f"{EACH_MEMORY}-[x]->(o:Memory)"
    f" RETURN m.id AS source, o.id AS target, type(x) AS type, toFloat({_STRENGTH}) AS strength,"
    " properties(x) AS properties"
)
_STEP = (
    "UNWIND $ids AS id MATCH (c:Memory {id: id})"
    " CALL { WITH c MATCH (c)-[x]-(m:Memory)"
    f" WHERE {_VISIBLE} AND NOT m.id IN $seen"
    f" WITH m, max({_STRENGTH}) AS strength ORDER BY strength DESC, m.id LIMIT $most"
    " RETURN m.id AS other, strength }"
    " RETURN other, max(strength) AS strength ORDER BY strength DESC, other LIMIT $most"
)

_TO_PATTERNS = "MATCH (p:Pattern) RETURN toInteger(sum(indegree(p, ['EXEMPLIFIES'])))"
_HIDDEN = (
    "MATCH (m:Memory)-[x]-(:Memory) WHERE m.type IN $hidden"
    " RETURN type(x) AS type, count(DISTINCT x) AS count"
)


@dataclass(frozen=True, slots=True)
class NodeFilter:
    """Which memories a picture shows; with empty `types` every type but the hidden ones."""

    limit: int
    min_importance: float = 0.0
    types: tuple[str, ...] = ()
    since_ms: int | None = None


class Views(StorePart):
    """`store.views`; every method only reads."""

    async def nodes(self, tenant: str, *, hidden: Sequence[str] = ()) -> int:
        """Return how many memories have a type that is not among `hidden`."""
        every = await self._count(tenant, "MATCH (m:Memory) RETURN count(m)")
        if not every or not hidden:
            return every
        unseen = "MATCH (m:Memory) WHERE m.type IN $hidden RETURN count(m)"
        return every - await self._count(tenant, unseen, hidden=list(hidden))

    async def edges_by_type(self, tenant: str, *, hidden: Sequence[str] = ()) -> dict[str, int]:
        """Return edge counts by type, most first, between the memories that `nodes` counts."""
        # Only in this very form is a count read off the matrix; a UNION, or another column
        # beside it, walks every edge (150 000: 0.2 s in which nothing is written).
        found = {
            kind: await self._count(tenant, f"MATCH ()-[x:{kind}]->() RETURN count(x)")
            for kind in RELATIONS
            if kind != "REFERENCED_IN"  # of entities
        }
        found["EXEMPLIFIES"] -= await self._count(tenant, _TO_PATTERNS)
        if hidden:
            for row in await self._read(tenant, "view_count", _HIDDEN, hidden=list(hidden)):
                found[row["type"]] -= row["count"]
        some = ((kind, edges) for kind, edges in found.items() if edges > 0)
        return dict(sorted(some, key=lambda pair: (-pair[1], pair[0])))

    async def _count(self, tenant: str, cypher: str, **params: object) -> int:
        """Return the one number that the query answers."""
        rows = await self._read(tenant, "view_count", cypher, **params)
        return int(*rows[0].values()) if rows else 0

    async def strongest(
        self, tenant: str, chosen: NodeFilter, *, hidden: Sequence[str] = ()
    ) -> list[str]:
        """Return `chosen.limit` ids by importance, then timestamp, both falling, then id."""
        best: list[tuple[float, int, str]] = []
        least = chosen.min_importance
        # A hidden type that the request names is shown.
        unseen = [kind for kind in hidden if kind not in chosen.types]
        given: dict[str, Any] = {"types": chosen.types, "hidden": unseen, "since": chosen.since_ms}
        async for lo, hi in self._ranges(tenant, _RANKED_PAGE):
            given |= {"lo": lo, "hi": hi, "least": least, "most": chosen.limit}
            rows = await self._read(tenant, "view_ranked", _RANKED, **given)
            best += [(-row["importance"], -(row["timestamp"] or 0), row["id"]) for row in rows]
            if len(best) > 2 * chosen.limit:
                # Memories less important than the last of a full list need not be sent.
                best = sorted(best)[: chosen.limit]
                least = max(least, -best[-1][0])
        return [memory_id for _, _, memory_id in sorted(best)[: chosen.limit]]

    async def edges(self, tenant: str, ids: Iterable[str], *, most: int) -> list[Row]:
        """Return the first `most` edges between any two of `ids`, in the ids' order.

        `strength` is the first value that the edge has, 0.5 where it has none.
        """
        chosen = list(dict.fromkeys(ids))
        inside = frozenset(chosen)
        found: list[Row] = []
        for at in range(0, len(chosen), _EDGES_OF):
            page = {memory_id: place for place, memory_id in enumerate(chosen[at : at + _EDGES_OF])}
            rows = await self._read(tenant, "view_edges", _EDGES, ids=list(page))
            edges = (row for row in rows if row["target"] in inside)
            found += sorted(edges, key=lambda x: (page[x["source"]], x["type"], x["target"]))
            if len(found) >= most:
                break
        return found[:most]

    async def reach(
        self, tenant: str, memory_id: str, *, depth: int, limit: int, hidden: Sequence[str] = ()
    ) -> list[str]:
        """Return what is within `depth` edges, nearest, then strongest first; one query a step."""
        seen = [memory_id]
        frontier = [memory_id]
        for _ in range(depth):
            left = limit - (len(seen) - 1)
            if left <= 0 or not frontier:
                break
            given = {"ids": frontier, "seen": seen, "hidden": list(hidden), "most": left}
            rows = await self._read(tenant, "view_reach", _STEP, **given)
            frontier = [row["other"] for row in rows]
            seen += frontier
        return seen[1:]

    async def distribution(
        self, tenant: str, *, hidden: Sequence[str]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Count memories by type and by importance; one without a type has the fallback type."""
        by_type = Counter[str]()
        by_importance = {"high": 0, "medium": 0, "low": 0}
        async for lo, hi in self._ranges(tenant, _COUNTED_PAGE):
            given = {"lo": lo, "hi": hi, "hidden": list(hidden), "fallback": FALLBACK_TYPE}
            for row in await self._read(tenant, "view_counted", _COUNTED, **given):
                by_type[row["type"]] += row["count"]
                by_importance[row["level"]] += row["count"]
        ordered = sorted(by_type.items(), key=lambda pair: (-pair[1], pair[0]))
        return dict(ordered), by_importance

    async def between(
        self, tenant: str, start_ms: int, end_ms: int, *, hidden: Sequence[str]
    ) -> int:
        """Return how many memories have a timestamp in [start, end)."""
        query = (
            "MATCH (m:Memory) WHERE m.timestamp >= $start AND m.timestamp < $end"
            f" AND {_VISIBLE} RETURN count(m)"
        )
        return await self._count(tenant, query, start=start_ms, end=end_ms, hidden=list(hidden))

    async def _ranges(self, tenant: str, page: int) -> AsyncIterator[tuple[int, int]]:
        """Yield ranges of slots that cover every memory, of about `page` memories each."""
        count = await self._count(tenant, "MATCH (m:Memory) RETURN count(m)")
        if not count:
            return
        width = -(-SLOTS // -(-count // page))
        for lo in range(0, SLOTS, width):
            yield lo, min(SLOTS, lo + width)


# -- counts for GET /analyze: one scan of the memories ----------------------------------

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
    # A Pattern's stored counts date from its last memory; deletions do not change them.
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
