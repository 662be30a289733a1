"""/admin/runs: what takes longer than a request: asked for, waited for, looked at, cancelled.

A run is a node in its tenant's graph and a job for the syncer. A request waits for its end
only so long; the run itself needs nobody who waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import error_answer, json_answer
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.query import integer, text
from services.api.http.route import Param, Route
from shared.domain.memory import check_text, iso
from shared.errors import Conflict, NotFound, TransientError, Unavailable
from shared.graph.upkeep.runs import Run, Runs, RunState
from shared.process.health import Probes
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox

MAX_LISTED = 100
TASKS = ("drift", "reembed")
_POLL_S = (0.05, 1.0)
_RETRY_AFTER_S = 5.0


class RunRequests:
    """Use cases on one tenant's runs."""

    def __init__(
        self,
        runs: Runs,
        outbox: Outbox,
        probes: Probes,
        *,
        abandon: Callable[[str], Awaitable[object]],
        longest_wait_s: float,
    ) -> None:
        """`abandon` gives up filling the generation of that name."""
        self._abandon = abandon
        self._runs = runs
        self._outbox = outbox
        self._probes = probes
        self._longest_wait_s = longest_wait_s
        self._closing = asyncio.Event()

    async def close(self, _app: web.Application | None = None) -> None:
        """Answer all that wait, now: the process is about to end, their runs are not."""
        self._closing.set()

    def demand_stores(self) -> None:
        """Raises: TransientError or Unavailable while a store is down, with nothing begun."""
        if not self._probes.up("vectors"):
            raise TransientError(
                "Qdrant is not available - cannot store embeddings", retry_after_s=_RETRY_AFTER_S
            )
        for name in ("graph", "redis"):
            if not self._probes.up(name):
                raise Unavailable(name, "down", retry_after_s=_RETRY_AFTER_S)

    async def start(
        self, tenant: str, task: str, asked: Mapping[str, Any], *, dry_run: bool = False
    ) -> Run:
        """Queue a run and announce it; the relay covers a lost announcement."""
        self.demand_stores()
        run = await self._runs.create(tenant, task, asked, dry_run=dry_run)
        await self._outbox.announce({Stage.SYNC: [Job(tenant, run.id, 0)]}, exempt=True)
        return run

    async def ended(self, tenant: str, run: Run, gone: Callable[[], bool]) -> Run:
        """The run at its end, or as it is when the client is `gone` or waited long enough."""
        pause_s, longest_s = _POLL_S
        until = time.monotonic() + self._longest_wait_s
        while not run.over and not gone() and not self._closing.is_set():
            if (left_s := until - time.monotonic()) <= 0:
                break
            await _pause(self._closing, min(pause_s, left_s))
            pause_s = min(longest_s, pause_s * 1.5)
            run = await self.find(tenant, run.id)
        return run

    async def find(self, tenant: str, run_id: str) -> Run:
        """Raises: NotFound."""
        run = await self._runs.get(tenant, check_text(run_id, "run_id"))
        if run is None:
            raise NotFound("Run not found")
        return run

    async def latest(self, tenant: str, task: str | None, limit: int) -> list[Run]:
        return await self._runs.latest(tenant, tasks=(task,) if task else (), limit=limit)

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """Raises: NotFound; Conflict if it had ended."""
        if not (before := await self.find(tenant, run_id)).over:
            after = await self._runs.cancel(tenant, run_id)
            if after is not None and after.state is RunState.CANCELLED:
                # Also where no syncer runs that would notice.
                if filled := after.progress.get("generation"):
                    await self._abandon(filled)
                return after
        raise Conflict(f"The run is over already: {before.state.value}")


async def _pause(closing: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return


# -- HTTP -------------------------------------------------------------------------------

RUNS: web.AppKey[RunRequests] = web.AppKey("runs", RunRequests)


async def run_answer(
    request: web.Request, run: Run, render: Callable[[Run], Mapping[str, Any]], *, wait: bool
) -> web.Response:
    """What a completed run came to, or 202 where nobody waits or it takes too long."""
    if wait:
        run = await request.app[RUNS].ended(request[TENANT], run, lambda: _hung_up(request))
    if run.state is RunState.COMPLETE:
        return json_answer({**render(run), "run_id": run.id})
    if run.state is RunState.CANCELLED:
        raise Conflict(f"Run {run.id} was cancelled")
    if run.state is RunState.FAILED:
        message = f"Run {run.id} failed: {run.error}"
        return error_answer(500, message, request_id=request[REQUEST_ID])
    location = f"/admin/runs/{run.id}"
    body = {"status": "accepted", "run_id": run.id, "location": location}
    return json_answer(body, status=202, Location=location)


def _hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def run_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "task": run.task,
        "state": run.state.value,
        "dry_run": run.dry_run,
        "request": dict(run.request),
        "progress": {**_counts(run.progress), "ratio": ratio(run)},
        "result": None if run.result is None else dict(run.result),
        "error": run.error,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "completed_at": iso(run.completed_at),
    }


def _counts(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Without the ids by which whoever takes the run over goes on."""
    return {
        name: value
        for name, value in progress.items()
        if name == "failed_ids" or not isinstance(value, list | dict)
    }


def ratio(run: Run) -> float | None:
    """How much of it is done, 0 to 1; None while nobody knows how much there is."""
    if run.state is RunState.COMPLETE:
        return 1.0
    done, total = run.progress.get("processed"), run.progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return 0.0 if run.state is RunState.QUEUED else None
    return round(min(1.0, done / total), 4)


async def list_runs(request: web.Request) -> web.Response:
    limit = integer(request.query, "limit", default=20, least=1, most=MAX_LISTED)
    found = await request.app[RUNS].latest(request[TENANT], text(request.query, "task"), limit)
    rows = [run_json(run) for run in found]
    return json_answer({"status": "success", "runs": rows, "count": len(rows)})


async def get_run(request: web.Request) -> web.Response:
    run = await request.app[RUNS].find(request[TENANT], request.match_info["run_id"])
    return json_answer({"status": "success", "run": run_json(run)})


async def cancel_run(request: web.Request) -> web.Response:
    run = await request.app[RUNS].cancel(request[TENANT], request.match_info["run_id"])
    return json_answer({"status": "success", "run": run_json(run)})


WAIT = Param(
    "wait",
    {"type": "boolean", "default": True},
    "false: answer 202 at once; else the run's end is waited for, but no longer than"
    " EUNOE_ADMIN_WAIT_SECONDS",
)
# What a route that starts a run may answer.
RUN_ANSWERS: Mapping[int, str] = {
    200: "What the run came to",
    202: "It goes on; ask for it under `location`",
    409: "The run was cancelled meanwhile",
    500: "The run failed; the message says why",
}
ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/admin/runs",
        list_runs,
        "The newest runs first",
        scope="admin",
        query=(
            Param("task", {"type": "string"}, f"Only runs of this task: {', '.join(TASKS)}, …"),
            Param(
                "limit",
                {"type": "integer", "default": 20, "minimum": 1, "maximum": MAX_LISTED},
                "Clamped",
            ),
        ),
        returns=shape("RunList"),
        group="operations",
    ),
    Route(
        "GET",
        "/admin/runs/{run_id}",
        get_run,
        "How far a run is",
        scope="admin",
        returns=shape("RunFound"),
        group="operations",
    ),
    Route(
        "DELETE",
        "/admin/runs/{run_id}",
        cancel_run,
        "Cancel a run; what it has done stays",
        scope="admin",
        answers={200: "Cancelled", 409: "It is over already"},
        returns=shape("RunFound"),
        group="operations",
    ),
)
