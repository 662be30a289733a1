"""A tenant's graph page by page: everything that a backup holds of it.

Pages are ranges of FalkorDB's own node ids, each a seek; so a backup holds the graph no
longer than one page takes. It is no snapshot: what is written meanwhile may be in it or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.graph.engine.client import GraphClient, Rows
from shared.graph.engine.schema import Schema

# What belongs to this installation and not to its memories.
INTERNAL = ("Schema", "Fence", "Idem", "Generation")
_PAGE = 500
_NODES = "MATCH (n) WHERE id(n) >= $lo AND id(n) < $hi RETURN id(n), labels(n), properties(n)"
_EDGES = (
    "MATCH (a) WHERE id(a) >= $lo AND id(a) < $hi MATCH (a)-[x]->(b)"
    " RETURN id(a), type(x), id(b), properties(x)"
)


@dataclass(frozen=True, slots=True)
class Node:
    """`id` is the graph's own, which edges refer to."""

    id: int
    labels: tuple[str, ...]
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    source: int
    type: str
    target: int
    properties: Mapping[str, Any]


class Export:
    """`store.export`; every method is one tenant's and only reads."""

    def __init__(self, client: GraphClient, schema: Schema) -> None:
        self._client = client
        self._schema = schema

    def name(self, tenant: str) -> str:
        """The tenant's graph, as FalkorDB knows it."""
        return self._client.graph(tenant)

    async def nodes(self, tenant: str, *, page: int = _PAGE) -> AsyncIterator[list[Node]]:
        """Every node that is not INTERNAL, in pages."""
        async for rows in self._pages(tenant, "export_nodes", _NODES, page):
            yield [
                Node(key, tuple(labels), properties)
                for key, labels, properties in rows
                if not any(label in INTERNAL for label in labels)
            ]

    async def links(self, tenant: str, *, page: int = _PAGE) -> AsyncIterator[list[Link]]:
        """Every edge, in pages by where it starts."""
        async for rows in self._pages(tenant, "export_edges", _EDGES, page):
            yield [Link(*row) for row in rows]

    async def _pages(
        self, tenant: str, operation: str, cypher: str, page: int
    ) -> AsyncIterator[Rows]:
        last = await self._client.read(tenant, operation, "MATCH (n) RETURN max(id(n))")
        end = (last[0][0] or 0) + 1 if last and last[0][0] is not None else 0
        for lo in range(0, end, page):
            yield await self._client.read(tenant, operation, cypher, lo=lo, hi=lo + page)
