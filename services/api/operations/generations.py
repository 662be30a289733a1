"""/admin/generations: the vector collections, which of them serves, going back, dropping.

They hold the points of all tenants. Activating is a run: what the other generation missed
meanwhile is brought up to date before it serves.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.query import flag
from services.api.http.route import Route
from services.api.operations.reembed import MODELS, reembed_json
from services.api.operations.runs import RUN_ANSWERS, RUNS, WAIT, run_answer
from shared.domain.memory import check_text
from shared.vectors.generation import Generation, Generations, ListedGeneration

GENERATIONS: web.AppKey[Generations] = web.AppKey("generations", Generations)


def generation_json(listed: ListedGeneration) -> dict[str, Any]:
    each = listed.generation
    return {
        "name": each.collection,
        "state": listed.state.value,
        "provider": each.provider or None,
        "model": each.model,
        "dimension": each.dimension,
        "number": each.serial,
        "points": listed.points,
    }


async def list_generations(request: web.Request) -> web.Response:
    rows = [generation_json(each) for each in await request.app[GENERATIONS].listed()]
    return json_answer({"status": "success", "generations": rows, "count": len(rows)})


async def activate_generation(request: web.Request) -> web.Response:
    wait = flag(request.query, "wait", default=True)
    request.app[RUNS].demand_stores()
    wanted = await _named(request)
    await request.app[MODELS].generation(wanted)
    asked = {"generation": wanted.collection}
    run = await request.app[RUNS].start(request[TENANT], "reembed", asked)
    return await run_answer(request, run, reembed_json, wait=wait)


async def drop_generation(request: web.Request) -> web.Response:
    dropped = await _named(request)
    await request.app[GENERATIONS].drop(dropped)
    return json_answer({"status": "success", "dropped": dropped.collection})


async def _named(request: web.Request) -> Generation:
    name = check_text(request.match_info["name"], "name")
    return await request.app[GENERATIONS].named(name)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/admin/generations",
        list_generations,
        "The vector collections with their models, oldest first",
        scope="admin",
        returns=shape("GenerationList"),
        group="operations",
    ),
    Route(
        "POST",
        "/admin/generations/{name}/activate",
        activate_generation,
        "Bring a generation up to date, and let it serve",
        scope="admin",
        query=(WAIT,),
        answers=RUN_ANSWERS,
        returns=shape("Reembedded"),
        group="operations",
    ),
    Route(
        "POST",
        "/admin/generations/{name}/drop",
        drop_generation,
        "Delete a generation that neither serves nor is being filled",
        scope="admin",
        answers={200: "Dropped", 409: "It is live, or being filled"},
        returns=shape("Dropped"),
        group="operations",
    ),
)
