"""Passes over a whole graph in small chunks with rests between them, each chunk fenced.

One statement over everything blocks every read of its graph (100 000 memories: 364 ms), so
a sweep goes over ranges of slots (the ids' first bits), whose width follows the server's own
time. Every chunk checks and raises its schedule's fence in the query that writes, so a leader
whose term has ended writes nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from shared.compact_json import compact_json
from shared.config import ConsolidationSettings
from shared.domain.memory import Memory, now_ms
from shared.domain.relations import RELATIONS
from shared.errors import Fenced, Unavailable
from shared.graph.engine.client import Row
from shared.graph.engine.part import EACH_MEMORY, StorePart, is_waiting, unique
from shared.graph.records import SLOTS, memory_of, slot

_FIRST_WIDTH = SLOTS >> 10
_GROWTH = 4.0
_EXPIRED_PAGE = 500
_DAY_MS = 86_400_000.0

_FENCE = "MATCH (_f:Fence {name: $fence}) WHERE _f.token <= $token SET _f.token = $token WITH _f "
_RELEVANCE = (
    "exp(-$base * {age}) * (0.3 + 0.3 * {access}) * (1 + 0.3 * log(1 + degree))"
    " * (0.5 + importance) * (0.7 + 0.3 * confidence)"
)
# Relations between memories are counted from the matrices: to read each edge's type took five
# times as long (75 µs a memory instead of 15). EXEMPLIFIES may lead to a Pattern.
_COUNTED = [
    kind for kind in RELATIONS if kind not in {"PRECEDED_BY", "REFERENCED_IN", "EXEMPLIFIES"}
]
_ACCESS = "CASE WHEN idle < 1 THEN 1 ELSE exp(-0.05 * idle) END"
_DECAY = (
    "MATCH (m:Memory) WHERE m.slot >= $lo AND m.slot < $hi"
    " AND (m.archived IS NULL OR m.archived = false)"
    " OPTIONAL MATCH (m)-[x:EXEMPLIFIES]-(:Memory) WITH m, count(x) AS exemplified"
    f" WITH m, exemplified + outdegree(m, {_COUNTED}) + indegree(m, {_COUNTED}) AS degree,"
    " coalesce(m.importance, 0.5) AS importance, coalesce(m.confidence, 0.5) AS confidence,"
    " coalesce(m.timestamp, $now) AS born"
    " WITH m, degree, importance, confidence, born, coalesce(m.last_accessed, born) AS accessed"
    " WITH m, degree, importance, confidence,"
    f" CASE WHEN born < $now THEN ($now - born) / {_DAY_MS} ELSE 0.0 END AS age,"
    f" CASE WHEN accessed < $now THEN ($now - accessed) / {_DAY_MS} ELSE 0.0 END AS idle,"
    f" CASE WHEN born < accessed THEN (accessed - born) / {_DAY_MS} ELSE 0.0 END AS age_accessed"
    " WITH m, importance,"
    f" {_RELEVANCE.format(age='age', access=_ACCESS)} AS now_score,"
    f" CASE WHEN importance > $keep THEN {_RELEVANCE.format(age='age_accessed', access='1')}"
    " ELSE 0 END AS kept_score"
    " WITH m, importance * $floor AS least,"
    " CASE WHEN now_score > kept_score THEN now_score ELSE kept_score END AS score"
    " WITH m, CASE WHEN score > least THEN score ELSE least END AS score"
    " SET m.relevance_score = CASE WHEN score < 1 THEN score ELSE 1.0 END"
    " RETURN count(m) AS scored"
)
_EXPIRE = (
    f"MATCH (i:Idem) WHERE i.created_at < $before WITH i LIMIT {_EXPIRED_PAGE}"
    " DELETE i RETURN count(i) AS forgotten"
)
_RECORD = (
    "CREATE (r:Run {id: $id, task: $task, state: 'complete', request: '{\"scheduled\":true}',"
    " progress: '{}', result: $result, dry_run: false, created_at: $started,"
    " started_at: $started, completed_at: $now, token: $token}) RETURN count(r) AS recorded"
)
# `memories_page` sorts and cuts the rows: the server would take 13 ms per thousand rows for that
# (0.7 for the range), and 360 ms for a condition on the id, which makes it read the whole graph.
_AUDITED = (
    *("id", "version", "payload_version", "content", "type", "tags", "entity_tags", "timestamp"),
    *("t_valid", "t_invalid", "project", "layer", "session_id", "speaker", "archived"),
    *("embedded_version", "text_hash"),
)
_AUDITED_COLUMNS = ", ".join(f"m.{name}" for name in (*_AUDITED, "embed_due"))
_PAGE = f"MATCH (m:Memory) WHERE m.slot >= $lo AND m.slot < $hi RETURN {_AUDITED_COLUMNS}"


@dataclass(frozen=True, slots=True)
class Fencing:
    """The schedule that leads and the token of its term; goes into every write."""

    schedule: str
    token: int


@dataclass(frozen=True, slots=True)
class Chunk:
    rows: int
    server_ms: float


@dataclass(frozen=True, slots=True)
class Audited:
    """A memory to compare with its point; only those fields are set that the point is made of."""

    memory: Memory
    embed_due: int | None

    @property
    def id(self) -> str:
        return self.memory.id


class Sweep:
    """Ranges [lo, hi) of slots that cover every memory once.

    `async for lo, hi in sweep:` … and `sweep.took(chunk.server_ms)` after each. The width
    follows `chunk_ms`; between ranges it rests, so that the graph is busy at most
    `duty_ratio` of the time.
    """

    def __init__(self, *, chunk_ms: float, duty_ratio: float) -> None:
        self._chunk_ms = chunk_ms
        self._rest_per_ms = (1 - duty_ratio) / duty_ratio / 1000
        self._width = _FIRST_WIDTH
        self._took_ms = 0.0

    def took(self, server_ms: float) -> None:
        self._took_ms = server_ms
        # Half of `chunk_ms`, because ranges of one width differ in the number of their memories.
        factor = min(_GROWTH, 0.5 * self._chunk_ms / max(server_ms, 0.01))
        self._width = max(1, min(SLOTS, int(self._width * factor)))

    async def __aiter__(self) -> AsyncIterator[tuple[int, int]]:
        at = 0
        while at < SLOTS:
            end = min(SLOTS, at + self._width)
            yield at, end
            at = end
            await asyncio.sleep(self._took_ms * self._rest_per_ms)
            self._took_ms = 0.0


class Sweeps(StorePart):
    """Queries of passes over a whole graph, reached as `store.sweeps`."""

    async def raise_fence(self, tenant: str, fence: Fencing) -> None:
        """Refuse all older tokens of the schedule from now on. Raises: Fenced."""
        # A term begins here, and the graph may have been flushed since the last one.
        self._schema.forget(tenant)
        await self._schema.ensure(tenant)
        await self.fenced(tenant, "raise_fence", fence, "RETURN count(1) AS raised")

    async def fenced(
        self, tenant: str, operation: str, fence: Fencing, body: str, **params: object
    ) -> Chunk:
        """Run `body` in the query that checks and raises the fence; return its count.

        `body` ends in one aggregate, `RETURN count(…) AS …`: it runs as a subquery, which
        answers a row even where nothing matched, so that no row at all means fenced.

        Raises: Fenced when a higher token is stored; Unavailable when the graph lost its fence
        (it was flushed): raise the fence again and begin anew.
        """
        name = body.rpartition(" AS ")[2]
        query = f"{_FENCE} CALL {{ {body} }} RETURN {name}"
        params |= {"fence": fence.schedule, "token": fence.token}
        answer = await self._client.write(tenant, operation, query, **params)
        if not answer.rows:
            await self._refused(tenant, fence)
        return Chunk(int(answer.rows[0][name]), answer.server_ms)

    async def _refused(self, tenant: str, fence: Fencing) -> NoReturn:
        query = "MATCH (f:Fence {name: $name}) RETURN f.token"
        stored = await self._read(tenant, "fence", query, name=fence.schedule)
        if stored:
            raise Fenced(f"{fence.schedule}: token {fence.token} is behind {stored[0]['token']}")
        self._schema.forget(tenant)
        raise Unavailable("graph", f"no fence for {fence.schedule}")

    async def decay_chunk(
        self,
        tenant: str,
        fence: Fencing,
        lo: int,
        hi: int,
        *,
        now_ms: int,
        settings: ConsolidationSettings,
    ) -> Chunk:
        """Score what is not archived in [lo, hi); without a threshold every memory decays."""
        threshold = settings.decay_importance_threshold
        given = {
            "base": settings.base_decay_rate,
            "floor": settings.importance_floor_factor,
            "keep": 2.0 if threshold is None else threshold,
        }
        return await self.fenced(
            tenant, "decay_chunk", fence, _DECAY, lo=lo, hi=hi, now=now_ms, **given
        )

    async def expire_keys(self, tenant: str, fence: Fencing, before_ms: int) -> int:
        """Delete idempotency keys made before `before_ms` in pages; return how many."""
        forgotten = 0
        while True:
            page = await self.fenced(tenant, "expire_keys", fence, _EXPIRE, before=before_ms)
            forgotten += page.rows
            if page.rows < _EXPIRED_PAGE:
                return forgotten

    async def record_run(
        self, tenant: str, fence: Fencing, task: str, result: Mapping[str, Any], started_at: int
    ) -> str:
        """Write a scheduled run that has ended into the history; return its id."""
        run_id = str(uuid.uuid4())
        given = {"id": run_id, "task": task, "result": compact_json(result), "started": started_at}
        await self.fenced(tenant, "record_run", fence, _RECORD, **given, now=now_ms())
        return run_id

    async def forget_runs(self, tenant: str, fence: Fencing, run_ids: Sequence[str]) -> int:
        """Delete runs of the history; return how many."""
        query = (
            "MATCH (r:Run) WHERE r.id IN $ids AND r.completed_at > 0"
            " DELETE r RETURN count(r) AS forgotten"
        )
        return (await self.fenced(tenant, "forget_runs", fence, query, ids=list(run_ids))).rows

    async def memories_page(self, tenant: str, after_id: str, limit: int) -> list[Audited]:
        """Return the next memories in the ids' order, at most `limit`; begin after "".

        An empty page is the end. Costs what the page holds, not what the graph holds.
        """
        count = await self.count(tenant)
        width = SLOTS if count <= limit else max(1, SLOTS * limit // count)
        after = (slot(after_id), after_id) if after_id else (-1, "")
        at = max(0, after[0])
        found: list[Audited] = []
        while not found and at < SLOTS:
            hi = min(SLOTS, at + width)
            rows = await self._read(tenant, "page", _PAGE, lo=at, hi=hi)
            found = [each for each in map(_audited, rows) if _order(each) > after]
            at, width = hi, width * 2
        return sorted(found, key=_order)[:limit]

    async def count(self, tenant: str) -> int:
        """Return how many memories the tenant has."""
        rows = await self._read(tenant, "page", "MATCH (m:Memory) RETURN count(m) AS memories")
        return int(rows[0]["memories"]) if rows else 0

    async def audited(self, tenant: str, ids: Iterable[str]) -> dict[str, Audited]:
        """Return what an audit compares of these memories now; deleted ones are missing."""
        query = f"{EACH_MEMORY} RETURN {_AUDITED_COLUMNS}"
        rows = await self._read(tenant, "audited", query, ids=unique(ids))
        return {row["id"]: _audited(row) for row in rows}

    async def present(self, tenant: str, ids: Iterable[str]) -> set[str]:
        """Return those of `ids` that have a memory."""
        query = f"{EACH_MEMORY} RETURN m.id"
        return {row["id"] for row in await self._read(tenant, "present", query, ids=unique(ids))}

    async def unembedded(self, tenant: str, ids: Iterable[str]) -> dict[str, int]:
        """Return the payload versions of those of `ids` whose embedding is still to come."""
        query = f"{EACH_MEMORY} WHERE {is_waiting('embed')} RETURN m.id, m.payload_version"
        rows = await self._read(tenant, "unembedded", query, ids=unique(ids))
        return {row["id"]: row["payload_version"] for row in rows}


def _order(row: Audited) -> tuple[int, str]:
    return slot(row.id), row.id


def _audited(row: Row) -> Audited:
    return Audited(memory_of(row, _AUDITED), row["embed_due"])
