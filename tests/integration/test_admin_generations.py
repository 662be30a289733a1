"""/admin/generations: which collection serves, going back to another, dropping one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from shared.graph.store import GraphStore
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.vectors import VectorStore
from shared.vectors.generation import Generation
from tests.support.stack.operating import Operations, operated
from tests.support.stores.graphs import TENANT
from tests.support.stores.vector_stores import MODEL, memory, new_store, point, settings, unit
from tests.support.workers.working import drained

PATH = "/admin/generations"


@pytest.fixture
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(settings(qdrant_url)) as store:
        yield store


@pytest.fixture
async def older(vectors: VectorStore) -> Generation:
    """A second generation, of a model that the tests' API can open."""
    return await vectors.generations.create("placeholder-16", 16, serial=2, provider="placeholder")


@pytest.fixture
async def admin(
    clients: RedisClients,
    store: GraphStore,
    streams: Mapping[Stage, Stream],
    vectors: VectorStore,
) -> AsyncIterator[Operations]:
    async with operated(clients, store, streams, generations=vectors.generations) as started:
        yield started


async def test_each_is_listed_with_its_state_and_size(
    admin: Operations, vectors: VectorStore, older: Generation
) -> None:
    await vectors.upsert("a", [point("a", memory(), unit(1))])
    await vectors.upsert("b", [point("b", memory(), unit(1))])
    first, second = (await admin.asks("GET", PATH))["generations"]
    assert (first["state"], first["model"], first["points"]) == ("live", MODEL, 2)
    assert (second["name"], second["state"]) == (older.collection, "old")
    assert (second["provider"], second["dimension"], second["number"]) == ("placeholder", 16, 2)
    await vectors.generations.fill(older)
    assert (await admin.asks("GET", PATH))["generations"][1]["state"] == "next"


async def test_activating_is_a_run(admin: Operations, older: Generation) -> None:
    body = await admin.asks("POST", f"{PATH}/{older.collection}/activate?wait=false", 202)
    run = await admin.graph.runs.get(TENANT, body["run_id"])
    assert run is not None
    assert (run.task, run.request) == ("reembed", {"generation": older.collection})
    await drained(admin.streams[Stage.SYNC])


async def test_a_model_that_cannot_be_opened_is_not_activated(
    admin: Operations, vectors: VectorStore
) -> None:
    made = await vectors.generations.create("lost-model", 16, serial=3, provider="openai")
    body = await admin.asks("POST", f"{PATH}/{made.collection}/activate", 400)
    assert "OPENAI_API_KEY" in body["error"]
    assert await admin.graph.runs.latest(TENANT) == []


async def test_an_old_one_is_dropped(
    admin: Operations, vectors: VectorStore, older: Generation
) -> None:
    body = await admin.asks("POST", f"{PATH}/{older.collection}/drop")
    assert body == {"status": "success", "dropped": older.collection}
    assert older not in await vectors.generations.all()
    await admin.asks("POST", f"{PATH}/{older.collection}/drop", 404)


async def test_one_in_use_is_not_dropped(
    admin: Operations, vectors: VectorStore, older: Generation
) -> None:
    await vectors.generations.fill(older)
    live = vectors.live.generation
    assert live is not None
    for used in (older, live):
        await admin.asks("POST", f"{PATH}/{used.collection}/drop", 409)
    assert len(await vectors.generations.all()) == 2


@pytest.mark.parametrize("verb", ["activate", "drop"])
async def test_an_unknown_one_is_not_found(
    admin: Operations, vectors: VectorStore, verb: str
) -> None:
    live = vectors.live.generation
    assert live is not None
    for name in ("nothing", f"{live.collection}__x", f"{live.collection}%2F..%2Fx"):
        await admin.asks("POST", f"{PATH}/{name}/{verb}", 404)
