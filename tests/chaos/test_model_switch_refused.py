"""A switch to a provider that refuses a text, or is down for a while."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from shared.graph.upkeep.runs import RunState
from shared.streams.job import Stage
from tests.chaos.conftest import StartStack
from tests.chaos.test_model_switch import LOCAL, filled, holds_all, live
from tests.support.providers import scripted
from tests.support.providers.scripted import Provider, embeddings
from tests.support.stack.reembedding import back
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos
COUNT = 60
REFUSED = "The unspeakable word is in this one."
SCRIPTED = {"provider": "openai", "model": "scripted"}
NO_CHAT = {"CLASSIFICATION_MODEL": "none"}


class Moody:
    """Answers as OpenAI does but for one text; while `down`, only what opens a model."""

    def __init__(self) -> None:
        self.down = False
        self.refused = 0

    def __call__(self, request: web.Request, body: dict[str, Any]) -> Any:
        if self.down and body["input"] != ["dimension"]:
            self.refused += 1
            return web.json_response({"error": {"message": "down"}}, status=503)
        if any(REFUSED in text for text in body["input"]):
            return web.json_response({"error": {"message": "refused"}}, status=400)
        return embeddings(8)(request, body)


async def test_only_the_refused_memory_is_left_out(start: StartStack) -> None:
    async with scripted.running(Provider(Moody())) as provider:
        stack = await start({**LOCAL, "OPENAI_BASE_URL": provider.url})
        async with stack.client() as client, back(stack) as stores:
            await filled(stack, client, COUNT)
            refused = await client.stored(REFUSED)
            await stack.stores().all_done(COUNT + 1)
            ended = await stores.ended(await stores.start(SCRIPTED))
            assert ended.state is RunState.COMPLETE, ended
            assert ended.result is not None
            told = {"total": COUNT + 1, "processed": COUNT, "failed": 1, "failed_ids": [refused]}
            assert told.items() <= ended.result.items()
            assert (await live(stores)).model == "scripted"
            assert await stores.vectors.count("default") == COUNT
            # It is not lost: it is shown as failed, and words still find it.
            counts = await stores.graph.memories.counts("default")
            assert counts.failed[Stage.EMBED] == 1
            assert refused in await client.recalled("unspeakable word")


async def test_a_provider_that_is_down_delays_the_switch_and_nothing_else(
    start: StartStack,
) -> None:
    moody = Moody()
    async with scripted.running(Provider(moody)) as provider:
        stack = await start({**LOCAL, "OPENAI_BASE_URL": provider.url})
        async with stack.client() as client, back(stack) as stores:
            await filled(stack, client, COUNT)
            moody.down = True
            run = await stores.start(SCRIPTED)
            await wait_until(lambda: moody.refused > 0, "it was asked in vain")
            fresh = await client.stored("A note that is written while the next provider is down.")
            await stack.stores().all_done(COUNT + 1)
            assert (await live(stores)).dimension == 384
            moody.down = False
            ended = await stores.ended(run)
            assert ended.state is RunState.COMPLETE, ended
            assert ended.result is not None
            assert ended.result["failed"] == 0
            await stack.stores().all_done(COUNT + 1)
            await holds_all(stores, await live(stores))
            assert await client.memory(fresh)


async def test_a_restart_after_the_switch_and_the_drop_serves_on(start: StartStack) -> None:
    """The settings still name the model of which nothing is left."""
    async with scripted.running(Provider(embeddings(8))) as provider:
        given = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_MODEL": "scripted"}
        stack = await start({**given, "OPENAI_BASE_URL": provider.url, **NO_CHAT})
        async with stack.client() as client, back(stack) as stores:
            await filled(stack, client, COUNT)
            old = await live(stores)
            ended = await stores.ended(await stores.start({"provider": "local"}))
            assert ended.state is RunState.COMPLETE, ended
            await stores.vectors.generations.drop(old)
            await stack.killed_and_back("embedder", "api")
            fresh = await client.stored("A note that is written after the restart.")
            await stack.stores().all_done(COUNT + 1)
            assert (await live(stores)).dimension == 384
            await holds_all(stores, await live(stores))
            assert fresh in await client.recalled("note written after the restart")
