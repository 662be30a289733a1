"""What every part of the store does alike: read and change one tenant's graph, and Cypher text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.memory import NEVER_MS, now_ms
from shared.graph.engine.client import GraphClient, Row
from shared.graph.engine.schema import Schema
from shared.graph.records import NULLABLE

# Each memory `m` of the parameter `ids` that exists.
EACH_MEMORY = "UNWIND $ids AS id MATCH (m:Memory {id: id})"
# Each row `r` of the parameter `rows` whose memory `m` exists; its id is the row's first column.
EACH_ROW = "UNWIND $rows AS r MATCH (m:Memory {id: r[0]})"
_ROW_COLUMN = re.compile(r"\br\.(\w+)")


@dataclass(eq=False)
class StorePart:
    """A part of GraphStore, reached as `store.<name>`; every method takes the tenant first.

    A write makes its stages due `outbox_ms` later, when the relay publishes a job that was lost.
    A query whose `rows` or `ids` are empty is not sent, because it would have no effect.
    """

    _client: GraphClient
    _schema: Schema
    outbox_ms: int = field(default=0, kw_only=True)

    async def _read(self, tenant: str, operation: str, cypher: str, **params: object) -> list[Row]:
        """Return the rows of a read-only query; none where the tenant has no graph."""
        if _is_over_nothing(params):
            return []
        return await self._client.query(tenant, operation, cypher, **params)

    async def _write(self, tenant: str, operation: str, cypher: str, **params: object) -> list[Row]:
        """Rows of a query that writes; it may use `$now`, and `$due` as a stage's due time."""
        now = now_ms()
        times = {"now": now, "due": now + self.outbox_ms}
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


def numbered(cypher: str, columns: Sequence[str]) -> str:
    """Return the query with `r.<column>` written as `r[<its place in columns>]`.

    Rows of parameters travel as lists: as maps, each would repeat every column's name.
    """
    return _ROW_COLUMN.sub(lambda match: f"r[{columns.index(match[1])}]", cypher)


def is_waiting(stage: str) -> str:
    """Return the condition that a stage of `m` is due now or later and has not failed."""
    return f"m.{stage}_due > 0 AND m.{stage}_due < {NEVER_MS}"


def set_due(stage: str, due: str, node: str = "m") -> str:
    """Return SET items that make a stage due at the expression `due`, as if never tried.

    They clear the due time at most, as one SET may (see `set_each`): what counts tries becomes 0.
    """
    counts = (f"{node}.{stage}_waits", f"{node}.{stage}_failed_version")
    items = (f"{key} = {reset(key, '0')}" for key in counts)
    return f"{node}.{stage}_due = {due}, " + ", ".join(items)


def reset(key: str, value: str) -> str:
    """Return the expression that gives a property `value` where the node has it, else none."""
    return f"CASE WHEN {key} IS NULL THEN null ELSE {value} END"


def set_each(*items: str) -> str:
    """Return one clause for each SET item whose value may be null.

    One SET must not clear two properties of a node: FalkorDB 4.16.3 then keeps one of them and
    loses another (docs/decisions/0008).
    """
    return "".join(f" FOREACH (_ IN [1] | SET {item})" for item in items)


def set_if(condition: str, items: str) -> str:
    """Return the clause that sets the items where the condition holds."""
    return f" FOREACH (_ IN CASE WHEN {condition} THEN [1] ELSE [] END | SET {items})"


def set_columns(node: str, values: Mapping[str, str]) -> str:
    """Return the clauses that set properties of a memory to expressions, in any number."""
    items = {name: f"{node}.{name} = {value}" for name, value in values.items()}
    sure = ", ".join(item for name, item in items.items() if name not in NULLABLE)
    return f" SET {sure}" + set_each(*(items[name] for name in items if name in NULLABLE))


def next_payload_version(node: str) -> str:
    """Return the expression of a payload version above the node's own, at least `$now`."""
    stored = f"{node}.payload_version"
    return f"CASE WHEN {stored} >= $now THEN {stored} + 1 ELSE $now END"
