"""POST /admin/reembed: make all vectors again, with the same model or with another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from services.api.http.answer_schemas import shape
from services.api.http.body import read_body
from services.api.http.middleware import TENANT
from services.api.http.query import flag
from services.api.http.route import Route
from services.api.http.validation import AbsentBody, clamped, parse_optional, switch, validate
from services.api.memory.requests import label
from services.api.operations.runs import RUN_ANSWERS, RUNS, WAIT, run_answer
from services.api.operations.sync import MAX_BATCH
from shared.config import EmbeddingSettings
from shared.errors import ConfigError, InvalidInput
from shared.graph.upkeep.runs import Run
from shared.models.embedding import EmbeddingModel
from shared.models.open import chosen_provider, named, open_embedding
from shared.vectors.active_model import open_generation
from shared.vectors.generation import Generation

_MOST_DIMENSIONS = 65_536  # Qdrant's own limit
Provider = Literal["local", "openai", "ollama", "voyage", "placeholder"]


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


class ModelCheck:
    """Whether a model can be opened here, as the embedding roles will have to; one at a time.

    `live` is asked for what a request leaves unsaid, as the run will do.
    """

    def __init__(
        self, settings: EmbeddingSettings, live: Callable[[], Awaitable[Generation | None]]
    ) -> None:
        self._settings = settings
        self._live = live
        self._checking = asyncio.Lock()

    async def named(self, provider: str | None, model: str | None, dimension: int | None) -> None:
        """Raises: InvalidInput with the reason why it cannot be opened, or is another one."""
        live = await self._live()
        served = live.provider if live else ""
        provider = provider or served or chosen_provider(self._settings)
        wanted, preferred = model, None
        if live and provider == served and model in (None, live.model):
            wanted, preferred = live.model, live.dimension
        name = await self._opens(
            lambda: open_embedding(
                named(self._settings, provider, wanted), dimension, preferred=preferred
            )
        )
        if model is not None and _bare(name) != _bare(model):
            raise InvalidInput(f"'model': {provider} serves {name}, not {model}")

    async def generation(self, wanted: Generation) -> None:
        """Raises: InvalidInput as `named` does."""
        await self._opens(lambda: open_generation(self._settings, wanted))

    async def _opens(self, opening: Callable[[], Awaitable[EmbeddingModel]]) -> str:
        async with self._checking:
            try:
                opened = await opening()
            except ConfigError as error:
                raise InvalidInput(str(error)) from error
            await opened.close()
        return opened.name


def _bare(model: str) -> str:
    """Without the size that a model was shortened to."""
    return model.partition("@")[0]


# -- HTTP -------------------------------------------------------------------------------

MODELS: web.AppKey[ModelCheck] = web.AppKey("models", ModelCheck)


async def reembed(request: web.Request) -> web.Response:
    body = validate(ReembedIn, parse_optional(await read_body(request)))
    wait = flag(request.query, "wait", default=True)
    request.app[RUNS].demand_stores()
    asked = body.model_dump(exclude_none=True)
    if {"provider", "model", "dimension"} & asked.keys():
        await request.app[MODELS].named(body.provider, body.model, body.dimension)
    run = await request.app[RUNS].start(request[TENANT], "reembed", asked)
    return await run_answer(request, run, reembed_json, wait=wait)


def reembed_json(run: Run) -> Mapping[str, Any]:
    """The seed's summary; AutoMem tells besides where there was nothing to do."""
    result = run.result or {}
    nothing = {} if result.get("total") else {"message": "No memories found to reembed"}
    return {**result, **nothing}


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/admin/reembed",
        reembed,
        "Embed all memories again, with the same model or another",
        scope="admin",
        body=ReembedIn,
        query=(WAIT,),
        answers=RUN_ANSWERS,
        returns=shape("Reembedded"),
        group="operations",
    ),
)
