"""/admin/generations: list the vector collections, activate one, drop one.

They hold the points of all tenants. Activating is a run: it embeds what the generation missed
before searches use it.
"""

from __future__ import annotations

from aiohttp import web

from services.api.http.answers import Answer, NoneIfEmpty, Success, attribute, json_answer
from services.api.http.route import Routes
from services.api.operations.runs import RUN_ANSWERS, RUNS, WAIT, AcceptedAnswer, start_run
from services.api.operations.vectors import MODELS, ReembeddedAnswer
from shared.domain.memory import check_text
from shared.vectors.generation import Generation, Generations, GenerationState

GENERATIONS: web.AppKey[Generations] = web.AppKey("generations", Generations)


class GenerationAnswer(Answer):
    """One vector collection."""

    name: str = attribute("generation", "collection")
    state: GenerationState
    # Null where the generation was made before its provider was recorded.
    provider: NoneIfEmpty = attribute("generation", "provider")
    model: str = attribute("generation", "model")
    dimension: int = attribute("generation", "dimension")
    number: int = attribute("generation", "serial")
    points: int


class GenerationListAnswer(Success):
    """Oldest first."""

    generations: list[GenerationAnswer]
    count: int


class DroppedAnswer(Success):
    """What was dropped."""

    dropped: str


ROUTES = Routes(scope="admin", group="operations")


@ROUTES.add(
    "GET",
    "/admin/generations",
    "The vector collections with their models, oldest first",
    returns=GenerationListAnswer,
)
async def list_generations(request: web.Request) -> web.Response:
    found = await request.app[GENERATIONS].listed()
    answer = {"generations": found, "count": len(found)}
    return json_answer(GenerationListAnswer.model_validate(answer))


@ROUTES.add(
    "POST",
    "/admin/generations/{name}/activate",
    "Bring a generation up to date, and let it serve",
    query=(WAIT,),
    answers=RUN_ANSWERS,
    returns=ReembeddedAnswer | AcceptedAnswer,
)
async def activate_generation(request: web.Request) -> web.Response:
    request.app[RUNS].demand_stores()
    generation = await _named(request)
    await request.app[MODELS].generation(generation)
    parameters = {"generation": generation.collection}
    return await start_run(request, "reembed", parameters, ReembeddedAnswer)


@ROUTES.add(
    "POST",
    "/admin/generations/{name}/drop",
    "Delete a generation that neither serves nor is being filled",
    answers={200: "Dropped", 409: "It is live, or being filled"},
    returns=DroppedAnswer,
)
async def drop_generation(request: web.Request) -> web.Response:
    dropped = await _named(request)
    await request.app[GENERATIONS].drop(dropped)
    return json_answer(DroppedAnswer(dropped=dropped.collection))


async def _named(request: web.Request) -> Generation:
    name = check_text(request.match_info["name"], "name")
    return await request.app[GENERATIONS].named(name)
