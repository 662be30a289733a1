"""The enrich stage's two writes, guarded by version: delete old edges, then write the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.compact_json import compact_json
from shared.domain.memory import tag_keys, tag_prefixes
from shared.graph.engine.part import (
    EACH_ROW,
    next_payload_version,
    numbered,
    set_due,
    set_each,
    set_if,
)
from shared.graph.records import check_key
from shared.graph.stages.patterns import pattern_id
from shared.graph.stages.preceded_by import WEEK_MS

# Two stages write the block without reading it: its last key is the relate stage's, the rest
# the enrich stage's. Inside a JSON string this would have its quotes escaped.
_NEIGHBOURS = "semantic_neighbors"
TAIL = f',"{_NEIGHBOURS}":'
# A query of its own: DELETE inside FOREACH, or of what was collected into a list, deletes
# nothing and says nothing (4.16.3).
STALE = numbered(
    f"{EACH_ROW} WHERE m.version = r.version"
    " MATCH (m)-[x:REFERENCED_IN|PRECEDED_BY|EXEMPLIFIES]-(o)"
    " WHERE CASE WHEN type(x) <> 'PRECEDED_BY' OR startNode(x) = m THEN NOT o.id IN r.far_ids"
    f" ELSE o.timestamp <= m.timestamp OR o.timestamp > m.timestamp + {WEEK_MS} END"
    # Clients author EXEMPLIFIES between memories.
    " AND (type(x) <> 'EXEMPLIFIES' OR 'Pattern' IN labels(o)) DELETE x",
    ("id", "version", "far_ids"),
)
# Without `WITH a` every entity would be read for each id (9 ms for 64 of 1500).
MERGED = (
    "MATCH (a:Entity) WHERE a.id IN $ids AND a.merged_into IS NOT NULL"
    " WITH a MATCH (c:Entity {id: a.merged_into}) RETURN a.id, c.category, c.slug, c.name"
)
_ROW = (
    *("id", "version", "entities", "previous", "entity_tags", "tag_keys", "tag_prefixes"),
    *("entity_json", "block", "summary", "type", "confidence", "seen_type", "asks"),
)
WRITE = numbered(
    f"{EACH_ROW} WHERE m.version = r.version AND (r.seen_type IS NULL OR m.type = r.seen_type)"
    # A name that was merged into another refers to that one.
    " UNWIND CASE WHEN size(r.entities) = 0 THEN [null] ELSE r.entities END AS named"
    " OPTIONAL MATCH (t:Entity {id: named[0]})"
    " WITH r, m, collect(CASE WHEN named IS NULL THEN null"
    " ELSE [coalesce(t.merged_into, named[0]), named[1], named[2], named[3]] END) AS named"
    " FOREACH (n IN named | MERGE (e:Entity {id: n[0]})"
    " ON CREATE SET e.category = n[1], e.slug = n[2], e.name = n[3], e.aliases = [],"
    " e.created_at = $now"
    " SET e.last_referenced_at = CASE WHEN coalesce(e.last_referenced_at, 0) < m.timestamp"
    " THEN m.timestamp ELSE e.last_referenced_at END"
    " MERGE (e)-[:REFERENCED_IN]->(m))"
    " WITH r, m UNWIND CASE WHEN size(r.previous) = 0 THEN [null] ELSE r.previous END AS previous"
    " OPTIONAL MATCH (o:Memory {id: previous}) WITH r, m, collect(o) AS others"
    " FOREACH (o IN others | MERGE (m)-[x:PRECEDED_BY]->(o)"
    " ON CREATE SET x.count = 1, x.updated_at = $now)"
    " WITH r, m, coalesce(m.entity_tags, []) <> r.entity_tags"
    " OR (r.type IS NOT NULL AND r.type <> m.type) AS changed"
    " WITH r, m, changed, CASE WHEN NOT changed THEN m.payload_version"
    f" ELSE {next_payload_version('m')} END AS payload"
    " SET m.payload_version = payload, m.entity_tags = r.entity_tags, m.tag_keys = r.tag_keys,"
    " m.tag_prefixes = r.tag_prefixes, m.enrichment = r.block + $tail +"
    " CASE WHEN m.enrichment CONTAINS $tail THEN split(m.enrichment, $tail)[1]"
    " ELSE '[]}' END,"
    " m.type = coalesce(r.type, m.type), m.confidence = coalesce(r.confidence, m.confidence),"
    " m.enriched_version = r.version, m.enriched_at = $now,"
    f" {set_due('enrich', 'null')}"
    + set_each(
        "m.entities = r.entity_json",
        "m.summary = r.summary",
        set_due("ask", "CASE WHEN r.asks THEN $due ELSE null END"),
    )
    + set_if("changed", set_due("embed", "$due"))
    + " RETURN m.id, payload AS payload_version, changed AS payload_changed",
    _ROW,
)


@dataclass(frozen=True, slots=True)
class Enriched:
    """What the enricher found for memory `id` at `version`.

    `tags` are the authored tags it had at that version; None leaves `type` and `confidence`
    as they are. With `seen_type`, nothing is written once the type is another: the chat model
    may give one at the same version. `entity_nodes` are (category, slug, name); `previous_ids`
    are the memories it was preceded by, as `previous` named them. `pattern`: the type whose
    Pattern it exemplifies; `asks`: the ask stage is due. Of `enrichment`,
    `semantic_neighbors` stays as `related` wrote it.
    """

    id: str
    version: int
    tags: tuple[str, ...]
    entity_tags: tuple[str, ...]
    entities: Mapping[str, list[str]]
    enrichment: Mapping[str, Any]
    summary: str | None = None
    type: str | None = None
    confidence: float | None = None
    seen_type: str | None = None
    entity_nodes: tuple[tuple[str, str, str], ...] = ()
    previous_ids: tuple[str, ...] = ()
    pattern: str | None = None
    asks: bool = False


def far_ids(row: Enriched) -> list[str]:
    """The ids at the far ends of every edge that the memory has now."""
    patterns = [pattern_id(row.pattern)] if row.pattern else []
    return [*map(_entity_id, row.entity_nodes), *row.previous_ids, *patterns]


def cells(row: Enriched) -> list[Any]:
    """The row as WRITE reads it."""
    tags = (*row.tags, *row.entity_tags)
    block = {name: value for name, value in row.enrichment.items() if name != _NEIGHBOURS}
    values = {
        "id": row.id,
        "version": row.version,
        "entities": [[_entity_id(entity), *entity] for entity in row.entity_nodes],
        "previous": [previous_id for previous_id in row.previous_ids if previous_id != row.id],
        "entity_tags": row.entity_tags,
        "tag_keys": tag_keys(tags),
        "tag_prefixes": tag_prefixes(tags),
        "entity_json": compact_json(row.entities) if row.entities else None,
        "block": compact_json(block)[:-1] if block else None,  # up to TAIL
        "summary": row.summary,
        "type": row.type,
        "confidence": row.confidence,
        "seen_type": row.seen_type,
        "asks": row.asks,
    }
    return [values[name] for name in _ROW]


def _entity_id(entity: tuple[str, str, str]) -> str:
    category, slug, _ = entity
    return check_key(f"entity:{category}:{slug}", "an entity's id")
