"""Entities: the people and things that memories name. The enricher makes them.

A merged entity stays as a node whose `merged_into` names the other one: its name still finds
that one, and a merge that was interrupted is finished by requesting it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import Conflict
from shared.graph.engine.part import StorePart

_MOVED_PAGE = 500
_SHARED_PAGE = 100
_SAME_NAME = 20
_REFERENCES = "outdegree(e, 'REFERENCED_IN')"
_COLUMNS = (
    "e.id, coalesce(e.slug, '') AS slug, coalesce(e.category, '') AS category, e.name,"
    " coalesce(e.aliases, []) AS aliases, e.identity,"
    " coalesce(e.identity_version, 0) AS identity_version, e.identity_updated_at,"
    " coalesce(e.identity_source_count, 0) AS identity_source_count, e.created_at,"
    f" e.last_referenced_at, e.merged_into, coalesce({_REFERENCES}, 0) AS references"
)
_TOP = (
    "MATCH (e:Entity) WHERE e.merged_into IS NULL{where}"
    f" WITH e, {_REFERENCES} AS held WHERE $ghosts OR held > 0"
    " OR size(e.aliases) > 0 OR e.identity IS NOT NULL"
    " WITH e, held ORDER BY held DESC, e.id LIMIT $most"
    f" RETURN {_COLUMNS}"
)
_NAMED = (
    f"MATCH (e:Entity {{id: $name}}) RETURN {_COLUMNS}"
    f" UNION MATCH (e:Entity {{slug: $name}}) RETURN {_COLUMNS}"
)
_ALIASED = (
    "MATCH (e:Entity) WHERE e.merged_into IS NULL AND $name IN e.aliases"
    f" RETURN {_COLUMNS} LIMIT {_SAME_NAME}"
)
_SHARED = (
    "UNWIND $pairs AS p MATCH (a:Entity {id: p[0]})-[:REFERENCED_IN]->(m:Memory)"
    "<-[:REFERENCED_IN]-(b:Entity {id: p[1]}) RETURN p[0] AS a, p[1] AS b, count(m) AS memories"
)
_MARK = (
    "MATCH (a:Entity {id: $alias}) MATCH (c:Entity {id: $canonical})"
    " WHERE c.merged_into IS NULL AND (a.merged_into IS NULL OR a.merged_into = $canonical)"
    " WITH a, c, [n IN [a.slug] + coalesce(a.aliases, []) WHERE n <> c.slug] AS names"
    " SET a.merged_into = c.id, a.aliases = [],"
    " c.aliases = [n IN coalesce(c.aliases, []) WHERE NOT n IN names] + names,"
    " c.created_at = CASE WHEN a.created_at < c.created_at THEN a.created_at"
    " ELSE c.created_at END,"
    " c.last_referenced_at = CASE WHEN coalesce(c.last_referenced_at, 0) <"
    " coalesce(a.last_referenced_at, 0) THEN a.last_referenced_at"
    " ELSE c.last_referenced_at END"
    " RETURN a.slug"
)
_REPOINT = (
    "MATCH (x:Entity) WHERE x.merged_into = $alias SET x.merged_into = $canonical RETURN count(x)"
)
_MOVE = (
    "MATCH (a:Entity {id: $alias})-[x:REFERENCED_IN]->(m:Memory)"
    f" WITH x, m LIMIT {_MOVED_PAGE}"
    " MATCH (c:Entity {id: $canonical}) MERGE (c)-[:REFERENCED_IN]->(m) DELETE x"
    " RETURN count(m) AS moved"
)


@dataclass(frozen=True, slots=True)
class Entity:
    """`references` counts the memories that name it; `merged_into` is another entity's id."""

    id: str
    slug: str
    category: str
    name: str
    aliases: tuple[str, ...]
    identity: str | None
    identity_version: int
    identity_updated_at: int | None
    identity_source_count: int
    created_at: int | None
    last_referenced_at: int | None
    merged_into: str | None
    references: int

    @property
    def ghost(self) -> bool:
        return not (self.references or self.aliases or self.identity or self.merged_into)


class Entities(StorePart):
    """`store.entities`.

    An entity whose memories are all gone stays as a node, a ghost that is not shown: the next
    memory that names it finds it again. One with an alias or an identity is no ghost.
    """

    async def top(
        self, tenant: str, *, category: str | None = None, limit: int, ghosts: bool = False
    ) -> list[Entity]:
        """Return the most referenced entities that are not merged; equal ones by id."""
        query = _TOP.format(where="" if category is None else " AND e.category = $category")
        given = {"category": category, "most": limit, "ghosts": ghosts}
        return [_entity(row) for row in await self._read(tenant, "entities", query, **given)]

    async def named(self, tenant: str, name: str) -> list[Entity]:
        """Return the entities with this id or slug, else those with it as an alias.

        Merged ones come last; then the most referenced first, then by id.
        """
        rows = await self._read(tenant, "entity", _NAMED, name=name)
        found = [entity for entity in map(_entity, rows) if not entity.ghost]
        if not found:
            rows = await self._read(tenant, "entity", _ALIASED, name=name)
            found = [_entity(row) for row in rows]
        return sorted(found, key=lambda e: (e.merged_into is not None, -e.references, e.id))

    async def shared(self, tenant: str, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Return for each pair of ids the number of memories that name both."""
        counts: dict[tuple[str, str], int] = {}
        for at in range(0, len(pairs), _SHARED_PAGE):
            page = [list(pair) for pair in pairs[at : at + _SHARED_PAGE]]
            rows = await self._read(tenant, "entity_shared", _SHARED, pairs=page)
            counts |= {(row["a"], row["b"]): row["memories"] for row in rows}
        return [counts.get(pair, 0) for pair in pairs]

    async def merge(self, tenant: str, *, alias: str, canonical: str) -> int:
        """Make entity `alias` a name of `canonical`; return how many references were moved.

        References that both had are counted too. A second call moves those that are left, if any.

        Raises: Conflict if either was merged into something else, or is gone: read again.
        """
        ends = {"alias": alias, "canonical": canonical}
        if not await self._change(tenant, "entity_merge", _MARK, **ends):
            raise Conflict("The entities changed meanwhile; look again")
        await self._change(tenant, "entity_merge", _REPOINT, **ends)
        moved = 0
        while True:
            rows = await self._change(tenant, "entity_merge", _MOVE, **ends)
            count = rows[0]["moved"] if rows else 0
            moved += count
            if count < _MOVED_PAGE:
                return moved


def _entity(row: dict[str, Any]) -> Entity:
    named = {"name": row["name"] or row["slug"], "aliases": tuple(row["aliases"])}
    return Entity(**(row | named))
