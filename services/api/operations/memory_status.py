"""GET /memory/{id}/receipt: how far a memory has come, and what holds it up.

The graph says what is done; the ledger of a stage says where a job is that is not. One query
and one look per unfinished stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Route
from services.api.memory.service import check_id
from shared.domain.memory import iso
from shared.errors import NotFound, TransientError
from shared.graph.stages.memory_status import Receipt, StageStatus
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import JobLocation

_STAGES = (Stage.ENRICH, Stage.EMBED, Stage.RELATE)


@dataclass(frozen=True, slots=True)
class Step:
    """One stage: the node's word on it, and where its job is (None: nowhere, or not asked)."""

    standing: StageStatus
    done: bool
    at: JobLocation | None

    @property
    def state(self) -> str:
        """done, queued, in_flight, delayed, dead, given_up, or waiting (for another stage, or
        for the relay to publish it again)."""
        if self.done:
            return "done"
        if self.at is not None:
            return self.at.state
        return "given_up" if self.standing.given_up else "waiting"


class MemoryStatus:
    """The use case."""

    def __init__(self, graph: GraphStore, streams: Mapping[Stage, Stream]) -> None:
        self._graph = graph
        self._streams = streams

    async def receipt(self, tenant: str, memory_id: str) -> tuple[Receipt, Mapping[Stage, Step]]:
        """Raises: InvalidInput for an id that is no UUID, NotFound."""
        receipt = await self._graph.receipts.get(tenant, check_id(memory_id))
        if receipt is None:
            raise NotFound("Memory not found")
        steps = await asyncio.gather(*(self._step(tenant, receipt, stage) for stage in _STAGES))
        return receipt, dict(zip(_STAGES, steps, strict=True))

    async def _step(self, tenant: str, receipt: Receipt, stage: Stage) -> Step:
        standing = receipt.stages[stage]
        if done(receipt, stage):
            return Step(standing, done=True, at=None)
        try:
            [at] = await self._streams[stage].locations([Job(tenant, receipt.id, standing.version)])
        except TransientError:
            at = None  # the graph's word alone, then
        return Step(standing, done=False, at=at)


def done(receipt: Receipt, stage: Stage) -> bool:
    """Whether the stage has nothing left to do for the memory as it stands."""
    standing = receipt.stages[stage]
    if stage is Stage.RELATE:
        # A change of tags needs no new relations: its version moves on without them.
        return standing.reached > 0 and standing.due_ms is None and done(receipt, Stage.EMBED)
    return standing.reached >= standing.version


# -- HTTP -------------------------------------------------------------------------------

RECEIPTS: web.AppKey[MemoryStatus] = web.AppKey("receipts", MemoryStatus)


def receipt_json(receipt: Receipt, steps: Mapping[Stage, Step]) -> dict[str, Any]:
    """`searchable`: a vector of it stands, though perhaps of its last text; by its words a
    memory is found from the first moment."""
    enriched, embedded, related = (steps[stage].done for stage in _STAGES)
    return {
        "status": "success",
        "memory_id": receipt.id,
        "version": receipt.version,
        "timestamp": iso(receipt.timestamp),
        "stored": True,
        "stored_at": iso(receipt.version),
        "enriched": enriched,
        "enriched_at": iso(receipt.enriched_at),
        "embedded": embedded,
        "embedded_at": iso(receipt.embedded_at),
        "related": related,
        "related_at": iso(receipt.related_at),
        "searchable": receipt.has_vector and not receipt.archived,
        "searchable_at": iso(receipt.embedded_at),
        "archived": receipt.archived,
        "stages": {stage.value: step_json(step) for stage, step in steps.items()},
    }


def step_json(step: Step) -> dict[str, Any]:
    """`attempts` are those that failed; None where nobody remembers."""
    at = step.at
    due_ms = at.due_ms if at else step.standing.due_ms
    return {
        "state": step.state,
        "version": step.standing.version,
        "attempts": at.job.attempt if at and at.job else None,
        "next_at": iso(due_ms) if step.state in ("delayed", "waiting") else None,
        "last_error": (at.error or at.reason or None) if at else None,
        "failed_at": iso(at.dead_since_ms) if at else None,
        "dead_id": at.dead_id if at and at.dead_id else None,
    }


async def get_receipt(request: web.Request) -> web.Response:
    memory_id = request.match_info["memory_id"]
    found = await request.app[RECEIPTS].receipt(request[TENANT], memory_id)
    return json_answer(receipt_json(*found))


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/memory/{memory_id}/receipt",
        get_receipt,
        "How far a memory has come: stored, enriched, embedded, related, searchable",
        returns=shape("Receipt"),
    ),
)
