"""What a backup holds of a tenant's graph: read page by page, and written into a graph again.

Pages are ranges of FalkorDB's own node ids, each found by a seek, so a backup delays writes
no longer than one page takes. It is no snapshot: a write during the backup may be in it or not.

Every method of Restore may be repeated; nodes and edges that exist stay as they are. A memory is
written unless the graph holds it at the same or a newer version; its new version is the time now,
which is above the version of any point still stored, and it is due to be embedded at once.

An edge that workers derived from a memory belongs to one version of it: it is written only
where this restore wrote the memory and nobody has changed it since. Until its edges are back,
`progress` holds the version that was written, so that an interrupted restore can be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.domain.memory import Memory, now_ms
from shared.domain.relations import RELATIONS, WORKERS
from shared.errors import InvalidInput, PermanentError
from shared.graph.engine.client import Row
from shared.graph.engine.part import (
    EACH_MEMORY,
    StorePart,
    numbered,
    set_columns,
    set_due,
    set_each,
)
from shared.graph.engine.schema import GUARD, PROPERTY_KEYS, UNIQUE
from shared.graph.records import CREATED, created_columns
from shared.streams.job import Stage

# Labels of nodes that belong to this installation and not to its memories.
INTERNAL = ("Schema", "Fence", "Idem", "Generation")
_PAGE = 500
_NODES = (
    "MATCH (n) WHERE id(n) >= $lo AND id(n) < $hi"
    " RETURN id(n) AS id, labels(n) AS labels, properties(n) AS properties"
)
_EDGES = (
    "MATCH (a) WHERE id(a) >= $lo AND id(a) < $hi MATCH (a)-[x]->(b)"
    " RETURN id(a) AS source_id, type(x) AS type, id(b) AS target_id, properties(x) AS properties"
)
# Nodes besides memories that a backup brings back.
LABELS = ("Entity", "Pattern", "Session", "Part")
EDGE_PROPERTIES = (
    *("strength", "score", "count", "kind", "confidence", "similarity", "origin", "updated_at"),
    *("reason", "context", "pattern_type", "resolution", "observations", "timestamp"),
    *("transformation", "role"),
)
_COPIED = [name for name in CREATED if name not in ("id", "enrich_due", "embed_due")]
_DUE = {Stage.ENRICH: "r.enrich_due", Stage.EMBED: "r.embed_due", Stage.RELATE: "null"}
_MEMORIES = numbered(
    f"{GUARD} UNWIND $rows AS r OPTIONAL MATCH (m:Memory {{id: r.id}})"
    " WITH r, m WHERE m IS NULL OR m.version < r.seen"
    " WITH r, m IS NULL AS fresh MERGE (n:Memory {id: r.id})"
    + set_columns("n", {name: f"r.{name}" for name in _COPIED} | {"progress": "r.version"})
    + set_each(*(set_due(stage, due, "n") for stage, due in _DUE.items()))
    + " RETURN r.id AS id, fresh",
    (*CREATED, "seen"),
)


class Export(StorePart):
    """`store.export`; every method only reads."""

    def name(self, tenant: str) -> str:
        """Return the key of the tenant's graph in FalkorDB."""
        return self._client.graph(tenant)

    async def nodes(self, tenant: str, *, page: int = _PAGE) -> AsyncIterator[list[Row]]:
        """Yield every node that has no INTERNAL label, in pages; edges refer to its `id`."""
        async for rows in self._pages(tenant, "export_nodes", _NODES, page):
            yield [row for row in rows if not any(x in INTERNAL for x in row["labels"])]

    async def links(self, tenant: str, *, page: int = _PAGE) -> AsyncIterator[list[Row]]:
        """Yield every edge, in pages by the node it starts from."""
        async for rows in self._pages(tenant, "export_edges", _EDGES, page):
            yield rows

    async def _pages(
        self, tenant: str, operation: str, cypher: str, page: int
    ) -> AsyncIterator[list[Row]]:
        last = await self._read(tenant, operation, "MATCH (n) RETURN max(id(n)) AS id")
        end = last[0]["id"] + 1 if last and last[0]["id"] is not None else 0
        for lo in range(0, end, page):
            yield await self._read(tenant, operation, cypher, lo=lo, hi=lo + page)


class Restored(NamedTuple):
    """A memory with its new version; `seen` is the version that the backup had."""

    memory: Memory
    seen: int
    embedding: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class WrittenCounts:
    """How many memories were created, overwritten, and kept as the graph had them."""

    created: int
    updated: int
    kept: int


class Restore(StorePart):
    """The writes of a restore, reached as `store.restore`."""

    async def memories(self, tenant: str, rows: Sequence[Restored]) -> WrittenCounts:
        """Write the memories that the graph lacks or has at an older version; all or none."""
        unique = {row.memory.id: row for row in rows}
        if not unique:
            return WrittenCounts(0, 0, 0)
        now = now_ms()
        cells = []
        for memory, seen, embedding in unique.values():
            enrich_due = None if memory.enriched else now
            columns = created_columns(memory, embedding or (None, None), enrich_due, now)
            cells.append([*columns, seen])
        written = await self._written(tenant, "restore_memories", _MEMORIES, cells)
        created = sum(row["fresh"] for row in written)
        return WrittenCounts(created, len(written) - created, len(unique) - len(written))

    async def nodes(self, tenant: str, label: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Create nodes that the graph lacks; return how many. Raises: InvalidInput for a label."""
        if label not in LABELS:
            raise InvalidInput(f"nodes of {label} are not restored")
        unique = {row["id"]: row for row in rows}
        if not unique:
            return 0
        # Keys that are not in the product's fixed list of properties are left out.
        given = {name for row in unique.values() for name in row} & set(PROPERTY_KEYS)
        names = ["id", *sorted(given - {"id"})]
        created = ", ".join(f"{name}: r[{at}]" for at, name in enumerate(names))
        query = (
            f"{GUARD} UNWIND $rows AS r OPTIONAL MATCH (m:{label} {{id: r[0]}})"
            f" WITH r, m WHERE m IS NULL CREATE (:{label} {{{created}}}) RETURN r[0] AS id"
        )
        cells = [[*map(row.get, names)] for row in unique.values()]
        return len(await self._written(tenant, "restore_nodes", query, cells))

    async def links(
        self,
        tenant: str,
        kind: str,
        ends: tuple[str, str],
        rows: Sequence[tuple[str, str, Mapping[str, Any]]],
    ) -> int:
        """Make edges of `kind` between nodes of the labels `ends`; return how many were stored.

        One that exists keeps its properties; one without both its ends is left out, and one
        that workers derive from a memory which was kept.
        """
        if kind not in RELATIONS or not all(label in UNIQUE for label in ends):
            raise InvalidInput(f"edges {kind} between {' and '.join(ends)} are not restored")
        sets = ", ".join(f"x.{name} = r[{at}]" for at, name in enumerate(EDGE_PROPERTIES, 2))
        query = (
            f"UNWIND $rows AS r MATCH (a:{ends[0]} {{id: r[0]}}) MATCH (b:{ends[1]} {{id: r[1]}})"
            f"{_written_owner(kind, ends)}"
            f" MERGE (a)-[x:{kind}]->(b) ON CREATE SET {sets} RETURN count(x) AS stored"
        )
        cells = [
            [source, target, *map(properties.get, EDGE_PROPERTIES)]
            for source, target, properties in rows
        ]
        stored = await self._write(tenant, "restore_edges", query, rows=cells)
        return int(stored[0]["stored"]) if stored else 0

    async def done(self, tenant: str, ids: Sequence[str]) -> None:
        """Record that the edges of these memories are restored."""
        query = f"{EACH_MEMORY} WHERE m.progress IS NOT NULL SET m.progress = null"
        await self._write(tenant, "restore_done", query, ids=list(ids))

    async def _written(
        self, tenant: str, operation: str, cypher: str, rows: list[list[Any]]
    ) -> list[Row]:
        """Write as `Memories.create` does: a graph flushed meanwhile is created again, once."""
        for _ in range(2):
            await self._schema.ensure(tenant)
            written = await self._write(tenant, operation, cypher, rows=rows)
            query = "MATCH (s:Schema {name: 'schema'}) RETURN s.version"
            if written or await self._read(tenant, "exists", query):
                return written
            self._schema.forget(tenant)
        raise PermanentError("graph: a restore was not confirmed")


def _written_owner(kind: str, ends: tuple[str, str]) -> str:
    """Condition that the memory which an edge is derived from was written by a restore."""
    if kind not in WORKERS and "Pattern" not in ends:
        return ""
    owner, label = ("b", ends[1]) if kind == "REFERENCED_IN" else ("a", ends[0])
    return f" WHERE {owner}.progress = {owner}.version" if label == "Memory" else ""
