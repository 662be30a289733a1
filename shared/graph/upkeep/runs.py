"""Runs: tasks that take longer than a request, with their progress, result and history.

A Run is its own outbox: while it is not over it has a due time, and the relay publishes its
job again once that has passed. Whoever works on it holds its `token`; taking it over raises
the token, and from then on every write of the one before does nothing and says so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.domain.memory import now_ms
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import GUARD, Schema
from shared.graph.records import check_key, json_text


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({RunState.COMPLETE, RunState.FAILED, RunState.CANCELLED})
_LIVE = [RunState.QUEUED, RunState.RUNNING]
_KEYS = (
    *("id", "task", "state", "request", "progress", "result", "error", "dry_run"),
    *("created_at", "started_at", "completed_at", "token"),
)
_COLUMNS = ", ".join(f"r.{key}" for key in _KEYS)


@dataclass(frozen=True, slots=True)
class Run:
    """One task of one tenant. Times are ms; `progress` and `result` are the task's own."""

    id: str
    task: str
    state: RunState
    request: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: str | None = None
    dry_run: bool = False
    created_at: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    token: int = 0

    @property
    def over(self) -> bool:
        return self.state in OVER


class Runs:
    """`store.runs`; every method is one tenant's and one query."""

    def __init__(self, client: GraphClient, schema: Schema, *, outbox_ms: int) -> None:
        self._client = client
        self._schema = schema
        # A run that says nothing for this long is published again; `advance` pushes it on.
        self._silence_ms = outbox_ms

    async def create(
        self,
        tenant: str,
        task: str,
        request: Mapping[str, Any],
        *,
        dry_run: bool = False,
        run_id: str | None = None,
    ) -> Run:
        """Queue a run; a second call with the same `run_id` answers the one that stands."""
        await self._schema.ensure(tenant)
        key = check_key(run_id or str(uuid.uuid4()), "a run's id")
        answer = await self._client.write(
            tenant,
            "create_run",
            f"{GUARD} MERGE (r:Run {{id: $id}}) ON CREATE SET r.task = $task, r.state = $state,"
            " r.request = $request, r.progress = '{}', r.dry_run = $dry, r.created_at = $now,"
            f" r.token = 0, r.due = $due RETURN {_COLUMNS}",
            id=key,
            task=task,
            state=RunState.QUEUED,
            request=json_text(request),
            dry=dry_run,
            now=now_ms(),
            due=now_ms() + self._silence_ms,
        )
        return _run(answer.rows[0])

    async def get(self, tenant: str, run_id: str) -> Run | None:
        rows = await self._client.read(
            tenant, "run", f"MATCH (r:Run {{id: $id}}) RETURN {_COLUMNS}", id=run_id
        )
        return _run(rows[0]) if rows else None

    async def latest(self, tenant: str, *, tasks: Sequence[str] = (), limit: int = 20) -> list[Run]:
        """The newest runs first, of `tasks` where any are named."""
        rows = await self._client.read(
            tenant,
            "runs",
            "MATCH (r:Run) WHERE size($tasks) = 0 OR r.task IN $tasks"
            f" WITH r ORDER BY r.created_at DESC, r.id LIMIT $most RETURN {_COLUMNS}",
            tasks=list(tasks),
            most=limit,
        )
        return [_run(row) for row in rows]

    async def begin(self, tenant: str, run_id: str) -> Run | None:
        """Take the run over from whoever had it; None if it is over or gone."""
        now = now_ms()
        rows = await self._write(
            tenant,
            "begin_run",
            "MATCH (r:Run {id: $id}) WHERE r.state IN $live"
            " SET r.token = CASE WHEN r.token >= $now THEN r.token + 1 ELSE $now END,"
            " r.state = $running, r.started_at = coalesce(r.started_at, $now), r.due = $due"
            f" RETURN {_COLUMNS}",
            id=run_id,
            live=_LIVE,
            running=RunState.RUNNING,
            now=now,
            due=now + self._silence_ms,
        )
        return _run(rows[0]) if rows else None

    async def advance(self, tenant: str, run: Run, progress: Mapping[str, Any]) -> bool:
        """Note how far it is; False: cancelled or taken over, stop without another write."""
        rows = await self._write(
            tenant,
            "advance_run",
            "MATCH (r:Run {id: $id}) WHERE r.token = $token AND r.state = $running"
            " SET r.progress = $progress, r.due = $due, r.waits = null RETURN r.id",
            id=run.id,
            token=run.token,
            running=RunState.RUNNING,
            progress=json_text(progress),
            due=now_ms() + self._silence_ms,
        )
        return bool(rows)

    async def finish(
        self,
        tenant: str,
        run: Run,
        state: RunState,
        *,
        progress: Mapping[str, Any],
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End it as complete or failed; False if it was cancelled or taken over before."""
        rows = await self._write(
            tenant,
            "finish_run",
            "MATCH (r:Run {id: $id}) WHERE r.token = $token AND r.state = $running"
            " SET r.state = $state, r.progress = $progress, r.result = $result,"
            " r.error = $error, r.completed_at = $now, r.due = null RETURN r.id",
            id=run.id,
            token=run.token,
            running=RunState.RUNNING,
            state=state,
            progress=json_text(progress),
            result=json_text(result) if result is not None else None,
            error=error,
            now=now_ms(),
        )
        return bool(rows)

    async def fail(self, tenant: str, run_ids: Sequence[str], error: str) -> None:
        """End runs that are not over, whoever has them: nobody will work on them again."""
        await self._write(
            tenant,
            "fail_run",
            "MATCH (r:Run) WHERE r.id IN $ids AND r.state IN $live"
            " SET r.state = $failed, r.error = $error, r.completed_at = $now, r.due = null",
            ids=list(run_ids),
            live=_LIVE,
            failed=RunState.FAILED,
            error=error,
            now=now_ms(),
        )

    async def cancel(self, tenant: str, run_id: str) -> Run | None:
        """End a run that is not over; what it has done stays. None if there is no such run."""
        await self._write(
            tenant,
            "cancel_run",
            "MATCH (r:Run {id: $id}) WHERE r.state IN $live"
            " SET r.state = $cancelled, r.completed_at = $now, r.due = null RETURN r.id",
            id=run_id,
            live=_LIVE,
            cancelled=RunState.CANCELLED,
            now=now_ms(),
        )
        return await self.get(tenant, run_id)

    async def claim_due(self, tenant: str, now: int, *, limit: int = 20) -> list[tuple[str, str]]:
        """(id, task) of runs whose job may be lost; each is pushed back in the same query."""
        rows = await self._write(
            tenant,
            "claim_runs",
            "MATCH (r:Run) WHERE r.due > 0 AND r.due < $now WITH r LIMIT $most"
            " SET r.due = $due RETURN r.id, r.task",
            now=now,
            most=limit,
            due=now + self._silence_ms,
        )
        return [(row[0], row[1]) for row in rows]

    async def surplus(self, tenant: str, *, keep: int) -> list[str]:
        """Runs that are over, of each task all but the newest `keep`: to be forgotten."""
        rows = await self._client.read(
            tenant,
            "surplus_runs",
            "MATCH (r:Run) WHERE r.completed_at > 0 WITH r ORDER BY r.completed_at DESC, r.id"
            " WITH r.task AS task, collect(r.id) AS ids UNWIND ids[$keep..] AS id RETURN id",
            keep=keep,
        )
        return [row[0] for row in rows]

    async def _write(
        self, tenant: str, operation: str, cypher: str, **params: object
    ) -> Sequence[Sequence[Any]]:
        """Nothing where the tenant has no graph: a run cannot be there either."""
        if not await self._schema.exists(tenant):
            return []
        return (await self._client.write(tenant, operation, cypher, **params)).rows


def _run(row: Sequence[Any]) -> Run:
    cells = dict(zip(_KEYS, row, strict=True))
    for key in ("request", "progress"):
        cells[key] = json.loads(cells[key] or "{}")
    cells["result"] = json.loads(cells["result"]) if cells["result"] else None
    cells["state"] = RunState(cells["state"])
    cells["dry_run"] = bool(cells["dry_run"])
    cells["token"] = cells["token"] or 0
    cells["created_at"] = cells["created_at"] or 0
    return Run(**cells)
