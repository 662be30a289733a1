"""/admin/runs: start, await, list and cancel the tasks that take longer than a request.

A run is a node in its tenant's graph and a job for the syncer. A request waits a limited time
for its end; the run goes on without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import ConfigDict, Field

from services.api.http.answers import Absent, Answer, Success, Time, error_answer, json_answer
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.parameters import Query, flag, integer, text
from services.api.http.route import Routes
from shared.domain.memory import check_text
from shared.errors import Conflict, NotFound, TransientError, Unavailable
from shared.graph.upkeep.runs import Run, Runs, RunState
from shared.process.health import Probes
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.waiting import wait

MAX_LISTED = 100
_POLL_S = (0.05, 1.0)
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class RunRequests:
    """Use cases on one tenant's runs."""

    runs: Runs
    outbox: Outbox
    probes: Probes
    _: KW_ONLY
    # Gives up filling the generation of that name.
    abandon: Callable[[str], Awaitable[object]]
    longest_wait_s: float
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self, _app: web.Application | None = None) -> None:
        """Answer every request that waits: this process ends, the runs go on elsewhere."""
        self._closing.set()

    def demand_stores(self) -> None:
        """Raises: TransientError or Unavailable while a store is down, with nothing begun."""
        if not self.probes.up("vectors"):
            raise TransientError(
                "Qdrant is not available - cannot store embeddings", retry_after_s=_RETRY_AFTER_S
            )
        for name in ("graph", "redis"):
            if not self.probes.up(name):
                raise Unavailable(name, "down", retry_after_s=_RETRY_AFTER_S)

    async def start(
        self, tenant: str, task: str, parameters: Mapping[str, Any], *, dry_run: bool = False
    ) -> Run:
        """Queue a run and announce it; the relay covers a lost announcement."""
        self.demand_stores()
        run = await self.runs.create(tenant, task, parameters, dry_run=dry_run)
        await self.outbox.announce({Stage.SYNC: [Job(tenant, run.id, 0)]}, exempt=True)
        return run

    async def ended(self, tenant: str, run: Run, gone: Callable[[], bool]) -> Run:
        """Return the run at its end, or as it is when the client is `gone` or time is up."""
        pause_s, longest_s = _POLL_S
        until = time.monotonic() + self.longest_wait_s
        while not run.over and not gone() and not self._closing.is_set():
            if (left_s := until - time.monotonic()) <= 0:
                break
            await wait(self._closing, min(pause_s, left_s))
            pause_s = min(longest_s, pause_s * 1.5)
            run = await self.find(tenant, run.id)
        return run

    async def find(self, tenant: str, run_id: str) -> Run:
        """Raises: NotFound."""
        run = await self.runs.get(tenant, check_text(run_id, "run_id"))
        if run is None:
            raise NotFound("Run not found")
        return run

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """Raises: NotFound; Conflict if it had ended."""
        if not (before := await self.find(tenant, run_id)).over:
            after = await self.runs.cancel(tenant, run_id)
            if after is not None and after.state is RunState.CANCELLED:
                # The API gives the generation up itself, because no syncer may be running.
                if filled := after.progress.get("generation"):
                    await self.abandon(filled)
                return after
        raise Conflict(f"The run is over already: {before.state.value}")


_RATIO: dict[str, Any] = {"properties": {"ratio": {"type": ["number", "null"]}}}


class RunAnswer(Answer):
    """A task that takes longer than a request."""

    id: str
    task: str
    state: RunState
    dry_run: bool
    request: dict[str, Any]
    progress: Annotated[dict[str, Any], Field(json_schema_extra=_RATIO)]
    result: dict[str, Any] | None
    error: str | None
    created_at: Time
    started_at: Time | None
    completed_at: Time | None

    @classmethod
    def of(cls, run: Run) -> RunAnswer:
        """Return the run without the lists and objects that a syncer continues it by."""
        answer = cls.model_validate(run)
        answer.progress = {
            name: value
            for name, value in run.progress.items()
            if name == "failed_ids" or not isinstance(value, list | dict)
        } | {"ratio": ratio(run)}
        return answer


class RunListAnswer(Success):
    """Newest first."""

    runs: list[RunAnswer]
    count: int


class RunFoundAnswer(Success):
    """A run."""

    run: RunAnswer


class AcceptedAnswer(Answer):
    """The run continues; the URL in `location` answers its progress."""

    status: Literal["accepted"] = "accepted"
    run_id: str
    location: str


class RunResultAnswer(Answer):
    """What a run came to; its task's other keys are answered as they are."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    failed_ids: Absent[list[str]] = None
    failed_ids_truncated: Absent[bool] = None

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(**(run.result or {}), run_id=run.id)


RUNS: web.AppKey[RunRequests] = web.AppKey("runs", RunRequests)
WAIT = flag(
    "wait",
    "false: answer 202 at once; else the run's end is waited for, but no longer than"
    " EUNOE_ADMIN_WAIT_SECONDS",
    default=True,
)
_TASK = text("task", "Only runs of this task: drift, reembed, …")
_LIMIT = integer("limit", "Most runs", default=20, least=1, most=MAX_LISTED)


async def start_run(
    request: web.Request,
    task: str,
    parameters: Mapping[str, Any],
    answer: type[RunResultAnswer],
    *,
    dry_run: bool = False,
) -> web.Response:
    """Start a run and answer its result; 202 without WAIT, or where it takes too long."""
    runs, tenant = request.app[RUNS], request[TENANT]
    run = await runs.start(tenant, task, parameters, dry_run=dry_run)
    if Query.of(request)[WAIT]:
        transport = request.transport
        run = await runs.ended(tenant, run, lambda: transport is None or transport.is_closing())
    if run.state is RunState.COMPLETE:
        return json_answer(answer.of(run))
    if run.state is RunState.CANCELLED:
        raise Conflict(f"Run {run.id} was cancelled")
    if run.state is RunState.FAILED:
        message = f"Run {run.id} failed: {run.error}"
        return error_answer(500, message, request_id=request[REQUEST_ID])
    location = f"/admin/runs/{run.id}"
    accepted = AcceptedAnswer(run_id=run.id, location=location)
    return json_answer(accepted, status=202, Location=location)


def ratio(run: Run) -> float | None:
    """Return how much of the run is done, 0 to 1; None while its total is not known."""
    if run.state is RunState.COMPLETE:
        return 1.0
    done, total = run.progress.get("processed"), run.progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return 0.0 if run.state is RunState.QUEUED else None
    return round(min(1.0, done / total), 4)


ROUTES = Routes(scope="admin", group="operations")


@ROUTES.add(
    "GET", "/admin/runs", "The newest runs first", query=(_TASK, _LIMIT), returns=RunListAnswer
)
async def list_runs(request: web.Request) -> web.Response:
    query, runs = Query.of(request), request.app[RUNS].runs
    tasks = [task] if (task := query[_TASK]) else []
    found = await runs.latest(request[TENANT], tasks=tasks, limit=query[_LIMIT])
    rows = [RunAnswer.of(run) for run in found]
    return json_answer(RunListAnswer(runs=rows, count=len(rows)))


@ROUTES.add("GET", "/admin/runs/{run_id}", "How far a run is", returns=RunFoundAnswer)
async def get_run(request: web.Request) -> web.Response:
    run = await request.app[RUNS].find(request[TENANT], request.match_info["run_id"])
    return json_answer(RunFoundAnswer(run=RunAnswer.of(run)))


@ROUTES.add(
    "DELETE",
    "/admin/runs/{run_id}",
    "Cancel a run; what it has done stays",
    answers={200: "Cancelled", 409: "It is over already"},
    returns=RunFoundAnswer,
)
async def cancel_run(request: web.Request) -> web.Response:
    run = await request.app[RUNS].cancel(request[TENANT], request.match_info["run_id"])
    return json_answer(RunFoundAnswer(run=RunAnswer.of(run)))


# What a route that starts a run may answer.
RUN_ANSWERS: Mapping[int, str] = {
    200: "What the run came to",
    202: "The run continues; poll the URL in `location`",
    409: "The run was cancelled meanwhile",
    500: "The run failed; the message says why",
}
