"""The enrich stage's two writes: what no longer holds, then everything that does.

Both are guarded by the version the enricher worked from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.memory import tag_keys, tag_prefixes
from shared.graph.records import check_key, json_text
from shared.graph.stages.patterns import pattern_id
from shared.graph.stages.preceded_by import WEEK_MS

# Two stages write the block without reading it: its last key is the relate stage's, the rest
# the enrich stage's. Inside a JSON string this would have its quotes escaped.
TAIL = ',"semantic_neighbors":'
# A query of its own: DELETE inside FOREACH, or of what was collected into a list, deletes
# nothing and says nothing (4.16.3).
STALE = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.version = r[1]"
    " MATCH (m)-[x:REFERENCED_IN|PRECEDED_BY|EXEMPLIFIES]-(o)"
    " WHERE CASE WHEN type(x) <> 'PRECEDED_BY' OR startNode(x) = m THEN NOT o.id IN r[2]"
    f" ELSE o.timestamp <= m.timestamp OR o.timestamp > m.timestamp + {WEEK_MS} END"
    # Clients author EXEMPLIFIES between memories.
    " AND (type(x) <> 'EXEMPLIFIES' OR 'Pattern' IN labels(o)) DELETE x"
)
# Without `WITH a` every entity would be read for each id (9 ms for 64 of 1500).
MERGED = (
    "MATCH (a:Entity) WHERE a.id IN $ids AND a.merged_into IS NOT NULL"
    " WITH a MATCH (c:Entity {id: a.merged_into}) RETURN a.id, c.category, c.slug, c.name"
)
WRITE = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]})"
    " WHERE m.version = r[1] AND (r[12] IS NULL OR m.type = r[12])"
    # A name that was merged into another refers to that one.
    " UNWIND CASE WHEN size(r[2]) = 0 THEN [null] ELSE r[2] END AS named"
    " OPTIONAL MATCH (t:Entity {id: named[0]})"
    " WITH r, m, collect(CASE WHEN named IS NULL THEN null"
    " ELSE [coalesce(t.merged_into, named[0]), named[1], named[2], named[3]] END) AS named"
    " FOREACH (n IN named | MERGE (e:Entity {id: n[0]})"
    " ON CREATE SET e.category = n[1], e.slug = n[2], e.name = n[3], e.aliases = [],"
    " e.created_at = $now"
    " SET e.last_referenced_at = CASE WHEN coalesce(e.last_referenced_at, 0) < m.timestamp"
    " THEN m.timestamp ELSE e.last_referenced_at END"
    " MERGE (e)-[:REFERENCED_IN]->(m))"
    " WITH r, m UNWIND CASE WHEN size(r[3]) = 0 THEN [null] ELSE r[3] END AS previous"
    " OPTIONAL MATCH (o:Memory {id: previous}) WITH r, m, collect(o) AS others"
    " FOREACH (o IN others | MERGE (m)-[x:PRECEDED_BY]->(o)"
    " ON CREATE SET x.count = 1, x.updated_at = $now)"
    " WITH r, m, coalesce(m.entity_tags, []) <> r[4]"
    " OR (r[10] IS NOT NULL AND r[10] <> m.type) AS changed"
    " WITH r, m, changed, CASE WHEN NOT changed THEN m.payload_version"
    " WHEN m.payload_version >= $now THEN m.payload_version + 1 ELSE $now END AS payload"
    " SET m.payload_version = payload, m.entity_tags = r[4], m.tag_keys = r[5],"
    " m.tag_prefixes = r[6], m.entities = r[7], m.summary = r[9], m.enrichment = r[8] +"
    " $tail + CASE WHEN m.enrichment CONTAINS $tail THEN split(m.enrichment, $tail)[1]"
    " ELSE '[]}' END,"
    " m.type = coalesce(r[10], m.type), m.confidence = coalesce(r[11], m.confidence),"
    " m.enriched_version = r[1], m.enriched_at = $now,"
    " m.enrich_due = null, m.enrich_waits = null, m.enrich_failed_version = null,"
    " m.ask_due = CASE WHEN r[13] THEN $due ELSE null END, m.ask_waits = null,"
    " m.ask_failed_version = null,"
    " m.embed_due = CASE WHEN changed THEN $due ELSE m.embed_due END,"
    " m.embed_waits = CASE WHEN changed THEN null ELSE m.embed_waits END,"
    " m.embed_failed_version = CASE WHEN changed THEN null ELSE m.embed_failed_version END"
    " RETURN m.id, payload, changed"
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


def _entity_id(entity: tuple[str, str, str]) -> str:
    category, slug, _ = entity
    return check_key(f"entity:{category}:{slug}", "an entity's id")


def far_ids(row: Enriched) -> list[str]:
    """The far ends of every edge that it has now."""
    patterns = [pattern_id(row.pattern)] if row.pattern else []
    return [*map(_entity_id, row.entity_nodes), *row.previous_ids, *patterns]


def _block_head(enrichment: Mapping[str, Any]) -> str | None:
    """The block's JSON up to `TAIL`."""
    head = {name: value for name, value in enrichment.items() if name != "semantic_neighbors"}
    return json_text(head)[:-1] if head else None


def cells(row: Enriched) -> list[Any]:
    tags = (*row.tags, *row.entity_tags)
    return [
        row.id,
        row.version,
        [[_entity_id(entity), *entity] for entity in row.entity_nodes],
        [previous_id for previous_id in row.previous_ids if previous_id != row.id],
        row.entity_tags,
        tag_keys(tags),
        tag_prefixes(tags),
        json_text(row.entities) if row.entities else None,
        _block_head(row.enrichment),
        row.summary,
        row.type,
        row.confidence,
        row.seen_type,
        row.asks,
    ]
