"""Collections, aliases and indexes, as Eunoe needs them of a Qdrant server.

The tests use the stock client, and hold for the embedded server and for Qdrant itself
(QDRANT_URL).
"""

import asyncio
from uuid import uuid4

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient, models

from tests.support.waiting.conditions import wait_until

from .support import (
    X,
    collection_names,
    create,
    nearest,
    point,
    refused,
)


class TestService:
    async def test_it_reports_a_version_the_client_accepts(self, qdrant_url: str) -> None:
        async with aiohttp.ClientSession() as http, http.get(qdrant_url) as response:
            body = await response.json()
        assert body["title"].startswith("qdrant")
        assert int(body["version"].split(".")[1]) >= 17

    async def test_it_is_ready(self, qdrant_url: str) -> None:
        async with aiohttp.ClientSession() as http, http.get(f"{qdrant_url}/readyz") as response:
            assert response.status == 200


class TestCollections:
    async def test_a_created_collection_shows_its_configuration(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        info = await client.get_collection(points)
        assert info.status == models.CollectionStatus.GREEN
        assert info.points_count == 0
        vectors = info.config.params.vectors
        assert isinstance(vectors, dict)
        assert (vectors["dense"].size, vectors["dense"].distance) == (4, models.Distance.COSINE)
        sparse_vectors = info.config.params.sparse_vectors
        assert sparse_vectors is not None
        assert sparse_vectors["bm25"].modifier == models.Modifier.IDF

    async def test_it_is_listed_until_deleted(self, client: AsyncQdrantClient, points: str) -> None:
        assert points in await collection_names(client)
        assert await client.delete_collection(points) is True
        assert points not in await collection_names(client)
        assert await client.delete_collection(points) is False

    async def test_a_deleted_name_starts_empty_again(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1)])
        await client.delete_collection(points)
        await create(client, points)
        assert (await client.count(points)).count == 0

    async def test_a_taken_name_is_refused(self, client: AsyncQdrantClient, points: str) -> None:
        assert f"Collection `{points}` already exists!" in await refused(
            409, create(client, points)
        )

    async def test_an_absent_collection_is_not_found(self, client: AsyncQdrantClient) -> None:
        text = await refused(404, client.get_collection("nowhere"))
        assert "Not found: Collection `nowhere` doesn't exist!" in text
        await refused(404, nearest(client, "nowhere", X))
        await refused(404, client.upsert("nowhere", [point(1)]))

    async def test_a_vector_without_size_is_refused(
        self, client: AsyncQdrantClient, name: str
    ) -> None:
        empty = models.VectorParams(size=0, distance=models.Distance.DOT)
        await refused(422, client.create_collection(name, vectors_config={"dense": empty}))
        assert name not in await collection_names(client)


class TestAliases:
    async def test_every_path_takes_an_alias(self, client: AsyncQdrantClient, points: str) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        await client.upsert(alias, [point(1, color="red")])
        assert (await client.count(alias)).count == 1
        assert (await client.get_collection(alias)).points_count == 1
        assert [hit.id for hit in await nearest(client, alias, X)] == [1]
        assert (await _aliases(client))[alias] == points

    async def test_one_call_switches_an_alias(self, client: AsyncQdrantClient, points: str) -> None:
        """A reader finds the old or the new collection at any time, and never none."""
        alias, second = f"alias-{uuid4().hex}", f"{points}-2"
        await create(client, second)
        await client.upsert(points, [point(1)])
        await client.upsert(second, [point(2)])
        await client.update_collection_aliases([_pointing(alias, points)])
        seen: set[object] = set()

        async def read() -> None:
            while 2 not in seen:
                seen.update(record.id for record in (await client.scroll(alias))[0])

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            await wait_until(lambda: _contains(seen, 1), "the old collection was read")
            await client.update_collection_aliases([_dropping(alias), _pointing(alias, second)])
        assert seen == {1, 2}
        await client.delete_collection(second)

    async def test_an_impossible_action_leaves_all_aliases(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        actions = (_dropping(alias), _pointing(alias, "nowhere"))
        await refused(404, client.update_collection_aliases(actions))
        assert (await _aliases(client))[alias] == points

    async def test_dropping_one(self, client: AsyncQdrantClient, points: str) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        await client.update_collection_aliases([_dropping(alias)])
        await refused(404, client.count(alias))

    async def test_a_deleted_collection_takes_its_aliases_along(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        await client.delete_collection(points)
        assert alias not in await _aliases(client)

    async def test_an_alias_may_not_hide_a_collection(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await refused(409, client.update_collection_aliases([_pointing(points, points)]))


async def _aliases(client: AsyncQdrantClient) -> dict[str, str]:
    found = (await client.get_aliases()).aliases
    return {item.alias_name: item.collection_name for item in found}


def _pointing(alias: str, collection: str) -> models.CreateAliasOperation:
    created = models.CreateAlias(collection_name=collection, alias_name=alias)
    return models.CreateAliasOperation(create_alias=created)


def _dropping(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


async def _contains(seen: set[object], wanted: object) -> bool:
    await asyncio.sleep(0)
    return wanted in seen


class TestPayloadIndexes:
    @pytest.mark.parametrize("kind", ["keyword", "integer"])
    async def test_an_index_of_each_type(
        self, client: AsyncQdrantClient, points: str, kind: str
    ) -> None:
        await client.create_payload_index(points, "key", models.PayloadSchemaType(kind))
        schema = (await client.get_collection(points)).payload_schema
        assert schema["key"].data_type == kind

    async def test_an_index_with_parameters(self, client: AsyncQdrantClient, points: str) -> None:
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        await client.create_payload_index(points, "tenant", tenant)
        await client.upsert(points, [point(1, tenant="a")])
        index = (await client.get_collection(points)).payload_schema["tenant"]
        assert index.points == 1
        assert isinstance(index.params, models.KeywordIndexParams)
        assert index.params.is_tenant is True
