"""What the graph offers a recall: names it knows, memories found by other roads than vectors.

Everything comes by index and with a bound, so that a frequent word cannot make a recall slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.graph.client import GraphClient
from shared.graph.nodes import COLUMNS, PROPERTIES, Successor, memory_of, successor_of
from shared.memory import Memory

# What a ranking reads of a memory; the rest is read of the few that are answered.
RANKED = (
    *("id", "version", "payload_version", "content", "type", "confidence", "importance"),
    *("tags", "entity_tags", "timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
    *("project", "layer", "session_id", "speaker", "metadata", "meta_terms", "relevance_score"),
    "archived",
)
_PER_TERM = 50
_PER_ENTITY = 50
_NONE_MS = 1 << 62

_ENTITY = (
    *("id", "slug", "category", "name", "aliases", "identity"),
    *("identity_source_count", "identity_updated_at"),
)
_KNOWN = (
    "UNWIND $names AS name CALL { WITH name MATCH (m:Memory {speaker: name})"
    " RETURN m.speaker AS speaker LIMIT 1 } RETURN speaker, "
    + ", ".join(f"null AS {name}" for name in _ENTITY)
    + " UNION ALL UNWIND $slugs AS slug MATCH (e:Entity {slug: slug}) WHERE e.merged_into IS NULL"
    " RETURN null AS speaker, " + ", ".join(f"e.{name} AS {name}" for name in _ENTITY)
)
_ROADS = (
    "UNWIND $terms AS term CALL { WITH term MATCH (m:Memory) WHERE term IN m.meta_terms"
    f" RETURN m.id AS id LIMIT {_PER_TERM} }} RETURN DISTINCT 'metadata' AS road, id"
    " UNION ALL UNWIND $entities AS entity CALL { WITH entity"
    " MATCH (:Entity {id: entity})-[:REFERENCED_IN]->(m:Memory)"
    f" RETURN m.id AS id ORDER BY m.timestamp DESC LIMIT {_PER_ENTITY} }}"
    " RETURN DISTINCT 'entity' AS road, id"
)
_READ = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id})"
    " OPTIONAL MATCH (m)-[x:INVALIDATED_BY|EVOLVED_INTO]->(o:Memory)"
    " WITH m, collect(CASE WHEN o IS NULL THEN null ELSE"
    " [o.id, type(x), o.archived, o.t_valid, o.t_invalid] END) AS successors"
    f" RETURN {', '.join(f'm.{name}' for name in RANKED)}, successors"
)
_STRENGTH = "coalesce(x.strength, x.score, x.confidence, x.similarity, x.count, 0.0)"
_AROUND = (
    "UNWIND $ids AS id CALL { WITH id MATCH (s:Memory {id: id})-[x]-(m:Memory)"
    " WHERE type(x) IN $types"
    f" RETURN m, type(x) AS type, {_STRENGTH} AS strength, x.kind AS kind"
    " ORDER BY coalesce(x.updated_at, m.timestamp) DESC, m.id LIMIT $most }"
    f" RETURN {COLUMNS}, id, type, strength, kind"
)
_TAGGED = (
    "UNWIND $keys AS key CALL { WITH key MATCH (m:Memory) WHERE key IN m.tag_keys"
    " RETURN m ORDER BY m.importance DESC, m.timestamp DESC, m.id LIMIT $most }"
    f" RETURN {COLUMNS}, key"
)
_HOLDS = (
    " m.timestamp >= $start AND m.timestamp <= $end AND NOT m.type IN $types"
    " AND ($project IS NULL OR m.project = $project)"
    " AND ($session IS NULL OR m.session_id = $session)"
    " AND ($layer IS NULL OR m.layer = $layer)"
    " AND ($at IS NULL OR ((m.archived IS NULL OR m.archived = false)"
    " AND (m.t_valid IS NULL OR m.t_valid <= $at)"
    " AND (m.t_invalid IS NULL OR m.t_invalid > $at)))"
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
class Candidate:
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
class Known:
    speakers: tuple[str, ...]
    entities: tuple[KnownEntity, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a recall without a query lists; `at_ms` None also lists what no longer holds."""

    tags: tuple[str, ...]
    by_prefix: bool
    all_tags: bool
    start_ms: int | None
    end_ms: int | None
    project: str | None
    session_id: str | None
    layer: str | None
    exclude_types: tuple[str, ...]
    at_ms: int | None
    order: str

    def params(self) -> Mapping[str, Any]:
        return {
            "start": -_NONE_MS if self.start_ms is None else self.start_ms,
            "end": _NONE_MS if self.end_ms is None else self.end_ms,
            "types": list(self.exclude_types),
            "project": self.project,
            "session": self.session_id,
            "layer": self.layer,
            "at": self.at_ms,
        }


class Candidates:
    """`store.candidates`; every method is one tenant's."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def known(self, tenant: str, names: Sequence[str], slugs: Sequence[str]) -> Known:
        """Which of `names` speak, and which entities have one of `slugs`; one query."""
        if not names and not slugs:
            return Known((), ())
        rows = await self._client.read(
            tenant, "known", _KNOWN, names=list(names), slugs=list(slugs)
        )
        speakers = tuple(dict.fromkeys(row[0] for row in rows if row[0] is not None))
        entities = [_entity(row[1:]) for row in rows if row[1] is not None]
        return Known(speakers, tuple(sorted(entities, key=lambda each: each.id)))

    async def roads(
        self, tenant: str, terms: Sequence[str], entity_ids: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Ids by metadata term, at most 50 a term, and by entity, the newest 50 of each."""
        if not terms and not entity_ids:
            return [], []
        rows = await self._client.read(
            tenant, "roads", _ROADS, terms=list(terms), entities=list(entity_ids)
        )
        by_metadata = [row[1] for row in rows if row[0] == "metadata"]
        return by_metadata, [row[1] for row in rows if row[0] == "entity"]

    async def read(self, tenant: str, ids: Sequence[str]) -> dict[str, Candidate]:
        """The memories that exist, as far as RANKED, with what supersedes them; one query."""
        if not ids:
            return {}
        rows = await self._client.read(tenant, "candidates", _READ, ids=list(dict.fromkeys(ids)))
        return {
            row[0]: Candidate(memory_of(row, RANKED), tuple(map(successor_of, row[len(RANKED)])))
            for row in rows
        }

    async def around(
        self, tenant: str, ids: Sequence[str], *, per_seed: int, types: Sequence[str]
    ) -> list[Link]:
        """Memories one relation away from `ids` in either direction, newest relations first.

        At most `per_seed` of each seed, in the seeds' order; one query.
        """
        rows = await self._client.read(
            tenant, "around", _AROUND, ids=list(ids), most=per_seed, types=list(types)
        )
        links = [_link(row) for row in rows]
        place = {seed: at for at, seed in enumerate(ids)}
        return sorted(links, key=lambda link: place[link.seed])

    async def tagged(self, tenant: str, keys: Sequence[str], each: int) -> list[tuple[str, Memory]]:
        """The `each` most important memories of every tag key, with the key; one query."""
        rows = await self._client.read(tenant, "tagged", _TAGGED, keys=list(keys), most=each)
        return [(row[-1], memory_of(row)) for row in rows]

    async def listing(self, tenant: str, wanted: Listing, limit: int) -> list[Memory]:
        """The first `limit` memories in the wanted order; at most four queries."""
        order = _ORDERS[wanted.order]
        # Sorting costs more than reading: the most important first, while they are too few.
        bands = _BANDS if wanted.order == "score" and not wanted.session_id else (None,)
        found: list[Memory] = []
        for least in bands:
            found = await self._rows(tenant, _match(wanted, least), wanted, order, limit)
            if len(found) >= limit:
                break
        return found

    async def _rows(
        self, tenant: str, match: str, wanted: Listing, order: str, limit: int
    ) -> list[Memory]:
        rows = await self._client.read(
            tenant,
            "listing",
            f"{match} WITH m ORDER BY {order} LIMIT $most RETURN {COLUMNS}",
            keys=list(wanted.tags),
            most=limit,
            **wanted.params(),
        )
        return [memory_of(row) for row in rows]


def _match(wanted: Listing, least: float | None) -> str:
    """What is listed, of at least that importance."""
    enough = "" if least is None else f" m.importance >= {least} AND"
    if not wanted.tags:
        return f"MATCH (m:Memory) WHERE{enough}{_HOLDS}"
    held = "tag_prefixes" if wanted.by_prefix else "tag_keys"
    match = f"UNWIND $keys AS key MATCH (m:Memory) WHERE key IN m.{held} AND{enough}{_HOLDS}"
    if wanted.all_tags:
        return f"{match} WITH m, count(DISTINCT key) AS hits WHERE hits = {len(wanted.tags)}"
    return f"{match} WITH DISTINCT m"


def _entity(row: Sequence[Any]) -> KnownEntity:
    entity_id, slug, category, name, aliases, identity, sources, updated = row
    return KnownEntity(
        entity_id, slug, category, name, tuple(aliases or ()), identity, sources, updated
    )


def _link(row: Sequence[Any]) -> Link:
    seed, kind_of, strength, kind = row[len(PROPERTIES) :]
    return Link(seed, memory_of(list(row)), kind_of, float(strength), kind)
