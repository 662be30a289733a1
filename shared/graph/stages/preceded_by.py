"""Which memories came just before a memory: the ends of its PRECEDED_BY edges.

An index range returns everything in it, so a week in which thousands were written must not
be read for each memory. The window widens step by step, and only those searches go on that
have found fewer than five.

A memory that arrives late, or moves in time, changes what came before others: `relink`
corrects the edges of those that were enriched without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.graph.engine.part import EACH_ROW, StorePart, unique

MOST = 5
WEEK_MS = 7 * 86_400_000
WINDOWS_MS = (30, 1_500, 90_000, 5_400_000, WEEK_MS)

# An id, its timestamp and its session.
Row = tuple[str, int, str | None]
# (session or None for any, timestamp)
_Search = tuple[str | None, int]

_RANGE = (
    " WHERE o.timestamp >= r[1] AND o.timestamp <= r[2]"
    f" RETURN o.id AS id ORDER BY abs(o.timestamp - r[0]), o.id LIMIT {MOST} }}"
)
_FIND = (
    f"UNWIND $any AS r CALL {{ WITH r MATCH (o:Memory){_RANGE}"
    " RETURN null AS session, r[0] AS at, collect(id) AS ids"
    f" UNION ALL UNWIND $own AS r CALL {{ WITH r MATCH (o:Memory {{session_id: r[3]}}){_RANGE}"
    " RETURN r[3] AS session, r[0] AS at, collect(id) AS ids"
)
# Of the memories after one: those that lack its edge, and those that have it without being
# among the next. One that is not enriched yet finds what came before it when it is enriched.
_LINKS_MOST = 16
_UNSETTLED = (
    f"{EACH_ROW} OPTIONAL MATCH (m)<-[:PRECEDED_BY]-(s:Memory)"
    f" WITH r, collect(s.id)[0..{_LINKS_MOST}] AS held"
    " UNWIND [id IN held WHERE NOT id IN r[1]] + [id IN r[1] WHERE NOT id IN held] AS id"
    " WITH DISTINCT id WHERE NOT id IN $ids"
    " MATCH (s:Memory {id: id}) WHERE s.enriched_version >= s.version"
    " OPTIONAL MATCH (s)-[:PRECEDED_BY]->(o:Memory)"
    " RETURN s.id, s.timestamp, s.session_id, s.version,"
    " collect(CASE WHEN o IS NULL THEN null ELSE [o.id, o.timestamp, o.session_id] END) AS held"
)
_AGREED = f"{EACH_ROW} WHERE m.version = r[1]"
_UNLINK = f"{_AGREED} MATCH (m)-[x:PRECEDED_BY]->(o) WHERE NOT o.id IN r[2] DELETE x"
_LINK = (
    f"{_AGREED} UNWIND r[2] AS previous MATCH (o:Memory {{id: previous}})"
    " MERGE (m)-[x:PRECEDED_BY]->(o) ON CREATE SET x.count = 1, x.updated_at = $now"
)


class PrecededBy(StorePart):
    """Finds and corrects what came just before memories."""

    async def previous(self, tenant: str, rows: Sequence[Row]) -> dict[str, list[str]]:
        """Return per (id, timestamp, session_id) at most five ids, its own session's first.

        Strictly earlier by timestamp and at most seven days; newest first in each group, equal
        ones by id; memories of the row's own millisecond are none. At most five queries.
        """
        found = await self._found(tenant, rows, forward=False)
        return {
            row[0]: unique(key for each in _searches(row) for key in found.get(each, ()))[:MOST]
            for row in rows
        }

    async def relink(self, tenant: str, rows: Sequence[Row]) -> None:
        """Correct the PRECEDED_BY edges of enriched memories that come after one of `rows`.

        Of each row that is the next five of its session and the next five of all, in the seven
        days after it, and each that has an edge to it. Nothing is written where the edges are
        right, and nothing follows from it. At most fourteen queries; two where none comes after.
        """
        after: dict[str, list[str]] = {row[0]: [] for row in rows}
        if await self._others_follow(tenant, rows):
            found = await self._found(tenant, rows, forward=True)
            after = {
                row[0]: [key for search in _searches(row) for key in found.get(search, ())]
                for row in rows
            }
        pairs = list(after.items())
        unsettled = await self._read(tenant, "unsettled", _UNSETTLED, rows=pairs, ids=list(after))
        wanted = await self._wanted(tenant, rows, after, unsettled)
        changed = [
            [each["id"], each["version"], wanted[each["id"]]]
            for each in unsettled
            if {held_id for held_id, _, _ in each["held"]} != set(wanted[each["id"]])
        ]
        await self._change(tenant, "unlink", _UNLINK, rows=changed)
        await self._change(tenant, "link", _LINK, rows=changed)

    async def _wanted(
        self,
        tenant: str,
        rows: Sequence[Row],
        after: Mapping[str, list[str]],
        unsettled: Sequence[Mapping[str, Any]],
    ) -> dict[str, list[str]]:
        """Return per memory of `unsettled` which memories its edges should lead to."""
        came_before: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            for key in after[row[0]]:
                came_before[key].append(row)
        wanted: dict[str, list[str]] = {}
        to_search: list[Row] = []
        for each in unsettled:
            key, held = each["id"], each["held"]
            memory = (key, each["timestamp"], each["session_id"])
            if any(held_id in after and key not in after[held_id] for held_id, _, _ in held):
                # What takes the place of a memory that moved is not known.
                to_search.append(memory)
            else:
                others = {other[0]: other for other in (*map(tuple, held), *came_before[key])}
                wanted[key] = _nearest(memory, others.values())
        return wanted | await self.previous(tenant, to_search)

    async def _others_follow(self, tenant: str, rows: Sequence[Row]) -> bool:
        """Whether any memory beside `rows` comes after one of them; rare while all are new."""
        query = "MATCH (o:Memory) WHERE o.timestamp > $at RETURN o.id LIMIT $most"
        earliest = min(at for _, at, _ in rows)
        found = await self._read(tenant, "follows", query, at=earliest, most=len(rows) + 1)
        return not {row["id"] for row in found} <= {row[0] for row in rows}

    async def _found(
        self, tenant: str, rows: Sequence[Row], *, forward: bool
    ) -> dict[_Search, list[str]]:
        """Return per search the five nearest after its time if `forward`, else before it."""
        found: dict[_Search, list[str]] = {}
        for window in WINDOWS_MS:
            least, most = (1, window) if forward else (-window, -1)
            short = {search for row in rows for search in _unfinished(row, found, forward=forward)}
            if not short:
                break
            cells = [[at, at + least, at + most, session] for session, at in short]
            nearest = await self._read(
                tenant,
                "previous",
                _FIND,
                any=[row for row in cells if row[3] is None],
                own=[row for row in cells if row[3] is not None],
            )
            found |= {(row["session"], row["at"]): row["ids"] for row in nearest}
        return found


def _nearest(row: Row, others: Iterable[Row]) -> list[str]:
    """Apply the rule of `previous` to `others` alone."""
    _, at, session = row
    before = [each for each in others if at - WEEK_MS <= each[1] < at]
    before.sort(key=lambda each: (not session or each[2] != session, -each[1], each[0]))
    return [each[0] for each in before[:MOST]]


def _searches(row: Row) -> list[_Search]:
    _, at, session = row
    return [(session, at), (None, at)] if session else [(None, at)]


def _unfinished(row: Row, found: Mapping[_Search, list[str]], *, forward: bool) -> list[_Search]:
    searches = _searches(row)
    # Backwards, five of the own session are enough.
    if not forward and len(found.get(searches[0], ())) >= MOST:
        return []
    return [search for search in searches if len(found.get(search, ())) < MOST]
