"""/admin/dead: jobs that were given up, each with its reason, to be tried again or forgotten.

A tenant sees and moves its own. An entry that is no job belongs to nobody who could be asked,
so it is the default tenant's, whose operator runs the instance: to be seen (without what it
holds, which may be anybody's) and discarded, never replayed. A run whose job is dead has
failed, and a replay does not bring it back: it is to be asked for again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.body import read_body
from services.api.http.middleware import TENANT
from services.api.http.query import integer, text
from services.api.http.route import Param, Route
from services.api.http.validation import parse_object, required, switch, validate
from shared.domain.memory import iso
from shared.domain.tenant import DEFAULT_TENANT
from shared.errors import InvalidInput
from shared.graph.stages.writes import VERSION_OF
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.lua import CHUNK
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import DeadJob

MAX_LISTED = 500
MAX_MOVED = 500
# All tenants' dead lie in one stream: so many pages of it one request looks through.
_PAGES = 10
# Redis' own: two 64-bit numbers; 0-0 is none, and no range may end before it.
_ENTRY_ID = r"^[1-9][0-9]{0,18}-[0-9]{1,19}$"


@dataclass(frozen=True, slots=True)
class Page:
    """A tenant's dead jobs, newest first; `next` continues where the look ended."""

    rows: Sequence[tuple[Stage, DeadJob]]
    next: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """How many went; `missing`: named, and not there (any more) for this tenant."""

    count: int
    missing: Sequence[str] = ()
    next: str | None = None


class DeadLetters:
    """Use cases on one tenant's dead jobs."""

    def __init__(self, graph: GraphStore, outbox: Outbox, streams: Mapping[Stage, Stream]) -> None:
        self._graph = graph
        self._outbox = outbox
        self._streams = streams

    async def page(
        self, tenant: str, stages: Sequence[Stage], limit: int, before: str | None = None
    ) -> Page:
        """The newest of all `stages` together."""
        looks = await asyncio.gather(*(self._look(tenant, s, limit, before) for s in stages))
        # Below the highest point where a look ended, its stage may hold more: not shown yet.
        ends = [end for _, end in looks if end is not None]
        floor = max(map(_order, ends), default=(0, 0))
        rows = sorted(
            (
                (stage, dead)
                for stage, (found, _) in zip(stages, looks, strict=True)
                for dead in found
                if _order(dead.entry_id) >= floor
            ),
            key=lambda row: _order(row[1].entry_id),
            reverse=True,
        )
        cut = limit
        while 0 < cut < len(rows) and rows[cut][1].entry_id == rows[cut - 1][1].entry_id:
            cut += 1  # ids of two stages may be equal: a page ends behind both
        if cut < len(rows):
            return Page(rows[:cut], rows[cut - 1][1].entry_id)
        return Page(rows, max(ends, key=_order, default=None))

    async def _look(
        self, tenant: str, stage: Stage, limit: int, before: str | None
    ) -> tuple[list[DeadJob], str | None]:
        """Up to `limit` of the tenant's, and the last entry looked at; None: all were."""
        found: list[DeadJob] = []
        for _ in range(_PAGES):
            rows = await self._streams[stage].dead(limit=CHUNK, before=before)
            found += [dead for dead in rows if _belongs(dead, tenant)]
            if len(found) > limit:
                return found[:limit], found[limit - 1].entry_id
            if len(rows) < CHUNK:
                return found, None
            before = rows[-1].entry_id
        return found, before

    async def replay(
        self, tenant: str, stage: Stage, ids: Sequence[str] | None, before: str | None = None
    ) -> Moved:
        """Try again, with the attempts forgotten; without `ids` the newest MAX_MOVED."""
        dead, missing, end = await self._chosen(tenant, stage, ids, before)
        jobs = [each.job for each in dead if each.job is not None]
        if stage in VERSION_OF:
            # First: what is published again must be due again, or a loss of it is for good.
            await self._graph.work.requeue(tenant, stage, {job.memory_id for job in jobs})
            await self._outbox.note([tenant])
        named = [each.entry_id for each in dead if each.job is not None]
        return Moved(await self._streams[stage].replay(named), missing, end)

    async def discard(
        self, tenant: str, stage: Stage, ids: Sequence[str] | None, before: str | None = None
    ) -> Moved:
        """Forget them for good; without `ids` the newest MAX_MOVED."""
        dead, missing, end = await self._chosen(tenant, stage, ids, before)
        await self._give_up(tenant, stage, [each.job for each in dead if each.job is not None])
        count = await self._streams[stage].discard([each.entry_id for each in dead])
        return Moved(count, missing, end)

    async def _give_up(self, tenant: str, stage: Stage, jobs: Sequence[Job]) -> None:
        """What is still due would be published again by the relay, and be back tomorrow."""
        if stage in VERSION_OF:
            rows = [(job.memory_id, job.version) for job in jobs]
            await self._graph.work.give_up(tenant, stage, rows)
        elif stage is Stage.SYNC:
            await asyncio.gather(*(self._graph.runs.cancel(tenant, job.memory_id) for job in jobs))

    async def _chosen(
        self, tenant: str, stage: Stage, ids: Sequence[str] | None, before: str | None
    ) -> tuple[list[DeadJob], list[str], str | None]:
        if ids is None:
            found, end = await self._look(tenant, stage, MAX_MOVED, before)
            return found, [], end
        named = await self._streams[stage].dead_named(ids)
        mine = [dead for dead in named if _belongs(dead, tenant)]
        known = {dead.entry_id for dead in mine}
        return mine, [each for each in dict.fromkeys(ids) if each not in known], None


def _belongs(dead: DeadJob, tenant: str) -> bool:
    return tenant == (DEFAULT_TENANT if dead.job is None else dead.job.tenant)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


# -- HTTP -------------------------------------------------------------------------------


def _stage(value: object) -> Stage:
    try:
        return Stage(str(value))
    except ValueError:
        raise InvalidInput(f"'stream' must be one of {', '.join(Stage)}") from None


def _entry_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(_ENTRY_ID, value):
        raise InvalidInput("an id of a dead job looks like 1764000000000-0")
    return value


def _entry_ids(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or len(value) > MAX_MOVED:
        raise InvalidInput(f"'ids' must be a list of 1 to {MAX_MOVED} ids")
    if None in value:
        raise InvalidInput("'ids' must not hold null")
    return [each for each in map(_entry_id, value) if each]


_STREAM_SCHEMA = {"type": "string", "enum": [stage.value for stage in Stage]}
_ID_SCHEMA = {"type": "string", "pattern": _ENTRY_ID}
_EntryId = Annotated[str, Field(pattern=_ENTRY_ID)]
_EntryIds = Annotated[list[_EntryId], Field(min_length=1, max_length=MAX_MOVED)]


class DeadIn(BaseModel):
    """POST /admin/dead/replay and …/discard: `ids` of one stream, or `all` of the tenant's.

    Of `all` one request moves 500; `next` of its answer, given as `before`, goes on.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=required("stream"))

    stream: Annotated[Stage, BeforeValidator(_stage), WithJsonSchema(_STREAM_SCHEMA)] = Field(
        validate_default=True, default=""
    )
    ids: Annotated[
        list[str] | None, BeforeValidator(_entry_ids, json_schema_input_type=_EntryIds | None)
    ] = None
    all: Annotated[bool, switch("all")] = False
    before: Annotated[
        str | None, BeforeValidator(_entry_id, json_schema_input_type=_EntryId | None)
    ] = None


DEAD: web.AppKey[DeadLetters] = web.AppKey("dead", DeadLetters)


def dead_json(stage: Stage, dead: DeadJob) -> dict[str, Any]:
    job = dead.job
    return {
        "id": dead.entry_id,
        "stream": stage.value,
        "memory_id": job.memory_id if job else None,
        "version": job.version if job else None,
        "run": (job.run or None) if job else None,
        "reason": dead.reason,
        "error": dead.error,
        "attempts": dead.attempts,
        "deliveries": dead.deliveries,
        "first_at": iso(dead.first_ms),
        "buried_at": iso(dead.dead_since_ms),
        "consumer": dead.consumer,
    }


async def list_dead(request: web.Request) -> web.Response:
    query = request.query
    named, before = text(query, "stream"), text(query, "before")
    limit = integer(query, "limit", default=50, least=1, most=MAX_LISTED)
    found = await request.app[DEAD].page(
        request[TENANT],
        [_stage(named)] if named else list(Stage),
        limit,
        _entry_id(before),
    )
    rows = [dead_json(*row) for row in found.rows]
    return json_answer({"status": "success", "dead": rows, "count": len(rows), "next": found.next})


async def replay_dead(request: web.Request) -> web.Response:
    body = await _asked(request)
    moved = await request.app[DEAD].replay(request[TENANT], body.stream, body.ids, body.before)
    return _moved("replayed", moved)


async def discard_dead(request: web.Request) -> web.Response:
    body = await _asked(request)
    moved = await request.app[DEAD].discard(request[TENANT], body.stream, body.ids, body.before)
    return _moved("discarded", moved)


async def _asked(request: web.Request) -> DeadIn:
    body = validate(DeadIn, parse_object(await read_body(request)))
    if body.all == (body.ids is not None):
        raise InvalidInput("name the dead jobs in 'ids', or set 'all' to true")
    return body


def _moved(verb: str, moved: Moved) -> web.Response:
    told = {"missing": list(moved.missing), "next": moved.next}
    return json_answer({"status": "success", verb: moved.count, **told})


_STREAM = Param("stream", _STREAM_SCHEMA, "Only this stage; default: all")
_LIMIT = {"type": "integer", "default": 50, "minimum": 1, "maximum": MAX_LISTED}
ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/admin/dead",
        list_dead,
        "Jobs that were given up, newest first, with their reasons",
        scope="admin",
        query=(
            _STREAM,
            Param("limit", _LIMIT, "Clamped"),
            Param("before", _ID_SCHEMA, "`next` of the page before"),
        ),
        returns=shape("DeadPage"),
        group="operations",
    ),
    Route(
        "POST",
        "/admin/dead/replay",
        replay_dead,
        "Try dead jobs again, with their attempts forgotten",
        scope="admin",
        body=DeadIn,
        returns=shape("Replayed"),
        group="operations",
    ),
    Route(
        "POST",
        "/admin/dead/discard",
        discard_dead,
        "Forget dead jobs for good",
        scope="admin",
        body=DeadIn,
        returns=shape("Discarded"),
        group="operations",
    ),
)
