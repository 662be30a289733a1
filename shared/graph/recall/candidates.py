"""The graph's part of a recall: the names it knows, and memories found without vectors.

Every query uses an index and has a limit, so that a frequent word cannot make a recall slow.
A search for words in the content costs 2 µs a memory, most of it for lower-casing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from shared.domain.memory import Memory, now_ms, tag_keys
from shared.domain.scope import EVERYTHING, Scope
from shared.graph.engine.client import Row
from shared.graph.engine.part import StorePart, unique
from shared.graph.records import COLUMNS, Text, is_current_condition, memory_of

# What the ranking needs of a memory; the other properties are read of the answered ones only.
RANKED = (
    *("id", "version", "payload_version", "content", "type", "confidence", "importance"),
    *("tags", "entity_tags", "timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
    *("project", "layer", "session_id", "speaker", "metadata", "meta_terms", "relevance_score"),
    "archived",
)
SCANNED = 20_000
_HOUR_MS = 3_600_000
_WINDOWS_MS = tuple(hours * _HOUR_MS for hours in (1, 6, 24, 72, 240, 720, 2160, 8760))
_EARLIEST_MS = -(2**62)
_PER_TERM = 50
_PER_ENTITY = 50
# Sorting costs 0.8 µs a memory (50 ms where 100 000 hold one term): where more hold a term,
# only the first so many of its index, the longest stored, are sorted.
_SORTED = 2000
_MOST_TAGS = 4000
_ENTITY = (
    *("id", "slug", "category", "name", "aliases"),
    *("identity", "identity_source_count", "identity_updated_at"),
)
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
    f" WITH m, collect(CASE WHEN o.id <> m.id AND {is_current_condition('o')}"
    " THEN [o.id, type(x), toFloat(coalesce(x.strength, 0))] ELSE null END) AS successors"
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
# FalkorDB 4.16.3 finds nothing by `WHERE any(…)` right before RETURN.
_CONTAINING = (
    " LIMIT $scan WITH m, toLower(m.content) AS text"
    " WITH m, size($words) = 0 OR any(word IN $words WHERE text CONTAINS word) AS hit WHERE hit"
    " RETURN m.id, coalesce(m.content, '') AS content LIMIT $most"
)


class Successor(NamedTuple):
    """A current memory that invalidated or evolved another one."""

    id: str
    type: str
    strength: float


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """A memory as far as RANKED, and what supersedes it: the first by id."""

    memory: Memory
    successor: Successor | None = None


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
    """Return the clause that matches each `m` of the scope and condition once, tags by index."""
    conditions = f"{condition} AND {field_conditions(scope)}"
    if not scope.tags:
        return f"MATCH (m:Memory) WHERE {conditions}{tag_filter(scope)}"
    by_tag = f"UNWIND $keys AS name MATCH (m:Memory) WHERE name IN {_tag_property(scope)}"
    return f"{by_tag} AND {conditions} WITH DISTINCT m{tag_filter(scope, any_tag=False)}"


def _tag_property(scope: Scope) -> str:
    return "m.tag_keys" if scope.tag_match == "exact" else "m.tag_prefixes"


class Candidates(StorePart):
    """`store.candidates`; every method sends one query but `listing` and `newest`.

    Words are lower case and also match inside words; without words every memory matches.
    """

    async def speakers_and_entities(
        self, tenant: str, names: Sequence[str], slugs: Sequence[str]
    ) -> tuple[list[str], list[Row]]:
        """Return which `names` are speakers, and entities (_ENTITY) with one of `slugs`, by id."""
        if not names and not slugs:
            return [], []
        rows = await self._read(tenant, "known", _KNOWN, names=names, slugs=slugs)
        speakers = dict.fromkeys(row["speaker"] for row in rows if row["speaker"] is not None)
        entities = [
            {name: row[name] for name in _ENTITY} | {"aliases": row["aliases"] or []}
            for row in rows
            if row["id"] is not None
        ]
        return list(speakers), sorted(entities, key=itemgetter("id"))

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
        newest = " WITH m ORDER BY m.timestamp DESC, m.id LIMIT"
        query = (
            f"UNWIND $terms AS term CALL {{ WITH term {match(scope, 'term IN m.meta_terms')}"
            f" WITH m LIMIT {_SORTED}{newest} {_PER_TERM} RETURN m.id AS id }}"
            " RETURN DISTINCT 'metadata' AS found_by, id"
            " UNION ALL UNWIND $entities AS entity CALL { WITH entity"
            " MATCH (:Entity {id: entity})-[:REFERENCED_IN]->(m:Memory)"
            f" WHERE {field_conditions(scope)}{tag_filter(scope)}"
            f"{newest} {_PER_ENTITY} RETURN m.id AS id }}"
            " RETURN DISTINCT 'entity' AS found_by, id"
        )
        params = {"terms": terms, "entities": entity_ids, **scope_params(scope)}
        rows = await self._read(tenant, "roads", query, **params)
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

    async def read(
        self, tenant: str, ids: Sequence[str], *, at_ms: int
    ) -> dict[str, StoredCandidate]:
        """Return those of the memories that exist, with what supersedes them at `at_ms`."""
        rows = await self._read(tenant, "candidates", _READ, ids=unique(ids), at=at_ms)
        found = {}
        for row in rows:
            successor = min(map(Successor._make, row["successors"]), default=None)
            found[row["id"]] = StoredCandidate(memory_of(row, RANKED), successor)
        return found

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
        wider = scope.at_any_time()
        query = (
            "UNWIND $ids AS seed CALL { WITH seed MATCH (s:Memory {id: seed})-[x]-(m:Memory)"
            f" WHERE type(x) IN $relations AND {_STRENGTH} >= $strength"
            # Projected, or the planner starts at the index of these conditions: 140 ms.
            f" WITH m, x, m.importance >= $importance AND {field_conditions(wider)} AS fits"
            f" WHERE fits{tag_filter(wider, beside=', x')} WITH m, x, {_HIDDEN} AS hidden"
            " ORDER BY hidden, coalesce(x.updated_at, m.timestamp) DESC, m.id LIMIT $most"
            f" RETURN m, type(x) AS relation, {_STRENGTH} AS strength, x.kind AS kind }}"
            f" RETURN {COLUMNS}, seed, relation, strength, kind"
        )
        limits = {"strength": least_strength, "importance": least_importance, "most": per_seed}
        params = {"ids": ids, "relations": relations, **limits, **scope_params(scope)}
        rows = await self._read(tenant, "around", query, **params)
        links = [
            Link(row["seed"], memory_of(row), row["relation"], float(row["strength"]), row["kind"])
            for row in rows
        ]
        place = {seed: at for at, seed in enumerate(ids)}
        return sorted(links, key=lambda link: place[link.seed])

    async def tagged(
        self, tenant: str, keys: Sequence[str], per_key: int, scope: Scope = EVERYTHING
    ) -> list[tuple[str, Memory]]:
        """Return the most important memories of each tag key with it, the current ones first."""
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
        rows: list[Row] = []
        for least in bands:
            matched = match(scope, "true" if least is None else f"m.importance >= {least}")
            cypher = f"{matched} WITH m ORDER BY {_ORDERS[order]} LIMIT $most RETURN {COLUMNS}"
            params = {"most": limit, **scope_params(scope)}
            rows = await self._read(tenant, "listing", cypher, **params)
            if len(rows) >= limit:
                break
        return [memory_of(row) for row in rows]

    async def unembedded(
        self, tenant: str, words: Sequence[str], limit: int = 500, *, scope: Scope = EVERYTHING
    ) -> list[Text]:
        """Return those that match of the SCANNED newest without vectors, newest version first."""
        fresh = f"{match(scope, 'm.embed_due > 0')} WITH m ORDER BY m.version DESC, m.id"
        params = {"words": words, "scan": SCANNED, "most": limit, **scope_params(scope)}
        rows = await self._read(tenant, "unembedded", fresh + _CONTAINING, **params)
        return [Text(**row) for row in rows]

    async def newest(
        self, tenant: str, words: Sequence[str], limit: int = 500, *, scope: Scope = EVERYTHING
    ) -> list[Text]:
        """Return those that match of the SCANNED newest by timestamp, for when vectors are down."""
        scan = SCANNED if words else limit
        params = {"words": words, "scan": scan, "most": limit, **scope_params(scope)}
        params["since"] = await self._since(tenant, scan, scope)
        newest = f"{match(scope, 'm.timestamp >= $since')} WITH m ORDER BY m.timestamp DESC, m.id"
        rows = await self._read(tenant, "newest", newest + _CONTAINING, **params)
        return [Text(**row) for row in rows]

    async def _since(self, tenant: str, count: int, scope: Scope) -> int:
        """Return a time after which at least `count` lie, so that not all are sorted."""
        now = now_ms()
        sinces = [now - window for window in _WINDOWS_MS]
        # A scope with an index of its own is rather small, so all of it is counted first.
        if scope.tags or scope.project or scope.session_id or scope.layer:
            sinces.insert(0, _EARLIEST_MS)
        cypher = f"{match(scope, 'm.timestamp >= $since')} RETURN count(m) AS memories"
        for since in sinces:
            params = {"since": since, **scope_params(scope)}
            rows = await self._read(tenant, "newest", cypher, **params)
            enough = bool(rows) and rows[0]["memories"] >= count
            if enough != (since == _EARLIEST_MS):
                return since
        return _EARLIEST_MS
