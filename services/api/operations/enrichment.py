"""/enrichment: how the enrichment of a tenant's memories stands, and doing it again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator, Field

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.body import read_body
from services.api.http.middleware import REQUEST_ID, TENANT
from services.api.http.route import Param, Route
from services.api.http.validation import AbsentBody, parse_optional, validate
from services.api.memory.service import check_id
from shared.config import EnrichmentSettings
from shared.errors import InvalidInput, TransientError
from shared.events.enrichment_stats import EnrichmentStats
from shared.graph.stages.writes import Due
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.lua import CHUNK
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream

MAX_IDS = 5_000
_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Requeued:
    """All that were asked for, and those of them that are no memories of the tenant; sorted."""

    ids: Sequence[str]
    missing: Sequence[str]


class Enrichment:
    """The use cases."""

    def __init__(
        self,
        graph: GraphStore,
        outbox: Outbox,
        streams: Mapping[Stage, Stream],
        stats: EnrichmentStats,
        settings: EnrichmentSettings,
    ) -> None:
        self._graph = graph
        self._outbox = outbox
        self._streams = streams
        self._stats = stats
        self._settings = settings

    async def status(self, tenant: str) -> dict[str, Any]:
        """All numbers are the tenant's own; `status` is of the instance's enrichers."""
        stream = self._streams[Stage.ENRICH]
        consumers, live, in_flight, counts, waiting, told = await asyncio.gather(
            stream.consumers(),
            stream.load_of(tenant),
            stream.in_flight_of(tenant),
            self._graph.memories.counts(tenant),
            self._graph.receipts.waiting(tenant, Stage.ENRICH, _SAMPLE),
            self._stats.read(tenant),
        )
        return {
            "status": "running" if any(map(stream.is_active, consumers)) else "stopped",
            "queue_size": live,
            "pending": counts.lagging.get(Stage.ENRICH, 0),
            "inflight": in_flight,
            "max_attempts": stream.policy.max_attempts,
            "failed": counts.failed.get(Stage.ENRICH, 0),
            "pending_ids": waiting,
            "spacy_model": self._settings.spacy_model,
            **{name: value for name, value in told.items() if value is not None},
        }

    async def reprocess(self, tenant: str, ids: Sequence[str], *, trace: str = "") -> Requeued:
        """Enrich and relate the memories again, whatever was done or given up before.

        One without a vector is related when it has one.
        """
        wanted, run = sorted(set(ids)), str(uuid.uuid4())
        known: set[str] = set()
        for start in range(0, len(wanted), CHUNK):
            due = await self._graph.work.requeue(
                tenant, Stage.ENRICH, wanted[start : start + CHUNK]
            )
            again = {Stage.ENRICH: due, Stage.RELATE: await self._relate_again(tenant, due)}
            jobs = {
                stage: [Job(tenant, each.id, each.job_version(stage), trace=trace) for each in rows]
                for stage, rows in again.items()
            }
            await self._forget_dead(jobs)
            forced = {
                stage: [replace(job, run=run) for job in mine] for stage, mine in jobs.items()
            }
            await self._outbox.announce(forced, exempt=True)
            known.update(each.id for each in due)
        return Requeued(wanted, [each for each in wanted if each not in known])

    async def _relate_again(self, tenant: str, due: Sequence[Due]) -> list[Due]:
        held = await self._graph.memories.get(tenant, [each.id for each in due])
        standing = [memory.id for memory in held.values() if memory.text_hash]
        return await self._graph.work.requeue(tenant, Stage.RELATE, standing) if standing else []

    async def _forget_dead(self, jobs: Mapping[Stage, Sequence[Job]]) -> None:
        """Else the relay, should a forced job get lost, would find the dead one and give up."""
        try:
            for stage, mine in jobs.items():
                found = await self._streams[stage].locations(mine)
                dead = [each.dead_id for each in found if each and each.dead_id]
                await self._streams[stage].discard(dead)
        except TransientError:
            return  # Redis is down; the memories are due, and the relay sees to them


# -- HTTP -------------------------------------------------------------------------------


def _ids(value: object) -> list[str]:
    """Canonical UUIDs of a list or a comma string. Raises: InvalidInput."""
    given = value.split(",") if isinstance(value, str) else value if value is not None else []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise InvalidInput("'ids' must be a list of memory ids or a comma-separated string")
    named = [each.strip() for each in given if each.strip()]
    if len(named) > MAX_IDS:
        raise InvalidInput(f"'ids' must not hold more than {MAX_IDS} ids")
    return [check_id(each) for each in named]


class ReprocessIn(AbsentBody):
    """POST /enrichment/reprocess: the ids as a list or a comma string, or in the query."""

    ids: Annotated[
        list[str], BeforeValidator(_ids, json_schema_input_type=list[uuid.UUID] | str | None)
    ] = Field(default=[])


ENRICHMENT: web.AppKey[Enrichment] = web.AppKey("enrichment", Enrichment)


async def enrichment_status(request: web.Request) -> web.Response:
    return json_answer(await request.app[ENRICHMENT].status(request[TENANT]))


async def reprocess(request: web.Request) -> web.Response:
    body = validate(ReprocessIn, parse_optional(await read_body(request)))
    ids = body.ids or _ids(request.query.get("ids"))
    if not ids:
        raise InvalidInput("No memory ids provided for reprocessing")
    done = await request.app[ENRICHMENT].reprocess(request[TENANT], ids, trace=request[REQUEST_ID])
    shown: Mapping[str, Any] = {"ids": list(done.ids), "missing": list(done.missing)}
    return json_answer({"status": "queued", "count": len(done.ids), **shown}, status=202)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/enrichment/status",
        enrichment_status,
        "State of the enrichment",
        returns=shape("EnrichmentStatus"),
        group="operations",
    ),
    Route(
        "POST",
        "/enrichment/reprocess",
        reprocess,
        "Enrich memories again, whatever was done before",
        scope="admin",
        body=ReprocessIn,
        query=(Param("ids", {"type": "string"}, "Separated by commas; where no body names any"),),
        answers={202: "Queued"},
        returns=shape("Reprocessing"),
        group="operations",
    ),
)
