"""Runs: tasks that take longer than a request, with their progress, result and history.

A Run is its own outbox: while it is not over it has a due time, and the relay publishes its
job again once that has passed. The process that works on it holds its `token`; another one
that takes it over raises the token, and then every write of the first changes nothing and
answers False.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.compact_json import compact_json
from shared.graph.engine.client import Row
from shared.graph.engine.part import StorePart
from shared.graph.engine.schema import GUARD
from shared.graph.records import check_key


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({RunState.COMPLETE, RunState.FAILED, RunState.CANCELLED})
_LIVE = "MATCH (r:Run {id: $id}) WHERE r.state IN ['queued', 'running']"
# A run that this process still holds.
_HELD = "MATCH (r:Run {id: $id}) WHERE r.token = $token AND r.state = 'running'"
_ENDED = "r.completed_at = $now, r.due = null"
_COLUMNS = (
    "r.id, r.task, r.state, r.request, r.progress, r.result, r.error, r.dry_run, r.started_at,"
    " r.completed_at, coalesce(r.created_at, 0) AS created_at, coalesce(r.token, 0) AS token"
)
_CREATE = (
    f"{GUARD} MERGE (r:Run {{id: $id}}) ON CREATE SET r.task = $task, r.state = 'queued',"
    " r.request = $request, r.progress = '{}', r.dry_run = $dry, r.created_at = $now,"
    f" r.token = 0, r.due = $due RETURN {_COLUMNS}"
)


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


class Runs(StorePart):
    """`store.runs`, one query a method; a run not written for `outbox_ms` is published again."""

    async def create(
        self,
        tenant: str,
        task: str,
        request: Mapping[str, Any],
        *,
        dry_run: bool = False,
        run_id: str | None = None,
    ) -> Run:
        """Queue a run; a second call with the same `run_id` returns the one that exists."""
        await self._schema.ensure(tenant)
        key = check_key(run_id or str(uuid.uuid4()), "a run's id")
        given = {"id": key, "task": task, "request": compact_json(request), "dry": dry_run}
        rows = await self._write(tenant, "create_run", _CREATE, **given)
        return _run(rows[0])

    async def get(self, tenant: str, run_id: str) -> Run | None:
        query = f"MATCH (r:Run {{id: $id}}) RETURN {_COLUMNS}"
        rows = await self._read(tenant, "run", query, id=run_id)
        return _run(rows[0]) if rows else None

    async def latest(self, tenant: str, *, tasks: Sequence[str] = (), limit: int = 20) -> list[Run]:
        """Return the newest runs first, of `tasks` where any are named."""
        query = (
            "MATCH (r:Run) WHERE size($tasks) = 0 OR r.task IN $tasks"
            f" WITH r ORDER BY r.created_at DESC, r.id LIMIT $most RETURN {_COLUMNS}"
        )
        rows = await self._read(tenant, "runs", query, tasks=list(tasks), most=limit)
        return [_run(row) for row in rows]

    async def begin(self, tenant: str, run_id: str) -> Run | None:
        """Take the run over from any other process; None if it is over or gone."""
        query = (
            f"{_LIVE} SET r.token = CASE WHEN r.token >= $now THEN r.token + 1 ELSE $now END,"
            " r.state = 'running', r.started_at = coalesce(r.started_at, $now), r.due = $due"
            f" RETURN {_COLUMNS}"
        )
        rows = await self._change(tenant, "begin_run", query, id=run_id)
        return _run(rows[0]) if rows else None

    async def advance(self, tenant: str, run: Run, progress: Mapping[str, Any]) -> bool:
        """Store the progress; False if the run was cancelled or taken over: write no more."""
        query = f"{_HELD} SET r.progress = $progress, r.due = $due RETURN r.id"
        given = {"id": run.id, "token": run.token, "progress": compact_json(progress)}
        return bool(await self._change(tenant, "advance_run", query, **given))

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
        query = (
            f"{_HELD} SET r.state = $state, r.progress = $progress, r.result = $result,"
            f" r.error = $error, {_ENDED} RETURN r.id"
        )
        given = {
            "id": run.id,
            "token": run.token,
            "state": state,
            "progress": compact_json(progress),
            "result": None if result is None else compact_json(result),
            "error": error,
        }
        return bool(await self._change(tenant, "finish_run", query, **given))

    async def fail(self, tenant: str, run_ids: Sequence[str], error: str) -> None:
        """End runs that are not over, also those that a process works on."""
        live = f"UNWIND $ids AS id {_LIVE.replace('$id', 'id')}"
        query = f"{live} SET r.state = 'failed', r.error = $error, {_ENDED}"
        await self._change(tenant, "fail_run", query, ids=list(run_ids), error=error)

    async def cancel(self, tenant: str, run_id: str) -> Run | None:
        """End a run that is not over; what it has done stays. None if there is no such run."""
        query = f"{_LIVE} SET r.state = 'cancelled', {_ENDED}"
        await self._change(tenant, "cancel_run", query, id=run_id)
        return await self.get(tenant, run_id)

    async def claim_due(self, tenant: str, now: int, *, limit: int = 20) -> list[tuple[str, str]]:
        """Return (id, task) of runs whose job may be lost, and set their next due time."""
        query = (
            "MATCH (r:Run) WHERE r.due > 0 AND r.due < $now WITH r LIMIT $most"
            f" SET r.due = $now + {self.outbox_ms} RETURN r.id, r.task"
        )
        rows = await self._change(tenant, "claim_runs", query, now=now, most=limit)
        return [(row["id"], row["task"]) for row in rows]

    async def surplus(self, tenant: str, *, keep: int) -> list[str]:
        """Return the runs to be deleted: of each task all that are over but the newest `keep`."""
        query = (
            "MATCH (r:Run) WHERE r.completed_at > 0 WITH r ORDER BY r.completed_at DESC, r.id"
            " WITH r.task AS task, collect(r.id) AS ids UNWIND ids[$keep..] AS id RETURN id"
        )
        return [row["id"] for row in await self._read(tenant, "surplus_runs", query, keep=keep)]


def _run(row: Row) -> Run:
    for key in ("request", "progress"):
        row[key] = json.loads(row[key] or "{}")
    row["result"] = json.loads(row["result"]) if row["result"] else None
    row["state"] = RunState(row["state"])
    row["dry_run"] = bool(row["dry_run"])
    return Run(**row)
