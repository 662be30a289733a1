"""Sessions in order: what was said just before a memory, and who was said just after it.

The order within a session is (timestamp, id). A memory is embedded with its predecessors'
words, so a late, changed or deleted one makes the next two due again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.domain.memory import now_ms
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.stages.writes import Due

# How many predecessors an embedding sees, and so how many successors a change touches.
REACH = 2

# The comparison is projected before it is filtered by: FalkorDB 4.16.3 pushes an OR into the
# index as a range with its bounds, and a memory becomes its own predecessor.
_BEFORE = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id}) WHERE m.session_id IS NOT NULL"
    " CALL { WITH m MATCH (p:Memory) WHERE p.session_id = m.session_id"
    " WITH p, m.timestamp - p.timestamp AS ago, p.id < m.id AS lower"
    " WITH p, ago > 0 OR (ago = 0 AND lower) AS earlier WHERE earlier"
    " WITH p ORDER BY p.timestamp DESC, p.id DESC LIMIT $reach"
    " RETURN collect([p.id, p.content]) AS before }"
    " RETURN m.id, before"
)
_AFTER = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id}) WHERE m.session_id IS NOT NULL"
    " CALL { WITH m MATCH (n:Memory) WHERE n.session_id = m.session_id"
    " WITH n, n.timestamp - m.timestamp AS later, n.id > m.id AS higher"
    " WITH n, later > 0 OR (later = 0 AND higher) AS follows WHERE follows"
    " WITH n ORDER BY n.timestamp, n.id LIMIT $reach RETURN collect(n) AS after }"
    " UNWIND after AS n WITH n, $anyway OR n.version < m.version AS touched WHERE touched"
    " WITH DISTINCT n SET n.payload_version ="
    " CASE WHEN n.payload_version >= $now THEN n.payload_version + 1 ELSE $now END,"
    " n.embed_due = $due, n.embed_waits = null, n.embed_failed_version = null"
    " RETURN n.id, n.version, n.payload_version"
)


@dataclass(frozen=True, slots=True)
class Before:
    """A memory said before another in its session."""

    id: str
    content: str


class Dialogue:
    """`store.dialogue`; every method is one tenant's and one query."""

    def __init__(self, client: GraphClient, schema: Schema, *, outbox_ms: int) -> None:
        self._client = client
        self._schema = schema
        self._outbox_ms = outbox_ms

    async def before(self, tenant: str, ids: Iterable[str]) -> dict[str, list[Before]]:
        """At most two predecessors of each memory that has any, nearest first."""
        rows = await self._client.read(
            tenant, "before", _BEFORE, ids=list(dict.fromkeys(ids)), reach=REACH
        )
        return {row[0]: [Before(*each) for each in row[1]] for row in rows if row[1]}

    async def refresh_after(
        self, tenant: str, ids: Iterable[str], *, anyway: bool = False
    ) -> list[Due]:
        """Make the next two in each memory's session due to be embedded again.

        Only those that were stored before this memory's version and so may have been
        embedded without it, unless `anyway` (before it goes or moves). Twice is harmless.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted or not await self._schema.exists(tenant):
            return []
        now = now_ms()
        answer = await self._client.write(
            tenant,
            "refresh_after",
            _AFTER,
            ids=wanted,
            reach=REACH,
            anyway=anyway,
            now=now,
            due=now + self._outbox_ms,
        )
        return [Due(*row) for row in answer.rows]
