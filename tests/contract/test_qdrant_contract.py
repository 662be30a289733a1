"""What Eunoe needs of a Qdrant server: collections, aliases and indexes.

Asked with the stock client; the same assertions hold for the embedded server and for
Qdrant itself (QDRANT_URL).
"""

import asyncio
from uuid import uuid4

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient, models

from tests.support.waiting.conditions import wait_until

from .support import (
    X,
    create,
    equals,
    ids_where,
    must,
    point,
    refused,
)


class TestService:
    async def test_it_reports_a_version_the_client_accepts(self, qdrant_url: str) -> None:
        async with aiohttp.ClientSession() as http, http.get(qdrant_url) as response:
            body = await response.json()
        assert body["title"].startswith("qdrant")
        assert int(body["version"].split(".")[1]) >= 17

    @pytest.mark.parametrize("path", ["healthz", "livez", "readyz"])
    async def test_it_is_healthy(self, qdrant_url: str, path: str) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{qdrant_url}/{path}") as response,
        ):
            assert response.status == 200
            assert "check passed" in await response.text() or path != "healthz"


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

    async def test_it_is_listed_and_exists_until_deleted(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        listed = await client.get_collections()
        assert points in {collection.name for collection in listed.collections}
        assert await client.collection_exists(points)
        assert await client.delete_collection(points) is True
        assert not await client.collection_exists(points)
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
        await refused(404, client.query_points("nowhere", query=X))
        await refused(404, client.upsert("nowhere", [point(1)]))

    async def test_a_single_unnamed_vector(self, client: AsyncQdrantClient, name: str) -> None:
        await client.create_collection(
            name, vectors_config=models.VectorParams(size=2, distance=models.Distance.EUCLID)
        )
        await client.upsert(name, [models.PointStruct(id=1, vector=[3.0, 4.0])])
        found = await client.query_points(name, query=[0.0, 0.0], with_vectors=True)
        assert [(hit.id, hit.score, hit.vector) for hit in found.points] == [(1, 5.0, [3.0, 4.0])]

    async def test_a_vector_without_size_is_refused(
        self, client: AsyncQdrantClient, name: str
    ) -> None:
        empty = models.VectorParams(size=0, distance=models.Distance.DOT)
        await refused(422, client.create_collection(name, vectors_config=empty))
        assert not await client.collection_exists(name)


class TestAliases:
    async def test_every_path_takes_an_alias(self, client: AsyncQdrantClient, points: str) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        await client.upsert(alias, [point(1, color="red")])
        assert (await client.count(alias)).count == 1
        assert (await client.get_collection(alias)).points_count == 1
        assert (await client.query_points(alias, query=X, using="dense")).points[0].id == 1
        listed = (await client.get_collection_aliases(points)).aliases
        assert [(item.alias_name, item.collection_name) for item in listed] == [(alias, points)]
        assert alias in {item.alias_name for item in (await client.get_aliases()).aliases}

    async def test_one_call_switches_an_alias(self, client: AsyncQdrantClient, points: str) -> None:
        """Readers that ask all the time find the old or the new collection, never none."""
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
        assert await client.collection_exists(alias)

    async def test_renaming_and_dropping(self, client: AsyncQdrantClient, points: str) -> None:
        alias, renamed = f"alias-{uuid4().hex}", f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        rename = models.RenameAlias(old_alias_name=alias, new_alias_name=renamed)
        await client.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
        await refused(404, client.count(alias))
        assert (await client.count(renamed)).count == 0
        await client.update_collection_aliases([_dropping(renamed)])
        await refused(404, client.count(renamed))

    async def test_a_deleted_collection_takes_its_aliases_along(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        alias = f"alias-{uuid4().hex}"
        await client.update_collection_aliases([_pointing(alias, points)])
        await client.delete_collection(points)
        assert alias not in {item.alias_name for item in (await client.get_aliases()).aliases}

    async def test_an_alias_may_not_hide_a_collection(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await refused(409, client.update_collection_aliases([_pointing(points, points)]))


def _pointing(alias: str, collection: str) -> models.CreateAliasOperation:
    created = models.CreateAlias(collection_name=collection, alias_name=alias)
    return models.CreateAliasOperation(create_alias=created)


def _dropping(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


async def _contains(seen: set[object], wanted: object) -> bool:
    await asyncio.sleep(0)
    return wanted in seen


class TestPayloadIndexes:
    @pytest.mark.parametrize(
        "kind", ["keyword", "integer", "float", "bool", "datetime", "text", "uuid"]
    )
    async def test_an_index_of_each_type(
        self, client: AsyncQdrantClient, points: str, kind: str
    ) -> None:
        await client.create_payload_index(points, "key", models.PayloadSchemaType(kind))
        schema = (await client.get_collection(points)).payload_schema
        assert schema["key"].data_type == kind
        await client.delete_payload_index(points, "key")
        assert (await client.get_collection(points)).payload_schema == {}

    async def test_an_index_with_parameters(self, client: AsyncQdrantClient, points: str) -> None:
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        await client.create_payload_index(points, "tenant", tenant)
        await client.upsert(points, [point(1, tenant="a")])
        index = (await client.get_collection(points)).payload_schema["tenant"]
        assert index.points == 1
        assert isinstance(index.params, models.KeywordIndexParams)
        assert index.params.is_tenant is True

    async def test_an_indexed_bool_is_found(self, client: AsyncQdrantClient, points: str) -> None:
        await client.create_payload_index(points, "archived", models.PayloadSchemaType.BOOL)
        await client.upsert(points, [point(1, archived=True), point(2, archived=False)])
        assert await ids_where(client, points, must(equals("archived", True))) == {1}
        assert await ids_where(client, points, must(equals("archived", False))) == {2}
