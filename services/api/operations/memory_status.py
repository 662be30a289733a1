"""GET /memory/{id}/receipt: how far the stages have come with a memory, and what delays it.

The graph says what is done; the job ledger of a stage says where the job of an unfinished one
is. That takes one query and one ledger call per unfinished stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

from aiohttp import web

from services.api.http.answers import Answer, Id, Success, Time, attribute, json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Routes
from services.api.memory.service import check_id
from shared.errors import NotFound, TransientError
from shared.graph.stages.memory_status import StageStatus, StoredStatus
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import JobLocation

_MADE = {Stage.ENRICH: "enriched", Stage.EMBED: "embedded", Stage.RELATE: "related"}
_State = Literal["done", "queued", "in_flight", "delayed", "dead", "given_up", "waiting"]


class StageAnswer(Answer):
    """One stage of one memory."""

    state: _State
    version: int
    attempts: int | None
    next_at: Time | None
    last_error: str | None
    failed_at: Time | None
    dead_id: str | None

    @classmethod
    def of(cls, status: StageStatus, job: JobLocation | None, *, done: bool) -> StageAnswer:
        """Render a stage and where its job is (None: nowhere, or the ledger is down).

        `waiting` is for another stage, or for the relay to publish the job again; `attempts`
        are those that failed, None where no ledger knows them.
        """
        if done or job is None:
            state: _State = "done" if done else "given_up" if status.given_up else "waiting"
        else:
            state = job.state
        due_ms = job.due_ms if job else status.due_ms
        return cls(
            state=state,
            version=status.version,
            attempts=job.job.attempt if job and job.job else None,
            next_at=due_ms if state in ("delayed", "waiting") else None,
            last_error=(job.error or job.reason or None) if job else None,
            failed_at=job.dead_since_ms if job else None,
            dead_id=(job.dead_id or None) if job else None,
        )


class StagesAnswer(Answer):
    """Of each stage."""

    enrich: StageAnswer
    embed: StageAnswer
    relate: StageAnswer


class ReceiptAnswer(Success):
    """How far a memory has come; `stored_at` is of its present version.

    `searchable`: it has a vector, perhaps of an earlier text; its words are found at once.
    """

    memory_id: Id = attribute("id")
    version: int
    timestamp: Time
    stored: Literal[True] = True
    stored_at: Time = attribute("version")
    enriched: bool
    enriched_at: Time | None
    embedded: bool
    embedded_at: Time | None
    related: bool
    related_at: Time | None
    searchable: bool
    searchable_at: Time | None = attribute("embedded_at")
    archived: bool
    stages: StagesAnswer


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Reads a memory's receipt from the graph and the job ledgers."""

    graph: GraphStore
    streams: Mapping[Stage, Stream]

    async def read(self, tenant: str, memory_id: str) -> ReceiptAnswer:
        """Raises: InvalidInput for an id that is no UUID, NotFound."""
        stored = await self.graph.memory_statuses.get(tenant, check_id(memory_id))
        if stored is None:
            raise NotFound("Memory not found")
        answers = await asyncio.gather(*(self._stage(tenant, stored, s) for s in stored.stages))
        stages = dict(zip(stored.stages, answers, strict=True))
        made = {name: stages[stage].state == "done" for stage, name in _MADE.items()}
        searchable = stored.has_vector and not stored.archived
        return ReceiptAnswer.model_validate(
            asdict(stored) | made | {"searchable": searchable, "stages": stages}
        )

    async def _stage(self, tenant: str, stored: StoredStatus, stage: Stage) -> StageAnswer:
        status, location = stored.stages[stage], None
        done = is_done(stored, stage)
        if not done:
            job = Job(tenant, stored.id, status.version)
            with suppress(TransientError):  # without the ledger the graph's state is answered
                [location] = await self.streams[stage].locations([job])
        return StageAnswer.of(status, location, done=done)


def is_done(stored: StoredStatus, stage: Stage) -> bool:
    """Return whether the stage has nothing left to do for the memory's present version."""
    status = stored.stages[stage]
    if stage is Stage.RELATE:
        # A change of tags needs no new relations: its version moves on without them.
        return status.reached > 0 and status.due_ms is None and is_done(stored, Stage.EMBED)
    return status.reached >= status.version


MEMORY_STATUS: web.AppKey[MemoryStatus] = web.AppKey("memory_status", MemoryStatus)
ROUTES = Routes()


@ROUTES.add(
    "GET",
    "/memory/{memory_id}/receipt",
    "How far a memory has come: stored, enriched, embedded, related, searchable",
    returns=ReceiptAnswer,
)
async def get_receipt(request: web.Request) -> web.Response:
    memory_id = request.match_info["memory_id"]
    return json_answer(await request.app[MEMORY_STATUS].read(request[TENANT], memory_id))
