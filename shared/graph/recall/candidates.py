"""The graph's part of a recall: the names it knows, and memories found without vectors.

Every query uses an index and has a limit, so that a frequent word cannot make a recall slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from shared.domain.memory import Memory, tag_keys
from shared.domain.scope import EVERYTHING, Scope
from shared.graph.engine.part import StorePart, unique
from shared.graph.records import (
    COLUMNS,
    SUCCESSOR_CELLS,
    Successor,
    is_current_condition,
    memory_of,
    successor_of,
)

# What the ranking needs of a memory; the other properties are read of the answered ones only.
RANKED = (
    *("id", "version", "payload_version", "content", "type", "confidence", "importance"),
    *("tags", "entity_tags", "timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
    *("project", "layer", "session_id", "speaker", "metadata", "meta_terms", "relevance_score"),
    "archived",
)
_PER_TERM = 50
_PER_ENTITY = 50
# Sorting costs 0.8 µs a memory (50 ms where 100 000 hold one term): where more hold a term,
# only the first so many of its index, the longest stored, are sorted.
_SORTED = 2000
_MOST_TAGS = 4000


@dataclass(frozen=True, slots=True)
class KnownEntity:
    """An entity that the query may mean; times in ms."""

    id: str
    slug: str
    category: str
    name: str
    aliases: tuple[str, ...]
    identity: str | None
    identity_source_count: int | None
    identity_updated_at: int | None


_ENTITY = tuple(each.name for each in fields(KnownEntity))
_KNOWN = (
    "UNWIND $names AS name CALL { WITH name MATCH (m:Memory {speaker: name})"
    " RETURN m.speaker AS speaker LIMIT 1 } RETURN speaker, "
    + ", ".join(f"null AS {name}" for name in _ENTITY)
    + " UNION ALL UNWIND $slugs AS slug MATCH (a:Entity {slug: slug})"
    " OPTIONAL MATCH (c:Entity {id: coalesce(a.merged_into, '')})"
    " WITH DISTINCT coalesce(c, a) AS e RETURN null AS speaker, "
    + ", ".join(f"e.{name} AS {name}" for name in _ENTITY)
)
_READ = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id})"
    " OPTIONAL MATCH (m)-[x:INVALIDATED_BY|EVOLVED_INTO]->(o:Memory)"
    f" WITH m, collect(CASE WHEN o IS NULL THEN null ELSE {SUCCESSOR_CELLS} END) AS successors"
    f" RETURN {', '.join(f'm.{name}' for name in RANKED)}, successors"
)
_STRENGTH = "coalesce(x.strength, x.score, x.confidence, x.similarity, x.count, 0.0)"
_CURRENT = is_current_condition("m")
# Current memories come first; the others may still lead to what replaced them.
_HIDDEN = f"CASE WHEN $at IS NULL OR {_CURRENT} THEN 0 ELSE 1 END"
_NOT_EXCLUDED = (
    "NOT any(tag IN coalesce(m.tag_keys, [])"
    " WHERE any(each IN $unwanted WHERE tag STARTS WITH each))"
)
_ORDERS = {
    "score": "m.importance DESC, m.timestamp DESC, m.id",
    "time_desc": "m.updated_at DESC, m.timestamp DESC, m.id",
    "time_asc": "m.updated_at, m.timestamp, m.id",
}
_BANDS = (0.9, 0.7, 0.5, 0.0)


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """A memory as far as RANKED, and what supersedes it."""

    memory: Memory
    successors: tuple[Successor, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A memory one relation away from `seed`."""

    seed: str
    memory: Memory
    type: str
    strength: float
    kind: str | None


def scope_params(scope: Scope) -> dict[str, Any]:
    """Return the parameters that the conditions below refer to."""
    return {
        "keys": list(scope.stored_tags),
        "unwanted": list(tag_keys(scope.exclude_tags)),
        "start": scope.start_ms,
        "end": scope.end_ms,
        "types": list(scope.exclude_types),
        "project": scope.project,
        "session": scope.session_id,
        "layer": scope.layer,
        "at": scope.current_at_ms,
    }


def field_conditions(scope: Scope) -> str:
    """Return the scope's conditions on `m` but for tags; an unset limit would hide an index."""
    limits = {
        "m.timestamp >= $start": scope.start_ms,
        "m.timestamp <= $end": scope.end_ms,
        "m.project = $project": scope.project,
        "m.session_id = $session": scope.session_id,
        "m.layer = $layer": scope.layer,
        _CURRENT: scope.current_at_ms,
    }
    used = (condition for condition, limit in limits.items() if limit is not None)
    return " AND ".join(("NOT m.type IN $types", *used))


def tag_filter(scope: Scope, *, any_tag: bool = True, beside: str = "") -> str:
    """Return the clause that keeps `m` by its tags, and what it carries on `beside` it.

    FalkorDB 4.16.3 finds nothing by `WHERE any(…)` right before RETURN, so the condition is
    projected first.
    """
    conditions = []
    if scope.tags and (any_tag or scope.tag_mode == "all"):
        conditions.append(f"{scope.tag_mode}(key IN $keys WHERE key IN {_tag_property(scope)})")
    if scope.exclude_tags:
        conditions.append(_NOT_EXCLUDED)
    if not conditions:
        return ""
    return f" WITH m{beside}, {' AND '.join(conditions)} AS fits WHERE fits"


def match(scope: Scope, condition: str) -> str:
    """Return the clause that matches each `m` of the scope that meets the condition, once.

    Tags are found by their index.
    """
    conditions = f"{condition} AND {field_conditions(scope)}"
    if not scope.tags:
        return f"MATCH (m:Memory) WHERE {conditions}{tag_filter(scope)}"
    by_tag = f"UNWIND $keys AS name MATCH (m:Memory) WHERE name IN {_tag_property(scope)}"
    return f"{by_tag} AND {conditions} WITH DISTINCT m{tag_filter(scope, any_tag=False)}"


def _tag_property(scope: Scope) -> str:
    return "m.tag_keys" if scope.tag_match == "exact" else "m.tag_prefixes"


class Candidates(StorePart):
    """`store.candidates`; every method sends one query but listing."""

    async def known(
        self, tenant: str, names: Sequence[str], slugs: Sequence[str]
    ) -> tuple[list[str], list[KnownEntity]]:
        """Return which of `names` are speakers, and which entities have one of `slugs`, by id."""
        if not names and not slugs:
            return [], []
        rows = await self._read(tenant, "known", _KNOWN, names=names, slugs=slugs)
        speakers = dict.fromkeys(row["speaker"] for row in rows if row["speaker"] is not None)
        entities = [
            KnownEntity(
                **{name: row[name] for name in _ENTITY} | {"aliases": tuple(row["aliases"] or ())}
            )
            for row in rows
            if row["id"] is not None
        ]
        return list(speakers), sorted(entities, key=lambda each: each.id)

    async def lookups(
        self,
        tenant: str,
        terms: Sequence[str],
        entity_ids: Sequence[str],
        scope: Scope = EVERYTHING,
    ) -> tuple[list[str], list[str]]:
        """Return ids by metadata term and by entity: of each the newest 50 in the scope."""
        if not terms and not entity_ids:
            return [], []
        params = {"terms": terms, "entities": entity_ids, **scope_params(scope)}
        rows = await self._read(tenant, "roads", _lookups(scope), **params)
        by_metadata = [row["id"] for row in rows if row["found_by"] == "metadata"]
        return by_metadata, [row["id"] for row in rows if row["found_by"] == "entity"]

    async def tag_keys(self, tenant: str, beginnings: Sequence[str]) -> list[str]:
        """Return the tenant's tags with these beginnings, at most 4000; 0.6 µs a memory."""
        if not beginnings:
            return []
        # One condition for each: `any` over a list takes twice as long.
        conditions = " OR ".join(f"tag STARTS WITH $begin[{n}]" for n in range(len(beginnings)))
        cypher = (
            f"MATCH (m:Memory) UNWIND m.tag_keys AS tag WITH tag WHERE {conditions}"
            f" RETURN DISTINCT tag LIMIT {_MOST_TAGS}"
        )
        rows = await self._read(tenant, "tag_keys", cypher, begin=beginnings)
        return [row["tag"] for row in rows]

    async def read(self, tenant: str, ids: Sequence[str]) -> dict[str, StoredCandidate]:
        """Return those of the memories that exist, with what supersedes them."""
        rows = await self._read(tenant, "candidates", _READ, ids=unique(ids))
        return {
            row["id"]: StoredCandidate(
                memory_of(row, RANKED), tuple(map(successor_of, row["successors"]))
            )
            for row in rows
        }

    async def around(
        self,
        tenant: str,
        ids: Sequence[str],
        *,
        per_seed: int,
        relations: Sequence[str],
        scope: Scope = EVERYTHING,
        least_strength: float = 0.0,
        least_importance: float = 0.0,
    ) -> list[Link]:
        """Return memories one relation away from `ids` in either direction.

        They come in the order of `ids`, at most `per_seed` of each: current memories first, then
        the others of the scope, both by the newest relation.
        """
        limits = {"strength": least_strength, "importance": least_importance, "most": per_seed}
        params = {"ids": ids, "relations": relations, **limits, **scope_params(scope)}
        rows = await self._read(tenant, "around", _around(scope.at_any_time()), **params)
        links = [
            Link(row["seed"], memory_of(row), row["relation"], float(row["strength"]), row["kind"])
            for row in rows
        ]
        place = {seed: at for at, seed in enumerate(ids)}
        return sorted(links, key=lambda link: place[link.seed])

    async def tagged(
        self, tenant: str, keys: Sequence[str], per_key: int, scope: Scope = EVERYTHING
    ) -> list[tuple[str, Memory]]:
        """Return of each tag key the most important memories in the scope, with the key.

        Those that are current come first, and the rest of the scope after them.
        """
        wider = scope.at_any_time()
        cypher = (
            "UNWIND $names AS key CALL { WITH key MATCH (m:Memory)"
            f" WHERE key IN m.tag_keys AND {field_conditions(wider)}{tag_filter(wider)}"
            f" WITH m, {_HIDDEN} AS hidden"
            " ORDER BY hidden, m.importance DESC, m.timestamp DESC, m.id LIMIT $most RETURN m }"
            f" RETURN {COLUMNS}, key"
        )
        params = {"names": keys, "most": per_key, **scope_params(scope)}
        rows = await self._read(tenant, "tagged", cypher, **params)
        return [(row["key"], memory_of(row)) for row in rows]

    async def listing(
        self, tenant: str, scope: Scope, limit: int, order: str = "score"
    ) -> list[Memory]:
        """Return the first `limit` memories of the scope in an order; at most four queries."""
        # Sorting costs more than reading, so the most important are read first while they suffice.
        bands = _BANDS if order == "score" and not scope.session_id else (None,)
        rows: Sequence[Mapping[str, Any]] = ()
        for least in bands:
            matched = match(scope, "true" if least is None else f"m.importance >= {least}")
            cypher = f"{matched} WITH m ORDER BY {_ORDERS[order]} LIMIT $most RETURN {COLUMNS}"
            params = {"most": limit, **scope_params(scope)}
            rows = await self._read(tenant, "listing", cypher, **params)
            if len(rows) >= limit:
                break
        return [memory_of(row) for row in rows]


def _lookups(scope: Scope) -> str:
    newest = " WITH m ORDER BY m.timestamp DESC, m.id LIMIT"
    return (
        f"UNWIND $terms AS term CALL {{ WITH term {match(scope, 'term IN m.meta_terms')}"
        f" WITH m LIMIT {_SORTED}{newest} {_PER_TERM} RETURN m.id AS id }}"
        " RETURN DISTINCT 'metadata' AS found_by, id"
        " UNION ALL UNWIND $entities AS entity CALL { WITH entity"
        " MATCH (:Entity {id: entity})-[:REFERENCED_IN]->(m:Memory)"
        f" WHERE {field_conditions(scope)}{tag_filter(scope)}"
        f"{newest} {_PER_ENTITY} RETURN m.id AS id }}"
        " RETURN DISTINCT 'entity' AS found_by, id"
    )


def _around(scope: Scope) -> str:
    return (
        "UNWIND $ids AS seed CALL { WITH seed MATCH (s:Memory {id: seed})-[x]-(m:Memory)"
        f" WHERE type(x) IN $relations AND {_STRENGTH} >= $strength"
        # Projected, or the planner starts at the index of these conditions: 140 ms.
        f" WITH m, x, m.importance >= $importance AND {field_conditions(scope)} AS fits WHERE fits"
        f"{tag_filter(scope, beside=', x')}"
        f" WITH m, x, {_HIDDEN} AS hidden"
        " ORDER BY hidden, coalesce(x.updated_at, m.timestamp) DESC, m.id LIMIT $most"
        f" RETURN m, type(x) AS relation, {_STRENGTH} AS strength, x.kind AS kind }}"
        f" RETURN {COLUMNS}, seed, relation, strength, kind"
    )
