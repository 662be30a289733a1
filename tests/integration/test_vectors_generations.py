"""Generations: made once however many start, refused to another model, switched at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from qdrant_client import AsyncQdrantClient, models

from shared.config import VectorSettings
from shared.errors import ConfigError, PermanentError, Unavailable
from shared.vectors import VectorQuery, VectorStore
from shared.vectors.points import PAYLOAD_INDEXES
from tests.support.stores.qdrant_server import QdrantProcess
from tests.support.stores.vector_stores import (
    DIMENSION,
    MODEL,
    memory,
    new_store,
    point,
    settings,
    unit,
)
from tests.support.waiting.conditions import wait_until


@pytest.fixture
def given(qdrant_url: str) -> VectorSettings:
    return settings(qdrant_url)


@pytest.fixture
async def client(qdrant_url: str) -> AsyncIterator[AsyncQdrantClient]:
    opened = AsyncQdrantClient(url=qdrant_url, check_compatibility=False)
    yield opened
    await opened.close()


async def test_five_processes_starting_at_once_make_one_generation(given: VectorSettings) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(new_store(given, opened=False)) for _ in range(5)]
        opened = await asyncio.gather(*(store.live.open(MODEL, DIMENSION) for store in stores))
        assert {each.collection for each in opened} == {f"{given.collection}__{MODEL}__1"}
        assert await stores[0].generations.all() == [opened[0]]
        known = memory()
        await stores[1].upsert("a", [point("a", known, unit(1))])
        assert await stores[4].count("a") == 1


async def test_every_filtered_key_is_indexed(
    given: VectorSettings, client: AsyncQdrantClient
) -> None:
    async with new_store(given):
        state = await client.get_collection(given.collection)  # by its alias
    assert state.payload_schema.keys() == PAYLOAD_INDEXES.keys()


async def test_a_missing_index_is_made(given: VectorSettings, client: AsyncQdrantClient) -> None:
    """As after a crash between the collection and its last index."""
    unindexed = given.model_copy(update={"ensure_indexes": False})
    async with new_store(unindexed), new_store(given, opened=False) as second:
        await client.create_payload_index(
            given.collection, "tenant", models.PayloadSchemaType.KEYWORD, wait=True
        )
        assert (await client.get_collection(given.collection)).payload_schema.keys() == {"tenant"}
        await second.live.open(MODEL, DIMENSION)
        state = await client.get_collection(given.collection)
        assert state.payload_schema.keys() == PAYLOAD_INDEXES.keys()


@pytest.mark.parametrize(("model", "dimension"), [("other", DIMENSION), (MODEL, 16)])
async def test_a_model_that_fits_no_generation_is_refused(
    given: VectorSettings, model: str, dimension: int
) -> None:
    async with new_store(given), new_store(given, opened=False) as second:
        with pytest.raises(ConfigError, match="EMBEDDING_MODEL") as caught:
            await second.live.open(model, dimension)
        assert model in str(caught.value)
        assert MODEL in str(caught.value)


async def test_a_role_without_a_model_takes_the_live_generation(given: VectorSettings) -> None:
    async with new_store(given, opened=False) as reader, new_store(given, opened=False) as writer:
        with pytest.raises(Unavailable):
            await reader.live.attach()
        made = await writer.live.open(MODEL, DIMENSION)
        assert await reader.live.attach() == made


async def test_a_switch_moves_the_alias_and_keeps_the_old(given: VectorSettings) -> None:
    async with new_store(given) as store:
        old = store.live.generation
        assert old is not None
        new = await store.generations.create("other/Model v2", 16, serial=2)
        assert new.collection == f"{given.collection}__other-model-v2__2"
        assert await store.generations.live() == old
        with pytest.raises(PermanentError, match="live"):
            await store.generations.drop(old)
        await store.generations.activate(new)
        assert await store.generations.live() == new
        assert await store.generations.all() == [old, new]
        assert await store.count("a") == 0  # this process serves the old one until `use`
        store.live.use(new)
        await store.generations.activate(old)  # rolled back
        await store.generations.drop(new)
        assert await store.generations.all() == [old]


async def test_a_name_taken_by_another_model_is_refused(given: VectorSettings) -> None:
    async with new_store(given) as store:
        with pytest.raises(ConfigError, match="QDRANT_COLLECTION"):
            await store.generations.create(MODEL.upper(), DIMENSION, serial=1)


async def test_a_plain_collection_of_the_aliass_name_is_reported(
    given: VectorSettings, client: AsyncQdrantClient
) -> None:
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    await client.create_collection(given.collection, vectors_config={"dense": params})
    async with new_store(given, opened=False) as store:
        with pytest.raises(ConfigError, match="QDRANT_COLLECTION"):
            await store.live.open(MODEL, DIMENSION)
    await client.delete_collection(given.collection)


async def test_an_alias_of_a_foreign_collection_is_reported(
    given: VectorSettings, client: AsyncQdrantClient
) -> None:
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    await client.create_collection(f"{given.collection}-foreign", vectors_config={"dense": params})
    alias = models.CreateAlias(
        collection_name=f"{given.collection}-foreign", alias_name=given.collection
    )
    await client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    async with new_store(given, opened=False) as store:
        with pytest.raises(ConfigError, match="did not make"):
            await store.live.open(MODEL, DIMENSION)
    await client.delete_collection(f"{given.collection}-foreign")


async def test_a_collection_that_vanished_is_made_again(
    given: VectorSettings, client: AsyncQdrantClient
) -> None:
    """Someone emptied Qdrant: the next calls make the generation anew, repair fills it."""
    async with new_store(given) as store:
        await client.delete_collection(f"{given.collection}__{MODEL}__1")
        with pytest.raises(Unavailable, match="gone"):
            await store.count("a")
        await wait_until(lambda: answers(store), description="a new generation")
        assert await store.count("a") == 0


async def test_a_store_that_is_down_is_unavailable_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = QdrantProcess(tmp_path_factory.mktemp("killed"))
    server.start()
    try:
        async with new_store(settings(server.url)) as store:
            known = memory()
            await store.upsert("a", [point("a", known, unit(1))])
            server.kill()
            for call in (store.ping(), store.count("a"), store.delete("a", [known.id])):
                with pytest.raises(Unavailable) as caught:
                    await call
                assert caught.value.dependency == "vectors"
            await asyncio.to_thread(server.start)
            await store.ping()
            (hits,) = await store.search("a", [VectorQuery("dense", unit(1), 5)])
            assert [hit.id for hit in hits] == [known.id]
    finally:
        server.kill()


async def test_opened_while_down_it_opens_itself_later(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = QdrantProcess(tmp_path_factory.mktemp("late"))
    server.start()
    server.kill()
    async with new_store(settings(server.url), opened=False) as store:
        with pytest.raises(Unavailable):
            await store.count("a")
        with pytest.raises(Unavailable):
            await store.live.open(MODEL, DIMENSION)
        await asyncio.to_thread(server.start)
        try:
            await wait_until(lambda: answers(store), description="the store opened itself")
        finally:
            server.kill()


async def answers(store: VectorStore) -> bool:
    try:
        await store.count("a")
    except Unavailable:
        return False
    return True
