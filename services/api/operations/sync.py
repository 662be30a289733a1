"""POST /admin/sync: compare the two stores, and repair what differs."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from services.api.http.answers import Absent
from services.api.http.body import AbsentBody, clamped, read_model, switch
from services.api.http.route import Routes
from services.api.operations.runs import (
    RUN_ANSWERS,
    WAIT,
    AcceptedAnswer,
    RunResultAnswer,
    start_run,
)

MAX_BATCH = 100


class SyncIn(AbsentBody):
    """POST /admin/sync. Orphans are deleted only where `delete_orphans` says so."""

    batch_size: Annotated[int, clamped("batch_size", 1, MAX_BATCH)] | None = Field(
        None, description=f"Most that is repaired at once, clamped into 1..{MAX_BATCH}"
    )
    dry_run: Annotated[bool, switch("dry_run")] = False
    delete_orphans: Annotated[bool, switch("delete_orphans")] = False


class SyncedAnswer(RunResultAnswer):
    """The counts of differences that the comparison found, and of repairs."""

    status: Literal["dry_run", "already_synced", "complete"]
    falkordb_count: int
    qdrant_count: int
    orphaned_count: int
    missing_count: Absent[int] = None
    missing_sample: Absent[list[str]] = None
    orphaned_sample: Absent[list[str]] = None
    synced: Absent[int] = None
    failed: Absent[int] = None
    stale_count: Absent[int] = None
    payload_count: Absent[int] = None
    pending_count: Absent[int] = None
    orphans_deleted: Absent[int] = None


ROUTES = Routes(scope="admin", group="operations")


@ROUTES.add(
    "POST",
    "/admin/sync",
    "Compare graph and vectors, and repair what differs",
    body=SyncIn,
    query=(WAIT,),
    answers=RUN_ANSWERS,
    returns=SyncedAnswer | AcceptedAnswer,
)
async def sync(request: web.Request) -> web.Response:
    body = await read_model(request, SyncIn, optional=True)
    parameters = {**body.model_dump(exclude_none=True), "repair": not body.dry_run}
    return await start_run(request, "drift", parameters, SyncedAnswer, dry_run=body.dry_run)
