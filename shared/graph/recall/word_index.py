"""Looking for words in the graph itself, where the sparse vectors cannot answer.

Costs 2 µs a memory, most of it for lower-casing its content, so only so many are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.domain.memory import now_ms
from shared.domain.scope import EVERYTHING, Scope
from shared.graph.engine.client import GraphClient
from shared.graph.recall.candidates import matched, scope_params

# Projected first: `WHERE any(…)` right before RETURN finds nothing (4.16.3).
_CONTAINING = (
    " WITH m, toLower(m.content) AS text"
    " WITH m, size($words) = 0 OR any(word IN $words WHERE text CONTAINS word) AS hit WHERE hit"
    " RETURN m.id, m.content, m.tags LIMIT $most"
)
SCANNED = 20_000
_HOUR_MS = 3_600_000
_WINDOWS_MS = tuple(hours * _HOUR_MS for hours in (1, 6, 24, 72, 240, 720, 2160, 8760))
_EARLIEST_MS = -(2**62)


class Text(NamedTuple):
    """What words are ranked by; hydrate its id for the rest."""

    id: str
    content: str
    tags: tuple[str, ...]


class Words:
    """`store.words`; every method is one tenant's.

    Words are lower case and match inside words; without words everything matches.
    """

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def unembedded(
        self,
        tenant: str,
        words: Sequence[str],
        limit: int = 500,
        *,
        scan: int = SCANNED,
        scope: Scope = EVERYTHING,
    ) -> list[Text]:
        """Of the `scan` newest wanted memories without their vector, the newest that match.

        Newest by version.
        """
        waiting = matched(scope, "m.embed_due > 0")
        return await self._found(
            *(tenant, "unembedded", f"{waiting}{_newest('version')}{_CONTAINING}", scope),
            words=list(words),
            scan=scan,
            most=limit,
        )

    async def newest(
        self,
        tenant: str,
        words: Sequence[str],
        limit: int = 500,
        *,
        scan: int = SCANNED,
        scope: Scope = EVERYTHING,
    ) -> list[Text]:
        """Of the `scan` newest wanted memories by timestamp, the newest that match.

        For when the vectors are down.
        """
        looked_at = scan if words else limit
        late = matched(scope, "m.timestamp >= $since")
        since = await self._since(tenant, late, looked_at, scope)
        return await self._found(
            *(tenant, "newest", f"{late}{_newest('timestamp')}{_CONTAINING}", scope),
            since=since,
            scan=looked_at,
            words=list(words),
            most=limit,
        )

    async def _found(
        self, tenant: str, operation: str, cypher: str, scope: Scope, **params: object
    ) -> list[Text]:
        rows = await self._client.read(tenant, operation, cypher, **scope_params(scope), **params)
        return [Text(row[0], row[1] or "", tuple(row[2] or ())) for row in rows]

    async def _since(self, tenant: str, late: str, count: int, scope: Scope) -> int:
        """A time after which at least `count` wanted ones lie, so that not all are sorted."""
        now = now_ms()
        sinces = [now - window for window in _WINDOWS_MS]
        # A narrow scope rather has fewer than that in all, and not of late.
        for since in (_EARLIEST_MS, *sinces) if _is_narrow(scope) else sinces:
            rows = await self._client.read(
                tenant,
                "newest",
                f"{late} RETURN count(m)",
                since=since,
                **scope_params(scope),
            )
            enough = bool(rows) and rows[0][0] >= count
            if enough != (since == _EARLIEST_MS):
                return since
        return _EARLIEST_MS


def _is_narrow(scope: Scope) -> bool:
    """Whether an index other than the time's says which memories these are."""
    return bool(scope.tags or scope.project or scope.session_id or scope.layer)


def _newest(by: str) -> str:
    return f" WITH m ORDER BY m.{by} DESC, m.id LIMIT $scan"
