"""/admin/generations: which collection serves, going back to another, dropping one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.connection import RedisClients
from shared.job import Stage
from shared.vectors import VectorStore
from shared.vectors.generation import Generation
from tests.conftest import MakeStream
from tests.graphs import TENANT, graph_settings, opened
from tests.operating import Operations, operated
from tests.stores import running_qdrant
from tests.vector_stores import MODEL, memory, new_store, point, settings, unit
from tests.working import drained

PATH = "/admin/generations"


@pytest.fixture(scope="module")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant")) as url:
        yield url


@pytest.fixture
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(settings(qdrant_url)) as store:
        yield store


@pytest.fixture
async def older(vectors: VectorStore) -> Generation:
    """A second generation, of a model that the tests' API can open."""
    return await vectors.generations.create("placeholder-16", 16, serial=2, provider="placeholder")


@pytest.fixture
async def api(
    clients: RedisClients, make_stream: MakeStream, falkordb_url: str, vectors: VectorStore
) -> AsyncIterator[Operations]:
    streams = {stage: make_stream(stage) for stage in Stage}
    async with (
        opened(graph_settings(falkordb_url)) as graph,
        operated(clients, graph, streams, generations=vectors.generations) as started,
    ):
        yield started


async def test_each_is_listed_with_its_state_and_size(
    api: Operations, vectors: VectorStore, older: Generation
) -> None:
    await vectors.upsert("a", [point("a", memory(), unit(1))])
    await vectors.upsert("b", [point("b", memory(), unit(1))])
    first, second = (await api.asks("GET", PATH))["generations"]
    assert (first["state"], first["model"], first["points"]) == ("live", MODEL, 2)
    assert (second["name"], second["state"]) == (older.collection, "old")
    assert (second["provider"], second["dimension"], second["number"]) == ("placeholder", 16, 2)
    await vectors.generations.fill(older)
    assert (await api.asks("GET", PATH))["generations"][1]["state"] == "next"


async def test_activating_is_a_run(api: Operations, older: Generation) -> None:
    body = await api.asks("POST", f"{PATH}/{older.collection}/activate?wait=false", 202)
    run = await api.graph.runs.get(TENANT, body["run_id"])
    assert run is not None
    assert (run.task, run.request) == ("reembed", {"generation": older.collection})
    await drained(api.streams[Stage.SYNC])


async def test_a_model_that_cannot_be_opened_is_not_activated(
    api: Operations, vectors: VectorStore
) -> None:
    made = await vectors.generations.create("lost-model", 16, serial=3, provider="openai")
    body = await api.asks("POST", f"{PATH}/{made.collection}/activate", 400)
    assert "OPENAI_API_KEY" in body["error"]
    assert await api.graph.runs.latest(TENANT) == []


async def test_an_old_one_is_dropped(
    api: Operations, vectors: VectorStore, older: Generation
) -> None:
    body = await api.asks("POST", f"{PATH}/{older.collection}/drop")
    assert body == {"status": "success", "dropped": older.collection}
    assert older not in await vectors.generations.all()
    await api.asks("POST", f"{PATH}/{older.collection}/drop", 404)


async def test_one_in_use_is_not_dropped(
    api: Operations, vectors: VectorStore, older: Generation
) -> None:
    await vectors.generations.fill(older)
    live = vectors.live
    assert live is not None
    for used in (older, live):
        await api.asks("POST", f"{PATH}/{used.collection}/drop", 409)
    assert len(await vectors.generations.all()) == 2


@pytest.mark.parametrize("verb", ["activate", "drop"])
async def test_an_unknown_one_is_not_found(
    api: Operations, vectors: VectorStore, verb: str
) -> None:
    live = vectors.live
    assert live is not None
    for name in ("nothing", f"{live.collection}__x", f"{live.collection}%2F..%2Fx"):
        await api.asks("POST", f"{PATH}/{name}/{verb}", 404)
