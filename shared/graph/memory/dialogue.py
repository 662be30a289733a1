"""The order within a session: which memories come just before and just after one.

The order is (timestamp, id). A memory is embedded together with the words of its
predecessors, so one that is late, changed or deleted makes the next two due again.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.graph.engine.part import EACH_MEMORY, StorePart, next_payload_version, set_due, unique
from shared.graph.records import Due, Text

# How many predecessors an embedding sees, and so how many successors a change affects.
REACH = 2

_IN_SESSION = f"{EACH_MEMORY} WHERE m.session_id IS NOT NULL CALL {{ WITH m MATCH (o:Memory)"
# The comparison is projected before it is filtered by: FalkorDB 4.16.3 pushes an OR into the
# index as a range with its bounds, and a memory becomes its own predecessor.
_BEFORE = (
    f"{_IN_SESSION} WHERE o.session_id = m.session_id"
    " WITH o, m.timestamp - o.timestamp AS ago, o.id < m.id AS lower"
    " WITH o, ago > 0 OR (ago = 0 AND lower) AS earlier WHERE earlier"
    f" WITH o ORDER BY o.timestamp DESC, o.id DESC LIMIT {REACH}"
    " RETURN collect([o.id, o.content]) AS before }"
    " RETURN m.id, before"
)
_AFTER = (
    f"{_IN_SESSION} WHERE o.session_id = m.session_id"
    " WITH o, o.timestamp - m.timestamp AS later, o.id > m.id AS higher"
    " WITH o, later > 0 OR (later = 0 AND higher) AS follows WHERE follows"
    f" WITH o ORDER BY o.timestamp, o.id LIMIT {REACH} RETURN collect(o) AS after }}"
    " UNWIND after AS n WITH n, $anyway OR n.version < m.version AS affected WHERE affected"
    f" WITH DISTINCT n SET n.payload_version = {next_payload_version('n')},"
    f" {set_due('embed', '$due', 'n')} RETURN n.id, n.version, n.payload_version"
)


class Dialogue(StorePart):
    """`store.dialogue`; every method is one query."""

    async def before(self, tenant: str, ids: Iterable[str]) -> dict[str, list[Text]]:
        """Return at most two predecessors of each memory that has any, nearest first."""
        rows = await self._read(tenant, "before", _BEFORE, ids=unique(ids))
        return {r["id"]: [Text(*pair) for pair in r["before"]] for r in rows if r["before"]}

    async def refresh_after(
        self, tenant: str, ids: Iterable[str], *, anyway: bool = False
    ) -> list[Due]:
        """Make the next two memories in each one's session due to be embedded again.

        Only those that were stored before this memory's version, and so may have been
        embedded without it; all of them with `anyway` (before a memory is deleted or moves).
        A second call changes nothing more.
        """
        wanted = unique(ids)
        rows = await self._change(tenant, "refresh_after", _AFTER, ids=wanted, anyway=anyway)
        return [Due(**row) for row in rows]
