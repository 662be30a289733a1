"""Serving: which model a process embeds with, and how it follows the aliases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config import EmbeddingSettings, VectorSettings
from shared.errors import ConfigError, Conflict, NotFound, Unavailable
from shared.models.providers.placeholder import PlaceholderEmbedding
from shared.vectors import Generation, GenerationState, VectorStore
from shared.vectors.active_model import ModelFollower
from tests.support.stores.vector_stores import memory, new_store, point, settings, unit
from tests.support.waiting.conditions import wait_until


@pytest.fixture
def given(qdrant_url: str) -> VectorSettings:
    return settings(qdrant_url)


def embedding(**variables: Any) -> EmbeddingSettings:
    return EmbeddingSettings(_env_file=None, EMBEDDING_PROVIDER="placeholder", **variables)


@asynccontextmanager
async def serving(given: VectorSettings, dimension: int) -> AsyncIterator[ModelFollower]:
    """A process configured for a model of that dimension, not opened yet."""
    async with new_store(given, opened=False) as store:
        made = ModelFollower(store, embedding(), PlaceholderEmbedding(dimension))
        try:
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def following(served: ModelFollower) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(served.run(stopping), name="following")
    try:
        yield
    finally:
        stopping.set()
        await task


async def other(
    store: VectorStore, dimension: int = 16, *, serial: int = 2, provider: str = "placeholder"
) -> Generation:
    return await store.generations.create(
        f"placeholder-{dimension}", dimension, serial=serial, provider=provider
    )


async def replace_live(served: ModelFollower, second: Generation) -> None:
    """Serve `second` from now on; what served before is dropped."""
    generations, before = served._vectors.generations, served.live.generation
    assert before is not None
    await generations.activate(second)
    await generations.drop(before)


async def test_the_first_one_makes_the_generation_of_its_model(given: VectorSettings) -> None:
    async with serving(given, 8) as served:
        await served.open()
        live, filling = await served.current()
        assert filling is None
        assert live.generation is not None
        assert (live.generation.model, live.generation.provider) == ("placeholder-8", "placeholder")


async def test_it_opens_the_next_model_and_swaps_at_the_switch(given: VectorSettings) -> None:
    async with serving(given, 8) as served, new_store(given, opened=False) as outside:
        await served.open()
        second = await other(outside)
        async with following(served):
            await outside.generations.fill(second)
            await wait_until(lambda: seen(served)["next"], "the next model is open")
            assert served.next is not None
            assert (served.next.model.dimension, served.next.generation) == (16, second)
            assert served.live.model.dimension == 8
            await outside.generations.activate(second)
            await wait_until(lambda: served.live.generation == second, "it switched")
        assert seen(served)["model"] == "placeholder-16"
        assert seen(served)["next"] is None
        assert served._vectors.live.generation == second
        assert await outside.generations.next() is None


async def test_a_start_loads_the_live_model_if_an_older_generation_is_the_configured_ones(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as first, serving(given, 8) as later:
        await first.open()
        second = await other(first._vectors)
        await first._vectors.generations.activate(second)
        await later.open()
        live, _ = await later.current()
        assert (live.generation, live.model.dimension) == (second, 16)


async def test_a_start_is_refused_if_no_generation_is_of_the_configured_model(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as first, serving(given, 32) as later:
        await first.open()
        nobody_knows = await first._vectors.generations.create("placeholder-16", 16, serial=2)
        await replace_live(first, nobody_knows)
        with pytest.raises(ConfigError, match="EMBEDDING_PROVIDER"):
            await later.open()


async def test_a_start_is_refused_if_the_only_generation_left_is_of_a_provider_without_a_key(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as first, serving(given, 8) as later:
        await first.open()
        await replace_live(first, await other(first._vectors, provider="voyage"))
        with pytest.raises(ConfigError, match=r"EMBEDDING_PROVIDER.*VOYAGE_API_KEY"):
            await later.open()


async def test_a_restart_serves_what_was_switched_to_though_the_old_one_was_dropped(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as first, serving(given, 8) as later:
        await first.open()
        second = await other(first._vectors)
        await replace_live(first, second)
        await later.open()
        live, _ = await later.current()
        assert (live.generation, live.model.dimension) == (second, 16)
        assert [each.collection for each in await later._vectors.generations.all()] == [
            second.collection
        ]


async def test_a_next_model_that_cannot_be_opened_is_reported_and_the_live_one_serves(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as served:
        await served.open()
        store = served._vectors
        second = await other(store, provider="voyage")
        async with following(served):
            await store.generations.fill(second)
            await wait_until(lambda: served.report()["not_opened"], "it is reported")
            assert "VOYAGE_API_KEY" in str(served.report()["not_opened"])
            live, filling = await served.current()
            assert (live.model.dimension, filling) == (8, None)
            await store.generations.activate(second)
            await wait_until(lambda: is_behind(served), "nobody writes to the old one")
        # Questions are still answered by what this process has.
        assert served.live.model.dimension == 8


def seen(served: ModelFollower) -> dict[str, object]:
    return served.report()


async def is_behind(served: ModelFollower) -> bool:
    try:
        await served.current()
    except Unavailable as error:
        return error.dependency == "embedding"
    return False


async def test_a_process_that_slept_looks_before_it_writes(given: VectorSettings) -> None:
    """Nobody follows here: as after SIGSTOP, the last look is long past."""
    async with serving(given, 8) as served, new_store(given, opened=False) as outside:
        await served.open()
        await outside.generations.activate(await other(outside))
        served._refreshed_at -= 60
        with pytest.raises(Unavailable):
            await served.current()


async def test_an_emptied_qdrant_is_begun_anew(given: VectorSettings) -> None:
    async with serving(given, 8) as served:
        await served.open()
        first = served.live.generation
        assert first is not None
        await served._vectors._client.delete_collection(first.collection)
        await served.refresh()
        assert await served._vectors.generations.live() == first
        assert await served._vectors.count("a") == 0


async def test_a_role_without_a_model_follows_the_alias(given: VectorSettings) -> None:
    async with serving(given, 8) as served, new_store(given, opened=False) as reader:
        await served.open()
        await reader.live.attach()
        second = await other(served._vectors)
        await served._vectors.generations.activate(second)

        async def followed() -> bool:
            await reader.count("a")
            return bool(reader.live.generation == second)

        await wait_until(followed, "the reader followed")


async def test_relating_looks_at_the_alias_each_time(given: VectorSettings) -> None:
    """Neighbours found in a generation that serves no more would stay."""
    async with serving(given, 8) as served, new_store(given, opened=False) as reader:
        await served.open()
        await reader.live.attach()
        second = await served._vectors.generations.create(
            "same-size", 8, serial=2, provider="placeholder"
        )
        known, near = memory(), memory()
        points = [point("a", known, unit(1)), point("a", near, unit(1, 0.1))]
        await served._vectors.upsert("a", points, generation=second)
        await served._vectors.generations.activate(second)
        found = await reader.neighbours("a", [known.id], limit=5, threshold=0.5)
        assert [hit.id for hit in found[known.id]] == [near.id]


async def test_listed_with_state_and_size_and_only_old_ones_are_dropped(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as served:
        await served.open()
        store, first = served._vectors, served.live.generation
        assert first is not None
        second, third = await other(store), await other(store, 32, serial=3)
        await store.generations.fill(second)
        await store.upsert("a", [point("a", memory(), unit(1))])
        listed = await store.generations.listed()
        assert [(each.generation, each.state, each.points) for each in listed] == [
            (first, GenerationState.LIVE, 1),
            (second, GenerationState.NEXT, 0),
            (third, GenerationState.OLD, 0),
        ]
        for kept, reason in ((first, "live"), (second, "filled")):
            with pytest.raises(Conflict, match=reason):
                await store.generations.drop(await store.generations.named(kept.collection))
        await store.generations.drop(third)
        with pytest.raises(NotFound):
            await store.generations.named(third.collection)
        with pytest.raises(NotFound):
            await store.generations.named("somebody-elses")


async def test_abandoning_leaves_the_live_one_and_what_another_fills(
    given: VectorSettings,
) -> None:
    async with serving(given, 8) as served:
        await served.open()
        generations = served._vectors.generations
        second, third = await other(served._vectors), await other(served._vectors, 32, serial=3)
        assert not await generations.abandon()
        await generations.fill(second)
        await generations.fill(third)  # instead of the other
        assert await generations.next() == third
        assert not await generations.abandon(second.collection)
        assert await generations.abandon(third.collection)
        assert await generations.next() is None
        assert await generations.live() == served.live.generation
