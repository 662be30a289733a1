"""Pieces of Cypher text that several queries share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.domain.memory import NEVER_MS

# Each memory `m` of the parameter `ids` that exists.
EACH_MEMORY = "UNWIND $ids AS id MATCH (m:Memory {id: id})"
# Each row `r` of the parameter `rows` whose memory `m` exists; its id is the row's first column.
EACH_ROW = "UNWIND $rows AS r MATCH (m:Memory {id: r[0]})"
_ROW_COLUMN = re.compile(r"\br\.(\w+)")


def numbered(cypher: str, columns: Sequence[str]) -> str:
    """Return the query with `r.<column>` written as `r[<its place in columns>]`.

    Rows of parameters travel as lists: as maps, each would repeat every column's name.
    """
    return _ROW_COLUMN.sub(lambda match: f"r[{columns.index(match[1])}]", cypher)


def is_waiting(stage: str) -> str:
    """Return the condition that a stage of `m` is due now or later and has not failed."""
    return f"m.{stage}_due > 0 AND m.{stage}_due < {NEVER_MS}"


def set_due(stage: str, due: str, node: str = "m") -> str:
    """Return SET items that make a stage due at the expression `due`, as if never tried."""
    keys = (f"{node}.{stage}_waits", f"{node}.{stage}_failed_version")
    return f"{node}.{stage}_due = {due}, " + ", ".join(f"{key} = null" for key in keys)


def set_if(condition: str, items: str) -> str:
    """Return the clause that sets the items where the condition holds."""
    return f" FOREACH (_ IN CASE WHEN {condition} THEN [1] ELSE [] END | SET {items})"


def next_payload_version(node: str) -> str:
    """Return the expression of a payload version above the node's own, at least `$now`."""
    stored = f"{node}.payload_version"
    return f"CASE WHEN {stored} >= $now THEN {stored} + 1 ELSE $now END"
