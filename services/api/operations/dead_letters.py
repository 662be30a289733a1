"""/admin/dead: jobs that failed for good, each with its reason, to try again or to delete.

A tenant lists, replays and discards only its own dead jobs. A stream entry that cannot be read as a
job belongs to no tenant, so it is shown to the default tenant, whose operator runs the instance. It
can be listed (without its content, which may be any tenant's) and discarded, but not replayed.
The run of a dead sync job has failed: a replay does not continue it, a new run must be started.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.api.http.answers import Answer, NoneIfEmpty, Success, Time, attribute, json_answer
from services.api.http.body import Body, nullable, read_model, required, switch
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, integer, parsed
from services.api.http.route import Routes
from services.api.operations.event_feed import entry_order
from shared.domain.tenant import DEFAULT_TENANT
from shared.errors import InvalidInput
from shared.graph.records import VERSION_OF
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import CHUNK, Stream
from shared.streams.transitions import DeadJob

MAX_LISTED = 500
MAX_MOVED = 500
# One stream holds the dead letters of all tenants; a request reads at most so many pages.
_PAGES = 10
# Redis's own form: two 64-bit numbers. 0-0 is no entry, and no range may end before it.
_ENTRY_ID = r"^[1-9][0-9]{0,18}-[0-9]{1,19}$"


class DeadJobAnswer(Answer):
    """One dead job; its ids are null if the stream's entry could not be read as a job."""

    id: str = attribute("entry_id")
    stream: str = ""
    memory_id: str | None = attribute("job", "memory_id", default=None)
    version: int | None = attribute("job", "version", default=None)
    run: NoneIfEmpty = attribute("job", "run", default=None)  # null where no run forced the job
    reason: str
    error: str
    attempts: int
    deliveries: int
    first_at: Time = attribute("first_ms")
    buried_at: Time = attribute("dead_since_ms")
    consumer: str


class DeadPageAnswer(Success):
    """Newest first; `next` is the `before` of the following page."""

    dead: list[DeadJobAnswer]
    count: int
    next: str | None


class ReplayedAnswer(Success):
    """How many are tried again; this tenant has no dead job with an id in `missing`."""

    replayed: int
    missing: list[str]
    next: str | None


class DiscardedAnswer(Success):
    """How many are deleted; this tenant has no dead job with an id in `missing`."""

    discarded: int
    missing: list[str]
    next: str | None


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Use cases on one tenant's dead letters."""

    graph: GraphStore
    outbox: Outbox
    streams: Mapping[Stage, Stream]

    async def page(
        self, tenant: str, stages: Sequence[Stage], limit: int, before: str | None
    ) -> DeadPageAnswer:
        """Return the newest dead jobs of all `stages` together, older than the entry `before`."""
        searches = await asyncio.gather(*(self._search(tenant, s, limit, before) for s in stages))
        # A stage whose search stopped early may have more dead jobs that are older than its last
        # entry. Older rows of other stages are left to the next page, so that none is skipped.
        ends = [end for _, end in searches if end is not None]
        oldest = max(map(entry_order, ends), default=(0, 0))
        rows = [
            (entry_order(dead.entry_id), stage, dead)
            for stage, (found, _) in zip(stages, searches, strict=True)
            for dead in found
        ]
        rows = sorted((r for r in rows if r[0] >= oldest), key=itemgetter(0), reverse=True)
        cut = limit
        while 0 < cut < len(rows) and rows[cut][0] == rows[cut - 1][0]:
            cut += 1  # entries of two stages may share an id; a page never ends between them
        if cut < len(rows):
            ends = [rows[cut - 1][2].entry_id]
        answers = [
            DeadJobAnswer.model_validate(dead).model_copy(update={"stream": stage.value})
            for _, stage, dead in rows[:cut]
        ]
        following = max(ends, key=entry_order, default=None)
        return DeadPageAnswer(dead=answers, count=len(answers), next=following)

    async def _search(
        self, tenant: str, stage: Stage, limit: int, before: str | None
    ) -> tuple[list[DeadJob], str | None]:
        """Return up to `limit` of the tenant's dead jobs, and the next `before` (None: the end)."""
        found: list[DeadJob] = []
        for _ in range(_PAGES):
            rows = await self.streams[stage].dead(limit=CHUNK, before=before)
            found += [dead for dead in rows if _belongs(dead, tenant)]
            if len(found) > limit:
                return found[:limit], found[limit - 1].entry_id
            if len(rows) < CHUNK:
                return found, None
            before = rows[-1].entry_id
        return found, before

    async def replay(self, tenant: str, chosen: DeadIn) -> ReplayedAnswer:
        """Try dead jobs again, with the attempts reset; without `ids` the newest MAX_MOVED."""
        dead, missing, end = await self._selected(tenant, chosen)
        jobs = {each.entry_id: each.job for each in dead if each.job is not None}
        if chosen.stream in VERSION_OF:
            # Before the replay: a job that is published again and then lost would not be
            # published once more unless its memory is due.
            memory_ids = {job.memory_id for job in jobs.values()}
            await self.graph.work.requeue(tenant, chosen.stream, memory_ids)
            await self.outbox.note([tenant])
        count = await self.streams[chosen.stream].replay(list(jobs))
        return ReplayedAnswer(replayed=count, missing=missing, next=end)

    async def discard(self, tenant: str, chosen: DeadIn) -> DiscardedAnswer:
        """Delete the dead letters; without `ids` the newest MAX_MOVED.

        The graph first marks their work as given up (a run as cancelled), else the relay would
        publish it again.
        """
        dead, missing, end = await self._selected(tenant, chosen)
        jobs = [each.job for each in dead if each.job is not None]
        if chosen.stream in VERSION_OF:
            rows = [(job.memory_id, job.version) for job in jobs]
            await self.graph.work.give_up(tenant, chosen.stream, rows)
        elif chosen.stream is Stage.SYNC:
            await asyncio.gather(*(self.graph.runs.cancel(tenant, job.memory_id) for job in jobs))
        count = await self.streams[chosen.stream].discard([each.entry_id for each in dead])
        return DiscardedAnswer(discarded=count, missing=missing, next=end)

    async def _selected(
        self, tenant: str, chosen: DeadIn
    ) -> tuple[list[DeadJob], list[str], str | None]:
        """Return the tenant's chosen entries, the ids that name none, and where to go on."""
        if chosen.ids is None:
            found, end = await self._search(tenant, chosen.stream, MAX_MOVED, chosen.before)
            return found, [], end
        named = await self.streams[chosen.stream].dead_named(chosen.ids)
        own = {dead.entry_id: dead for dead in named if _belongs(dead, tenant)}
        missing = [entry_id for entry_id in dict.fromkeys(chosen.ids) if entry_id not in own]
        return list(own.values()), missing, None


def _belongs(dead: DeadJob, tenant: str) -> bool:
    return tenant == (DEFAULT_TENANT if dead.job is None else dead.job.tenant)


def _stage(value: object) -> Stage:
    try:
        return Stage(str(value))
    except ValueError:
        raise InvalidInput(f"'stream' must be one of {', '.join(Stage)}") from None


def _entry_id(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(_ENTRY_ID, value):
        raise InvalidInput("an id of a dead job looks like 1764000000000-0")
    return value


def _entry_ids(value: object) -> list[str]:
    if not isinstance(value, list) or not value or len(value) > MAX_MOVED:
        raise InvalidInput(f"'ids' must be a list of 1 to {MAX_MOVED} ids")
    if None in value:
        raise InvalidInput("'ids' must not hold null")
    return list(map(_entry_id, value))


_STREAM_SCHEMA = {"type": "string", "enum": [stage.value for stage in Stage]}
_ID_SCHEMA = {"type": "string", "pattern": _ENTRY_ID}
_EntryId = Annotated[str, Field(pattern=_ENTRY_ID)]
_EntryIds = Annotated[list[_EntryId], Field(min_length=1, max_length=MAX_MOVED)]


class DeadIn(Body):
    """POST /admin/dead/replay and …/discard: `ids` of one stream, or `all` of the tenant's.

    With `all`, one request moves 500; send its `next` as `before` for the rest.
    """

    model_config = ConfigDict(json_schema_extra=required("stream"))

    stream: Annotated[Stage, BeforeValidator(_stage), WithJsonSchema(_STREAM_SCHEMA)] = Field(
        validate_default=True, default=""
    )
    ids: Annotated[list[str] | None, nullable(_entry_ids, _EntryIds)] = None
    all: Annotated[bool, switch("all")] = False
    before: Annotated[str | None, nullable(_entry_id, _EntryId)] = None


DEAD: web.AppKey[DeadLetters] = web.AppKey("dead", DeadLetters)
_STREAM = parsed("stream", "Only this stage; default: all", _stage, schema=_STREAM_SCHEMA)
_LIMIT = integer("limit", "Most jobs", default=50, least=1, most=MAX_LISTED)
_BEFORE = parsed("before", "`next` of the page before", _entry_id, schema=_ID_SCHEMA)
ROUTES = Routes(scope="admin", group="operations")


@ROUTES.add(
    "GET",
    "/admin/dead",
    "Jobs that were given up, newest first, with their reasons",
    query=(_STREAM, _LIMIT, _BEFORE),
    returns=DeadPageAnswer,
)
async def list_dead(request: web.Request) -> web.Response:
    query, tenant = Query.of(request), request[TENANT]
    stages = [stage] if (stage := query[_STREAM]) else list(Stage)
    page = await request.app[DEAD].page(tenant, stages, query[_LIMIT], query[_BEFORE])
    return json_answer(page)


@ROUTES.add(
    "POST",
    "/admin/dead/replay",
    "Try dead jobs again, with their attempts forgotten",
    body=DeadIn,
    returns=ReplayedAnswer,
)
async def replay_dead(request: web.Request) -> web.Response:
    chosen = await _read_selection(request)
    return json_answer(await request.app[DEAD].replay(request[TENANT], chosen))


@ROUTES.add(
    "POST", "/admin/dead/discard", "Forget dead jobs for good", body=DeadIn, returns=DiscardedAnswer
)
async def discard_dead(request: web.Request) -> web.Response:
    chosen = await _read_selection(request)
    return json_answer(await request.app[DEAD].discard(request[TENANT], chosen))


async def _read_selection(request: web.Request) -> DeadIn:
    body = await read_model(request, DeadIn)
    if body.all == (body.ids is not None):
        raise InvalidInput("name the dead jobs in 'ids', or set 'all' to true")
    return body
