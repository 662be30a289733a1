"""A switch to a provider that refuses a text, or is down for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from shared.graph.upkeep.runs import RunState
from shared.streams.job import Stage
from tests.chaos.test_model_switch import LOCAL, ROLES, filled, holds_all, live, memories
from tests.support.providers import scripted
from tests.support.providers.scripted import Provider, embeddings
from tests.support.stack.reembedding import back
from tests.support.stack.stack import Stack, running
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos
COUNT = 60
REFUSED = "The unspeakable word is in this one."
REFUSING, DOWN, LEFT = (
    {"provider": "openai", "model": name} for name in ("refusing", "down", "left")
)


class Moody:
    """Answers as OpenAI does, but `refusing` refuses one text; while `down`, only opens a model."""

    def __init__(self) -> None:
        self.down = False
        self.refused = 0

    def __call__(self, request: web.Request, body: dict[str, Any]) -> Any:
        if self.down and body["model"] == DOWN["model"] and body["input"] != ["dimension"]:
            self.refused += 1
            return web.json_response({"error": {"message": "down"}}, status=503)
        if body["model"] == REFUSING["model"] and any(REFUSED in text for text in body["input"]):
            return web.json_response({"error": {"message": "refused"}}, status=400)
        return embeddings(8)(request, body)


@pytest.fixture(scope="module")
def moody() -> Moody:
    return Moody()


@pytest.fixture(scope="module")
async def switching(moody: Moody, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Filled once; a test begins with the model that another one has left, and takes its own."""
    folder = tmp_path_factory.mktemp("switch") / "stack"
    async with (
        scripted.running(Provider(moody)) as provider,
        running(folder, {**LOCAL, "OPENAI_BASE_URL": provider.url}, *ROLES) as stack,
    ):
        async with stack.client() as client:
            await filled(stack, client, COUNT)
        yield stack


async def test_only_the_refused_memory_is_left_out(switching: Stack) -> None:
    async with switching.client() as client, back(switching) as stores:
        count = await memories(switching)
        refused = await client.stored(REFUSED)
        await switching.stores().all_done(count + 1)
        ended = await stores.ended(await stores.start(REFUSING))
        assert ended.state is RunState.COMPLETE, ended
        assert ended.result is not None
        expected = {"total": count + 1, "processed": count, "failed": 1, "failed_ids": [refused]}
        assert expected.items() <= ended.result.items()
        assert (await live(stores)).model == REFUSING["model"]
        assert await stores.vectors.count("default") == count
        # It is not lost: it is shown as failed, and words still find it.
        counts = await stores.graph.memories.counts("default")
        assert counts.failed[Stage.EMBED] == 1
        assert refused in await client.recalled("unspeakable word")
        assert (await client.delete(refused)).status == 200


async def test_a_provider_that_is_down_delays_the_switch_and_nothing_else(
    switching: Stack, moody: Moody
) -> None:
    async with switching.client() as client, back(switching) as stores:
        count, first = await memories(switching), await live(stores)
        moody.down = True
        run = await stores.start(DOWN)
        await wait_until(lambda: moody.refused > 0, "the provider refused it")
        fresh = await client.stored("A note that is written while the next provider is down.")
        await switching.stores().all_done(count + 1)
        assert await live(stores) == first
        moody.down = False
        ended = await stores.ended(run)
        assert ended.state is RunState.COMPLETE, ended
        assert ended.result is not None
        assert ended.result["failed"] == 0
        await switching.stores().all_done(count + 1)
        serving = await live(stores)
        assert serving.model == DOWN["model"]
        await holds_all(stores, serving)
        assert await client.memory(fresh)


async def test_a_restart_after_the_switch_and_the_drop_serves_on(switching: Stack) -> None:
    """The settings still name the model of which nothing is left."""
    async with switching.client() as client, back(switching) as stores:
        count = await memories(switching)
        ended = await stores.ended(await stores.start(LEFT))
        assert ended.state is RunState.COMPLETE, ended
        serving = await live(stores)
        for generation in await stores.vectors.generations.all():
            if generation != serving:
                await stores.vectors.generations.drop(generation)
        await switching.killed_and_back("embedder", "api")
        fresh = await client.stored("A note that is written after the restart.")
        await switching.stores().all_done(count + 1)
        assert await live(stores) == serving
        assert serving.model == LEFT["model"]
        await holds_all(stores, serving)
        assert fresh in await client.recalled("note written after the restart")
