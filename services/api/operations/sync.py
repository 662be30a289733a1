"""POST /admin/sync: compare the two stores, and repair what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from services.api.http.answer_schemas import shape
from services.api.http.body import read_body
from services.api.http.middleware import TENANT
from services.api.http.query import flag
from services.api.http.route import Route
from services.api.http.validation import AbsentBody, clamped, parse_optional, switch, validate
from services.api.operations.runs import RUN_ANSWERS, RUNS, WAIT, run_answer
from shared.graph.upkeep.runs import Run

MAX_BATCH = 100


class SyncIn(AbsentBody):
    """POST /admin/sync. Orphans are deleted only where `delete_orphans` says so."""

    batch_size: Annotated[int, clamped("batch_size", 1, MAX_BATCH)] | None = Field(
        None, description=f"Most that is repaired at once, clamped into 1..{MAX_BATCH}"
    )
    dry_run: Annotated[bool, switch("dry_run")] = False
    delete_orphans: Annotated[bool, switch("delete_orphans")] = False


async def sync(request: web.Request) -> web.Response:
    body = validate(SyncIn, parse_optional(await read_body(request)))
    wait = flag(request.query, "wait", default=True)
    asked = {**body.model_dump(exclude_none=True), "repair": not body.dry_run}
    run = await request.app[RUNS].start(request[TENANT], "drift", asked, dry_run=body.dry_run)
    return await run_answer(request, run, sync_json, wait=wait)


def sync_json(run: Run) -> Mapping[str, Any]:
    """AutoMem's three bodies; what was found beyond its own comparison stands beside it."""
    return run.result or {}


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/admin/sync",
        sync,
        "Compare graph and vectors, and repair what differs",
        scope="admin",
        body=SyncIn,
        query=(WAIT,),
        answers=RUN_ANSWERS,
        returns=shape("Synced"),
        group="operations",
    ),
)
