"""Search for words in the graph itself, for memories that the sparse vectors do not hold.

It costs 2 µs a memory, most of it for lower-casing the content, so each search is limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.domain.memory import now_ms
from shared.domain.scope import EVERYTHING, Scope
from shared.graph.engine.part import StorePart
from shared.graph.recall.candidates import match, scope_params

# FalkorDB 4.16.3 finds nothing by `WHERE any(…)` right before RETURN.
_CONTAINING = (
    " LIMIT $scan WITH m, toLower(m.content) AS text"
    " WITH m, size($words) = 0 OR any(word IN $words WHERE text CONTAINS word) AS hit WHERE hit"
    " RETURN m.id, m.content LIMIT $most"
)
SCANNED = 20_000
_HOUR_MS = 3_600_000
_WINDOWS_MS = tuple(hours * _HOUR_MS for hours in (1, 6, 24, 72, 240, 720, 2160, 8760))
_EARLIEST_MS = -(2**62)


class Text(NamedTuple):
    """What BM25 needs of a memory."""

    id: str
    content: str


class Words(StorePart):
    """`store.words`.

    Words are lower case and also match inside words; without words every memory matches.
    """

    async def unembedded(
        self,
        tenant: str,
        words: Sequence[str],
        limit: int = 500,
        *,
        scan: int = SCANNED,
        scope: Scope = EVERYTHING,
    ) -> list[Text]:
        """Return the newest memories without vectors that match, by version.

        Only the `scan` newest in the scope are searched.
        """
        fresh = f"{match(scope, 'm.embed_due > 0')} WITH m ORDER BY m.version DESC, m.id"
        params = {"words": words, "scan": scan, "most": limit, **scope_params(scope)}
        rows = await self._read(tenant, "unembedded", fresh + _CONTAINING, **params)
        return [Text(row["id"], row["content"] or "") for row in rows]

    async def newest(
        self,
        tenant: str,
        words: Sequence[str],
        limit: int = 500,
        *,
        scan: int = SCANNED,
        scope: Scope = EVERYTHING,
    ) -> list[Text]:
        """Return the newest memories that match, by timestamp; for when the vectors are down.

        Only the `scan` newest in the scope are searched.
        """
        scan = scan if words else limit
        params = {"words": words, "scan": scan, "most": limit, **scope_params(scope)}
        params["since"] = await self._since(tenant, scan, scope)
        newest = f"{match(scope, 'm.timestamp >= $since')} WITH m ORDER BY m.timestamp DESC, m.id"
        rows = await self._read(tenant, "newest", newest + _CONTAINING, **params)
        return [Text(row["id"], row["content"] or "") for row in rows]

    async def _since(self, tenant: str, count: int, scope: Scope) -> int:
        """Return a time after which at least `count` lie, so that not all are sorted."""
        now = now_ms()
        sinces = [now - window for window in _WINDOWS_MS]
        # A scope with an index of its own is rather small, so all of it is counted first.
        if scope.tags or scope.project or scope.session_id or scope.layer:
            sinces.insert(0, _EARLIEST_MS)
        cypher = f"{match(scope, 'm.timestamp >= $since')} RETURN count(m) AS memories"
        for since in sinces:
            params = {"since": since, **scope_params(scope)}
            rows = await self._read(tenant, "newest", cypher, **params)
            enough = bool(rows) and rows[0]["memories"] >= count
            if enough != (since == _EARLIEST_MS):
                return since
        return _EARLIEST_MS
