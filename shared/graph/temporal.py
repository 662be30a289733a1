"""Which memories came just before a memory: the ends of its PRECEDED_BY edges.

An index range returns everything in it, so a week in which thousands were written must not
be read for each memory. The window widens step by step, and only the searches that are
still short of five go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.graph.client import GraphClient

MOST = 5
_DAY_MS = 86_400_000
WINDOWS_MS = (1_000, 60_000, 3_600_000, _DAY_MS // 2, 7 * _DAY_MS)

# (session or None for any, timestamp)
_Search = tuple[str | None, int]

_RANGE = (
    " WHERE o.timestamp < r[0] AND o.timestamp >= r[1]"
    f" RETURN o.id AS id ORDER BY o.timestamp DESC, o.id LIMIT {MOST} }}"
)
_FIND = (
    f"UNWIND $any AS r CALL {{ WITH r MATCH (o:Memory){_RANGE}"
    " RETURN null AS session, r[0] AS at, collect(id) AS ids"
    f" UNION ALL UNWIND $own AS r CALL {{ WITH r MATCH (o:Memory {{session_id: r[2]}}){_RANGE}"
    " RETURN r[2] AS session, r[0] AS at, collect(id) AS ids"
)


async def previous(
    client: GraphClient, tenant: str, rows: Sequence[tuple[str, int, str | None]]
) -> dict[str, list[str]]:
    """Per (id, timestamp, session_id) at most five ids, its own session's first.

    Strictly earlier by timestamp and at most seven days; newest first in each group, equal
    ones by id; memories of the row's own millisecond are none. At most five queries.
    """
    found: dict[_Search, list[str]] = {}
    for window in WINDOWS_MS:
        short = {search for row in rows for search in _unfinished(row, found)}
        if not short:
            break
        answer = await client.read(
            tenant,
            "previous",
            _FIND,
            any=[[at, at - window] for session, at in short if session is None],
            own=[[at, at - window, session] for session, at in short if session is not None],
        )
        found.update({(session, at): ids for session, at, ids in answer})
    return {row[0]: _merged(row, found) for row in rows}


def _searches(row: tuple[str, int, str | None]) -> list[_Search]:
    _, at, session = row
    return [(session, at), (None, at)] if session else [(None, at)]


def _unfinished(row: tuple[str, int, str | None], found: dict[_Search, list[str]]) -> list[_Search]:
    searches = _searches(row)
    if len(found.get(searches[0], ())) >= MOST:
        return []
    return [search for search in searches if len(found.get(search, ())) < MOST]


def _merged(row: tuple[str, int, str | None], found: dict[_Search, list[str]]) -> list[str]:
    ids = (each for search in _searches(row) for each in found.get(search, ()))
    return list(dict.fromkeys(ids))[:MOST]
