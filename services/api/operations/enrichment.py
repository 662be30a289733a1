"""/enrichment: show how far a tenant's memories are enriched, and enrich some again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BeforeValidator, Field

from services.api.http.answers import Answer, Id, json_answer
from services.api.http.body import AbsentBody, read_model
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.parameters import Query, parsed
from services.api.http.route import Routes
from services.api.memory.service import check_id
from shared.config import EnrichmentSettings
from shared.errors import InvalidInput, TransientError
from shared.events.enrichment_stats import EnrichmentStats
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import CHUNK, Stream

MAX_IDS = 5_000
_SAMPLE = 10


class EnrichmentStatusAnswer(Answer):
    """Of the token's tenant; `status` says whether any enricher runs."""

    status: Literal["running", "stopped"]
    queue_size: int
    pending: int
    inflight: int
    max_attempts: int
    failed: int
    pending_ids: list[str]
    spacy_model: str
    stats: dict[str, Any]
    classification: dict[str, Any]


class ReprocessingAnswer(Answer):
    """What was queued; `missing` are no memories."""

    status: Literal["queued"] = "queued"
    count: int
    ids: list[Id]
    missing: list[Id]


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Use cases on the enrichment of one tenant's memories."""

    graph: GraphStore
    outbox: Outbox
    streams: Mapping[Stage, Stream]
    stats: EnrichmentStats
    settings: EnrichmentSettings

    async def status(self, tenant: str) -> EnrichmentStatusAnswer:
        """Return the tenant's own numbers; `status` is of the instance's enrichers."""
        stream = self.streams[Stage.ENRICH]
        consumers, live, in_flight, counts, waiting, stats = await asyncio.gather(
            stream.consumers(),
            stream.load_of(tenant),
            stream.in_flight_of(tenant),
            self.graph.memories.counts(tenant),
            self.graph.memory_statuses.waiting(tenant, Stage.ENRICH, _SAMPLE),
            self.stats.read(tenant),
        )
        return EnrichmentStatusAnswer(
            status="running" if any(map(stream.is_active, consumers)) else "stopped",
            queue_size=live,
            pending=counts.lagging.get(Stage.ENRICH, 0),
            inflight=in_flight,
            max_attempts=stream.policy.max_attempts,
            failed=counts.failed.get(Stage.ENRICH, 0),
            pending_ids=waiting,
            spacy_model=stats["spacy_model"] or self.settings.spacy_model,
            stats=stats["stats"],
            classification=stats["classification"],
        )

    async def reprocess(self, tenant: str, ids: Sequence[str], trace: str) -> ReprocessingAnswer:
        """Enrich and relate the memories again, whether they were done or given up before.

        A memory without a vector is related once it has one.
        """
        chosen, run = sorted(set(ids)), str(uuid.uuid4())
        found: set[str] = set()
        for start in range(0, len(chosen), CHUNK):
            due = await self.graph.work.requeue(tenant, Stage.ENRICH, chosen[start : start + CHUNK])
            memories = await self.graph.memories.get(tenant, [row.id for row in due])
            with_vector = [memory.id for memory in memories.values() if memory.text_hash]
            again = {Stage.ENRICH: due}
            if with_vector:
                related = await self.graph.work.requeue(tenant, Stage.RELATE, with_vector)
                again[Stage.RELATE] = related
            forced: dict[Stage, list[Job]] = {}
            for stage, rows in again.items():
                jobs = [Job(tenant, row.id, row.job_version(stage), trace=trace) for row in rows]
                await self._discard_dead(stage, jobs)
                forced[stage] = [replace(job, run=run) for job in jobs]
            await self.outbox.announce(forced, exempt=True)
            found.update(row.id for row in due)
        missing = [memory_id for memory_id in chosen if memory_id not in found]
        return ReprocessingAnswer(count=len(chosen), ids=chosen, missing=missing)

    async def _discard_dead(self, stage: Stage, ordinary: Sequence[Job]) -> None:
        """Discard the dead letters of the ordinary jobs.

        Should a forced job get lost, the relay would find the dead letter and give up.
        """
        with suppress(TransientError):  # the memories are due, so the relay publishes them
            found = await self.streams[stage].locations(ordinary)
            dead_ids = [location.dead_id for location in found if location and location.dead_id]
            await self.streams[stage].discard(dead_ids)


def _ids(value: object) -> list[str]:
    """Return canonical UUIDs of a list or a comma string. Raises: InvalidInput."""
    given = value.split(",") if isinstance(value, str) else value if value is not None else []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise InvalidInput("'ids' must be a list of memory ids or a comma-separated string")
    ids = [each.strip() for each in given if each.strip()]
    if len(ids) > MAX_IDS:
        raise InvalidInput(f"'ids' must not hold more than {MAX_IDS} ids")
    return [check_id(memory_id) for memory_id in ids]


class ReprocessIn(AbsentBody):
    """POST /enrichment/reprocess: the ids as a list or a comma string, or in the query."""

    ids: Annotated[
        list[str], BeforeValidator(_ids, json_schema_input_type=list[uuid.UUID] | str | None)
    ] = Field(default=[])


ENRICHMENT: web.AppKey[Enrichment] = web.AppKey("enrichment", Enrichment)
_IDS = parsed(
    "ids", "Separated by commas; where no body names any", _ids, schema={"type": "string"}
)
ROUTES = Routes(group="operations")


@ROUTES.add("GET", "/enrichment/status", "State of the enrichment", returns=EnrichmentStatusAnswer)
async def enrichment_status(request: web.Request) -> web.Response:
    return json_answer(await request.app[ENRICHMENT].status(request[TENANT]))


@ROUTES.add(
    "POST",
    "/enrichment/reprocess",
    "Enrich memories again, whatever was done before",
    body=ReprocessIn,
    query=(_IDS,),
    answers={202: "Queued"},
    returns=ReprocessingAnswer,
    scope="admin",
)
async def reprocess(request: web.Request) -> web.Response:
    body = await read_model(request, ReprocessIn, optional=True)
    named = Query.of(request)[_IDS]
    if not (ids := body.ids or named):
        raise InvalidInput("No memory ids provided for reprocessing")
    answer = await request.app[ENRICHMENT].reprocess(request[TENANT], ids, request[REQUEST_ID])
    return json_answer(answer, status=202)
