"""POST /admin/sync and /admin/reembed: repair the vectors, or make all of them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import Field

from services.api.http.answers import Absent
from services.api.http.body import AbsentBody, clamped, read_model, switch
from services.api.http.route import Routes
from services.api.memory.requests import label
from services.api.operations.runs import (
    RUN_ANSWERS,
    RUNS,
    WAIT,
    AcceptedAnswer,
    RunResultAnswer,
    start_run,
)
from shared.config import EmbeddingSettings
from shared.errors import ConfigError, InvalidInput
from shared.graph.upkeep.runs import Run
from shared.vectors.active_model import open_generation, open_requested
from shared.vectors.generation import Generation

MAX_BATCH = 100
_MOST_DIMENSIONS = 65_536  # Qdrant's own limit
Provider = Literal["local", "openai", "ollama", "voyage", "placeholder"]


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


class ReembedIn(AbsentBody):
    """POST /admin/reembed. `provider`, `model` and `dimension` name a model to switch to."""

    batch_size: Annotated[int, clamped("batch_size", 1, MAX_BATCH)] = Field(
        32, description=f"Clamped into 1..{MAX_BATCH}"
    )
    limit: Annotated[int, clamped("limit", 0)] = Field(0, description="0: all memories")
    force: Annotated[bool, switch("force")] = Field(
        False, description="Without effect: all are embedded again either way"
    )
    provider: Provider | None = None
    model: Annotated[str | None, label("model", 200)] = None
    dimension: Annotated[int, Field(ge=1, le=_MOST_DIMENSIONS)] | None = None


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Checks that a model can be opened, as the embedding roles will do; one at a time.

    `live` gives the generation that searches use, whose values stand in for those that a
    request leaves out, as in the run.
    """

    settings: EmbeddingSettings
    live: Callable[[], Awaitable[Generation | None]]
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def named(self, requested: Mapping[str, Any]) -> None:
        """Raises: InvalidInput with the reason why it cannot be opened, or is another one."""
        live, model = await self.live(), requested.get("model")
        async with self._one_at_a_time():
            provider, opened = await open_requested(self.settings, live, requested)
            await opened.close()
        # Behind an @ stands the size that a model was shortened to.
        if model is not None and opened.name.partition("@")[0] != model.partition("@")[0]:
            raise InvalidInput(f"'model': {provider} serves {opened.name}, not {model}")

    async def generation(self, generation: Generation) -> None:
        """Raises: InvalidInput as `named` does."""
        async with self._one_at_a_time():
            await (await open_generation(self.settings, generation)).close()

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        async with self._checking:
            try:
                yield
            except ConfigError as error:
                raise InvalidInput(str(error)) from error


class ReembeddedAnswer(RunResultAnswer):
    """How many were embedded again."""

    status: str
    processed: int
    failed: int
    total: int
    batch_size: int | None
    metadata_preserved: bool
    message: Absent[str] = None
    generation: Absent[str] = None

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the run's result, with AutoMem's message where there was nothing to do."""
        answer = super().of(run)
        if not answer.total:
            answer.message = "No memories found to reembed"
        return answer


MODELS: web.AppKey[ModelCheck] = web.AppKey("models", ModelCheck)
ROUTES = Routes(scope="admin", group="operations", query=(WAIT,), answers=RUN_ANSWERS)


@ROUTES.add(
    "POST",
    "/admin/sync",
    "Compare graph and vectors, and repair what differs",
    body=SyncIn,
    returns=SyncedAnswer | AcceptedAnswer,
)
async def sync(request: web.Request) -> web.Response:
    body = await read_model(request, SyncIn, optional=True)
    parameters = {**body.model_dump(exclude_none=True), "repair": not body.dry_run}
    return await start_run(request, "drift", parameters, SyncedAnswer, dry_run=body.dry_run)


@ROUTES.add(
    "POST",
    "/admin/reembed",
    "Embed all memories again, with the same model or another",
    body=ReembedIn,
    returns=ReembeddedAnswer | AcceptedAnswer,
)
async def reembed(request: web.Request) -> web.Response:
    body = await read_model(request, ReembedIn, optional=True)
    request.app[RUNS].demand_stores()
    parameters = body.model_dump(exclude_none=True)
    if {"provider", "model", "dimension"} & parameters.keys():
        await request.app[MODELS].named(parameters)
    return await start_run(request, "reembed", parameters, ReembeddedAnswer)
