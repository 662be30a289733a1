"""Looking for words in the graph itself, where the sparse vectors cannot answer.

Costs 2 µs a memory, most of it for lower-casing its content, so only so many are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.graph.client import GraphClient, Rows
from shared.memory import now_ms

# Projected first: `WHERE any(…)` right before RETURN finds nothing (4.16.3).
_CONTAINING = (
    " WITH m, toLower(m.content) AS text"
    " WITH m, size($words) = 0 OR any(word IN $words WHERE text CONTAINS word) AS hit WHERE hit"
    " RETURN m.id, m.content, m.tags LIMIT $most"
)
_UNEMBEDDED = (
    "MATCH (m:Memory) WHERE m.embed_due > 0 WITH m ORDER BY m.version DESC LIMIT $scan"
    + _CONTAINING
)
_NEWEST = (
    "MATCH (m:Memory) WHERE m.timestamp >= $since WITH m ORDER BY m.timestamp DESC LIMIT $scan"
    + _CONTAINING
)
SCANNED = 20_000
_HOUR_MS = 3_600_000
_WINDOWS_MS = tuple(hours * _HOUR_MS for hours in (1, 6, 24, 72, 240, 720, 2160, 8760))
_EARLIEST_MS = -(2**62)


async def unembedded(
    client: GraphClient, tenant: str, words: Sequence[str], *, scan: int, most: int
) -> Rows:
    """(id, content, tags) of memories without their vector, by version falling."""
    return await client.read(
        tenant, "unembedded", _UNEMBEDDED, words=list(words), scan=scan, most=most
    )


async def newest(
    client: GraphClient, tenant: str, words: Sequence[str], *, scan: int, most: int
) -> Rows:
    """(id, content, tags) of the newest memories, by timestamp falling."""
    looked_at = scan if words else most
    return await client.read(
        tenant,
        "newest",
        _NEWEST,
        since=await _since(client, tenant, looked_at),
        scan=looked_at,
        words=list(words),
        most=most,
    )


async def _since(client: GraphClient, tenant: str, count: int) -> int:
    """A time after which at least `count` memories lie, so that not all are sorted."""
    now = now_ms()
    for window in _WINDOWS_MS:
        rows = await client.read(
            tenant,
            "newest",
            "MATCH (m:Memory) WHERE m.timestamp >= $since RETURN count(m)",
            since=now - window,
        )
        if rows and rows[0][0] >= count:
            return now - window
    return _EARLIEST_MS
