"""Relations between memories that clients author, and walking them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.memory import now_ms
from shared.domain.relations import AUTHORED, RELATIONS
from shared.errors import InvalidInput
from shared.graph.engine.part import StorePart, unique
from shared.graph.records import Summary, is_current_condition, summary_cells

# Relation type that clients may write → its properties besides strength and updated_at, as AutoMem
# has them.
RELATION_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "RELATES_TO": (),
    "LEADS_TO": (),
    "OCCURRED_BEFORE": (),
    "PREFERS_OVER": ("context", "strength", "reason"),
    "EXEMPLIFIES": ("pattern_type", "confidence"),
    "CONTRADICTS": ("resolution", "reason"),
    "REINFORCES": ("strength", "observations"),
    "INVALIDATED_BY": ("reason", "timestamp"),
    "EVOLVED_INTO": ("confidence", "reason"),
    "DERIVED_FROM": ("transformation", "confidence"),
    "PART_OF": ("role", "context"),
    "DISCOVERED": ("kind", "confidence", "similarity", "origin"),
    "SUMMARIZES": (),
}
MAX_DEPTH = 3
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Association:
    """`type` from `from_id` to `to_id`; `properties` among RELATION_PROPERTIES and strength."""

    from_id: str
    to_id: str
    type: str
    properties: Mapping[str, Value] = field(default_factory=dict)


# (from, to)
_Ends = tuple[str, str]


class Links(StorePart):
    """`store.links`."""

    async def associate_many(self, tenant: str, rows: Sequence[Association]) -> list[bool]:
        """Make or update the one edge of each type and direction; False where an end is missing.

        In the rows' order, one query per type; of equal rows the last wins.

        Raises: InvalidInput for an unknown type or property, and for equal ends.
        """
        # Each edge once per query: of two rows the server applies either.
        edges: dict[str, dict[_Ends, dict[str, Value]]] = defaultdict(dict)
        for row in rows:
            _check(row)
            ends = row.from_id, row.to_id
            edges[row.type].setdefault(ends, {}).update(row.properties)
        made = {kind: await self._merge(tenant, kind, edges[kind]) for kind in edges}
        return [(row.from_id, row.to_id) in made[row.type] for row in rows]

    async def _merge(
        self, tenant: str, kind: str, edges: Mapping[_Ends, Mapping[str, Value]]
    ) -> set[_Ends]:
        names = dict.fromkeys(("strength", *RELATION_PROPERTIES[kind]))
        # A property the request does not name keeps what it has.
        sets = "".join(
            f", x.{name} = coalesce(r[{at}], x.{name})" for at, name in enumerate(names, 2)
        )
        rows = await self._change(
            tenant,
            "associate",
            "UNWIND $rows AS r MATCH (a:Memory {id: r[0]}) MATCH (b:Memory {id: r[1]})"
            f" MERGE (a)-[x:{kind}]->(b) SET x.updated_at = $now{sets}"
            " RETURN r[0] AS source, r[1] AS target",
            rows=[[*ends, *map(values.get, names)] for ends, values in edges.items()],
        )
        return {(row["source"], row["target"]) for row in rows}

    async def related(
        self,
        tenant: str,
        memory_id: str,
        *,
        types: Iterable[str] = AUTHORED,
        depth: int = 1,
        limit: int = 5,
    ) -> list[Summary]:
        """Return memories within `depth` steps (1 to 3) over edges of `types`, either direction.

        Archived, expired and not yet valid memories are not returned, but paths lead through them.
        The order is by importance, then timestamp, both falling, then id. An unknown id has none.
        """
        chosen = unique(types)  # They become query text.
        if not chosen or not set(chosen) <= set(RELATIONS):
            raise InvalidInput(f"Relation type must be one of {sorted(RELATIONS)}")
        path = f"[:{'|'.join(chosen)}*1..{max(1, min(MAX_DEPTH, depth))}]"
        query = (
            f"MATCH (m:Memory {{id: $id}})-{path}-(o:Memory)"
            f" WHERE o.id <> $id AND {is_current_condition('o')}"
            " WITH DISTINCT o ORDER BY o.importance DESC, o.timestamp DESC, o.id LIMIT $most"
            f" RETURN [{summary_cells('o')}] AS summary"
        )
        given = {"id": memory_id, "at": now_ms(), "most": limit}
        rows = await self._read(tenant, "related_memories", query, **given)
        return [Summary(*row["summary"]) for row in rows]


def _check(row: Association) -> None:
    allowed = RELATION_PROPERTIES.get(row.type)
    if allowed is None:
        raise InvalidInput(f"Relation type must be one of {sorted(RELATION_PROPERTIES)}")
    if row.from_id == row.to_id:
        raise InvalidInput("Cannot associate a memory with itself")
    unknown = row.properties.keys() - {"strength", *allowed}
    if unknown:
        raise InvalidInput(f"{row.type} has no property {', '.join(sorted(unknown))}")
