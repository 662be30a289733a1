"""What every part of the store does alike: read and change one tenant's graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.domain.memory import now_ms
from shared.graph.engine.client import GraphClient, Row
from shared.graph.engine.schema import Schema


class StorePart:
    """A part of GraphStore, reached as `store.<name>`; every method takes the tenant first.

    A write makes its stages due `outbox_ms` later; if their job was lost, the relay then publishes
    it.
    A query whose `rows` or `ids` are empty is not sent, because it would have no effect.
    """

    def __init__(self, client: GraphClient, schema: Schema, *, outbox_ms: int = 0) -> None:
        self._client = client
        self._schema = schema
        self._outbox_ms = outbox_ms

    async def _read(self, tenant: str, operation: str, cypher: str, **params: object) -> list[Row]:
        """Return the rows of a read-only query; none where the tenant has no graph."""
        if _is_over_nothing(params):
            return []
        return await self._client.query(tenant, operation, cypher, **params)

    async def _write(self, tenant: str, operation: str, cypher: str, **params: object) -> list[Row]:
        """Rows of a query that writes; it may use `$now`, and `$due` as a stage's due time."""
        now = now_ms()
        times = {"now": now, "due": now + self._outbox_ms}
        return (await self._client.write(tenant, operation, cypher, **(times | params))).rows

    async def _change(
        self, tenant: str, operation: str, cypher: str, **params: object
    ) -> list[Row]:
        """Do as `_write` to what exists; no rows where the tenant has no graph."""
        if _is_over_nothing(params) or not await self._schema.exists(tenant):
            return []
        return await self._write(tenant, operation, cypher, **params)


def _is_over_nothing(params: Mapping[str, object]) -> bool:
    return not (params.get("rows", True) and params.get("ids", True))


def unique(ids: Iterable[str]) -> list[str]:
    """`ids` in their order, each once."""
    return list(dict.fromkeys(ids))
