"""Read a tenant's graph page by page: everything that a backup holds of it.

Pages are ranges of FalkorDB's own node ids, each found by a seek, so a backup delays writes
no longer than one page takes. It is no snapshot: a write during the backup may be in it or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from shared.graph.engine.client import Row
from shared.graph.engine.part import StorePart

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
