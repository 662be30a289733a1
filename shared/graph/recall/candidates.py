"""What the graph offers a recall: names it knows, memories found by other roads than vectors.

Everything comes by index and with a bound, so that a frequent word cannot make a recall slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.memory import Memory, tag_keys
from shared.domain.scope import EVERYTHING, Scope
from shared.graph.engine.client import GraphClient
from shared.graph.records import (
    COLUMNS,
    PROPERTIES,
    SUCCESSOR_CELLS,
    Successor,
    is_current_condition,
    memory_of,
    successor_of,
)

# What a ranking reads of a memory; the rest is read of the few that are answered.
RANKED = (
    *("id", "version", "payload_version", "content", "type", "confidence", "importance"),
    *("tags", "entity_tags", "timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
    *("project", "layer", "session_id", "speaker", "metadata", "meta_terms", "relevance_score"),
    "archived",
)
_PER_TERM = 50
_PER_ENTITY = 50
# Sorting costs 0.8 µs a memory (50 ms where 100 000 hold one term): of a term that more hold,
# the longest stored.
_SORTED = 2000
_MOST_TAGS = 4000

_ENTITY = (
    *("id", "slug", "category", "name", "aliases", "identity"),
    *("identity_source_count", "identity_updated_at"),
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
_BY_ENTITY = (
    "UNWIND $entities AS entity CALL { WITH entity"
    " MATCH (:Entity {id: entity})-[:REFERENCED_IN]->(m:Memory) WHERE"
)
_READ = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id})"
    " OPTIONAL MATCH (m)-[x:INVALIDATED_BY|EVOLVED_INTO]->(o:Memory)"
    f" WITH m, collect(CASE WHEN o IS NULL THEN null ELSE {SUCCESSOR_CELLS} END) AS successors"
    f" RETURN {', '.join(f'm.{name}' for name in RANKED)}, successors"
)
_STRENGTH = "coalesce(x.strength, x.score, x.confidence, x.similarity, x.count, 0.0)"
_CURRENT = is_current_condition("m")
# What holds comes first; what does not may still lead to what took its place.
_HIDDEN = f"CASE WHEN $moment IS NULL OR {_CURRENT.replace('$at', '$moment')} THEN 0 ELSE 1 END"
_WANTED = (
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


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """A memory as the ranking needs it: itself, and what supersedes it."""

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


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The speakers and the entities of a tenant that a query may name."""

    speakers: tuple[str, ...]
    entities: tuple[KnownEntity, ...]


def scope_params(scope: Scope) -> dict[str, Any]:
    """The parameters that `fields`, `kept` and `matched` refer to."""
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


def _held(scope: Scope) -> str:
    """The property that the scope's tags are looked for in."""
    return "m.tag_keys" if scope.tag_match == "exact" else "m.tag_prefixes"


def fields(scope: Scope) -> str:
    """What a memory `m` must be but for its tags; names only what is asked, for the indexes."""
    asked = {
        "m.timestamp >= $start": scope.start_ms is not None,
        "m.timestamp <= $end": scope.end_ms is not None,
        "m.project = $project": scope.project is not None,
        "m.session_id = $session": scope.session_id is not None,
        "m.layer = $layer": scope.layer is not None,
        _CURRENT: scope.current_at_ms is not None,
    }
    return " AND ".join(("NOT m.type IN $types", *(text for text, on in asked.items() if on)))


def kept(scope: Scope, *, any_tag: bool = True, beside: str = "") -> str:
    """Then its tags; projected first: `WHERE any(…)` right before RETURN finds nothing (4.16.3).

    `beside`: what else than `m` is carried on.
    """
    tests = []
    if scope.tags and (any_tag or scope.tag_mode == "all"):
        quantifier = "all" if scope.tag_mode == "all" else "any"
        tests.append(f"{quantifier}(key IN $keys WHERE key IN {_held(scope)})")
    if scope.exclude_tags:
        tests.append(_WANTED)
    return f" WITH m{beside}, {' AND '.join(tests)} AS fits WHERE fits" if tests else ""


def matched(scope: Scope, condition: str) -> str:
    """The wanted memories `m`, each once, that meet the condition; tags come by their index."""
    conditions = f"{condition} AND {fields(scope)}"
    if not scope.tags:
        return f"MATCH (m:Memory) WHERE {conditions}{kept(scope)}"
    tagged = f"UNWIND $keys AS name MATCH (m:Memory) WHERE name IN {_held(scope)}"
    return f"{tagged} AND {conditions} WITH DISTINCT m{kept(scope, any_tag=False)}"


class Candidates:
    """`store.candidates`; every method is one tenant's."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def known(self, tenant: str, names: Sequence[str], slugs: Sequence[str]) -> KnownNames:
        """Which of `names` speak, and which entities have one of `slugs`; one query."""
        if not names and not slugs:
            return KnownNames((), ())
        rows = await self._client.read(
            tenant, "known", _KNOWN, names=list(names), slugs=list(slugs)
        )
        speakers = tuple(dict.fromkeys(row[0] for row in rows if row[0] is not None))
        entities = [_entity(row[1:]) for row in rows if row[1] is not None]
        return KnownNames(speakers, tuple(sorted(entities, key=lambda each: each.id)))

    async def roads(
        self,
        tenant: str,
        terms: Sequence[str],
        entity_ids: Sequence[str],
        scope: Scope = EVERYTHING,
    ) -> tuple[list[str], list[str]]:
        """Ids by metadata term and by entity: of what is wanted the newest 50 of each."""
        if not terms and not entity_ids:
            return [], []
        rows = await self._client.read(
            tenant,
            "roads",
            _roads(scope),
            terms=list(terms),
            entities=list(entity_ids),
            **scope_params(scope),
        )
        by_metadata = [row[1] for row in rows if row[0] == "metadata"]
        return by_metadata, [row[1] for row in rows if row[0] == "entity"]

    async def tag_keys(self, tenant: str, beginnings: Sequence[str]) -> list[str]:
        """The tenant's tags, at most 4000, that begin so; 0.6 µs a memory, so only where asked."""
        if not beginnings:
            return []
        # One by one: `any` over them takes twice as long.
        tests = " OR ".join(f"tag STARTS WITH $begin[{n}]" for n in range(len(beginnings)))
        rows = await self._client.read(
            tenant,
            "tag_keys",
            f"MATCH (m:Memory) UNWIND m.tag_keys AS tag WITH tag WHERE {tests}"
            f" RETURN DISTINCT tag LIMIT {_MOST_TAGS}",
            begin=list(beginnings),
        )
        return [row[0] for row in rows]

    async def read(self, tenant: str, ids: Sequence[str]) -> dict[str, StoredCandidate]:
        """The memories that exist, as far as RANKED, with what supersedes them; one query."""
        if not ids:
            return {}
        rows = await self._client.read(tenant, "candidates", _READ, ids=list(dict.fromkeys(ids)))
        return {
            row[0]: StoredCandidate(
                memory_of(row, RANKED), tuple(map(successor_of, row[len(RANKED)]))
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
        at_ms: int | None = None,
        least_strength: float = 0.0,
        least_importance: float = 0.0,
    ) -> list[Link]:
        """Memories one relation away from `ids` in either direction, newest relations first.

        At most `per_seed` of each seed, in the seeds' order, those that hold at `at_ms`
        before the others; one query.
        """
        rows = await self._client.read(
            tenant,
            "around",
            _around(scope),
            ids=list(ids),
            most=per_seed,
            relations=list(relations),
            moment=at_ms,
            strength=least_strength,
            importance=least_importance,
            **scope_params(scope),
        )
        links = [_link(row) for row in rows]
        place = {seed: at for at, seed in enumerate(ids)}
        return sorted(links, key=lambda link: place[link.seed])

    async def tagged(
        self,
        tenant: str,
        keys: Sequence[str],
        each: int,
        *,
        scope: Scope = EVERYTHING,
        at_ms: int | None = None,
    ) -> list[tuple[str, Memory]]:
        """The `each` most important wanted memories of every tag key, with the key; one query.

        Those that hold at `at_ms` come before the others.
        """
        query = (
            "UNWIND $names AS name CALL { WITH name MATCH (m:Memory)"
            f" WHERE name IN m.tag_keys AND {fields(scope)}{kept(scope)}"
            f" WITH m, {_HIDDEN} AS hidden"
            " ORDER BY hidden, m.importance DESC, m.timestamp DESC, m.id LIMIT $most RETURN m }"
            f" RETURN {COLUMNS}, name"
        )
        rows = await self._client.read(
            tenant,
            "tagged",
            query,
            names=list(keys),
            most=each,
            moment=at_ms,
            **scope_params(scope),
        )
        return [(row[-1], memory_of(row)) for row in rows]

    async def listing(
        self, tenant: str, scope: Scope, limit: int, order: str = "score"
    ) -> list[Memory]:
        """The first `limit` memories in the wanted order; at most four queries."""
        # Sorting costs more than reading: the most important first, while they are too few.
        bands = _BANDS if order == "score" and not scope.session_id else (None,)
        found: list[Memory] = []
        for least in bands:
            match = matched(scope, "true" if least is None else f"m.importance >= {least}")
            found = await self._rows(tenant, match, scope, _ORDERS[order], limit)
            if len(found) >= limit:
                break
        return found

    async def _rows(
        self, tenant: str, match: str, scope: Scope, order: str, limit: int
    ) -> list[Memory]:
        rows = await self._client.read(
            tenant,
            "listing",
            f"{match} WITH m ORDER BY {order} LIMIT $most RETURN {COLUMNS}",
            most=limit,
            **scope_params(scope),
        )
        return [memory_of(row) for row in rows]


def _roads(scope: Scope) -> str:
    """Both in one query."""
    newest = " WITH m ORDER BY m.timestamp DESC, m.id LIMIT"
    return (
        f"UNWIND $terms AS term CALL {{ WITH term {matched(scope, 'term IN m.meta_terms')}"
        f" WITH m LIMIT {_SORTED}{newest} {_PER_TERM} RETURN m.id AS id }}"
        " RETURN DISTINCT 'metadata' AS road, id"
        f" UNION ALL {_BY_ENTITY} {fields(scope)}{kept(scope)}"
        f"{newest} {_PER_ENTITY} RETURN m.id AS id }}"
        " RETURN DISTINCT 'entity' AS road, id"
    )


def _around(scope: Scope) -> str:
    return (
        "UNWIND $ids AS id CALL { WITH id MATCH (s:Memory {id: id})-[x]-(m:Memory)"
        f" WHERE type(x) IN $relations AND {_STRENGTH} >= $strength"
        # Projected, or it would go from the index of what `m` must be to the seeds: 140 ms.
        f" WITH m, x, m.importance >= $importance AND {fields(scope)} AS fits WHERE fits"
        f"{kept(scope, beside=', x')}"
        f" WITH m, x, {_HIDDEN} AS hidden"
        " ORDER BY hidden, coalesce(x.updated_at, m.timestamp) DESC, m.id LIMIT $most"
        f" RETURN m, type(x) AS type, {_STRENGTH} AS strength, x.kind AS kind }}"
        f" RETURN {COLUMNS}, id, type, strength, kind"
    )


def _entity(row: Sequence[Any]) -> KnownEntity:
    entity_id, slug, category, name, aliases, identity, sources, updated = row
    return KnownEntity(
        entity_id, slug, category, name, tuple(aliases or ()), identity, sources, updated
    )


def _link(row: Sequence[Any]) -> Link:
    seed, kind_of, strength, kind = row[len(PROPERTIES) :]
    return Link(seed, memory_of(list(row)), kind_of, float(strength), kind)
