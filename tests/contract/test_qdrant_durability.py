"""What the embedded vector server acknowledged is there after SIGKILL.

The server under test is a process of the test's own, killed without warning and
started again on the same folder and on a new port.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException

from tests.support.stores.qdrant_server import QdrantProcess
from tests.support.waiting.conditions import wait_until

from .support import having, overwriting

NAME = "memories__offline__1"
ALIAS = "memories"
DIMENSION = 8


def point(number: int, **payload: object) -> models.PointStruct:
    vector = [float((number * step) % 7 + 1) for step in range(1, DIMENSION + 1)]
    return models.PointStruct(id=number, vector={"dense": vector}, payload=payload)


async def create(
    client: AsyncQdrantClient,
    name: str = NAME,
    optimizers_config: models.OptimizersConfigDiff | None = None,
) -> None:
    size = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
    await client.create_collection(
        name,
        vectors_config={"dense": size},
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        optimizers_config=optimizers_config,
    )


@asynccontextmanager
async def connected(server: QdrantProcess) -> AsyncIterator[AsyncQdrantClient]:
    # The client asks for the version in a thread, which would meet the killed server.
    client = AsyncQdrantClient(url=server.url, timeout=30, check_compatibility=False)
    try:
        yield client
    finally:
        await client.close()


async def payloads(client: AsyncQdrantClient, name: str = NAME) -> dict[object, object]:
    found, _ = await client.scroll(name, limit=10_000)
    return {record.id: record.payload for record in found}


async def test_everything_acknowledged_survives_a_kill(killable: QdrantProcess) -> None:
    async with connected(killable) as client:
        await create(client)
        created = models.CreateAlias(collection_name=NAME, alias_name=ALIAS)
        await client.update_collection_aliases([models.CreateAliasOperation(create_alias=created)])
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        await client.create_payload_index(NAME, "tenant", tenant)
        await client.upsert(NAME, [point(number, tenant="a") for number in range(200)])
        changed = overwriting({"tenant": "b"}, having(2))
        await client.batch_update_points(NAME, [changed])
        await client.delete(NAME, having(3, 4))
        await client.upsert(NAME, [models.PointStruct(id=6, vector={"dense": [1.0] * DIMENSION})])
        expected = await payloads(client)
        [before] = await client.retrieve(NAME, [6], with_vectors=True)

    killable.stop(signal.SIGKILL)
    killable.start()

    async with connected(killable) as client:
        assert await payloads(client, ALIAS) == expected
        assert len(expected) == 198
        assert (expected[1], expected[2]) == ({"tenant": "a"}, {"tenant": "b"})
        schema = (await client.get_collection(ALIAS)).payload_schema
        assert schema["tenant"].data_type == "keyword"
        [record] = await client.retrieve(ALIAS, [6], with_vectors=True)
        assert record.vector == before.vector
        await client.upsert(ALIAS, [point(3, tenant="again")])
        assert (await payloads(client))[3] == {"tenant": "again"}


async def test_deep_payloads_do_not_spoil_the_log(killable: QdrantProcess) -> None:
    async with connected(killable) as client:
        await create(client)
        await client.upsert(NAME, [point(1, n=1)])
        deep: object = 1
        for _ in range(62):
            deep = {"k": deep}
        await client.upsert(NAME, [point(3, deep=deep)])
        expected = await payloads(client)
    killable.stop(signal.SIGKILL)
    killable.start()
    async with connected(killable) as client:
        assert await payloads(client) == expected
    assert expected.keys() == {1, 3}


async def test_writers_killed_in_mid_flight_lose_nothing_acknowledged(
    killable: QdrantProcess,
) -> None:
    acknowledged: set[object] = set()
    async with connected(killable) as client:
        await create(client)

        async def write(first: int) -> None:
            number = first
            while True:
                await client.upsert(NAME, [point(number, n=number)])
                acknowledged.add(number)
                number += 4

        async def enough() -> bool:
            await asyncio.sleep(0)
            return len(acknowledged) >= 300

        writers = [asyncio.create_task(write(first)) for first in range(4)]
        await wait_until(enough, "300 points were acknowledged")
        killable.stop(signal.SIGKILL)
        ends = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(end, ResponseHandlingException) for end in ends), ends

    killable.start()
    async with connected(killable) as client:
        kept = await payloads(client)
    assert acknowledged <= kept.keys()
    assert all(payload == {"n": number} for number, payload in kept.items())


async def test_killed_while_optimising_it_starts_with_all_points(
    killable: QdrantProcess,
) -> None:
    async with connected(killable) as client:
        small = models.OptimizersConfigDiff(indexing_threshold=10)
        await create(client, optimizers_config=small)
        await client.upsert(NAME, [point(number, n=number) for number in range(3_000)])
        [folder] = (killable.data / "collections").iterdir()

        async def copying() -> bool:
            changed = overwriting({"n": 7, "seen": True}, having(7))
            await client.batch_update_points(NAME, [changed])
            return len(list(folder.iterdir())) == 2

        await wait_until(copying, "a copy is being optimised")
        await client.delete(NAME, having(8))
    killable.stop(signal.SIGKILL)
    killable.start()

    async with connected(killable) as client:
        kept = await payloads(client)
        assert kept[7] == {"n": 7, "seen": True}
        assert kept.keys() == set(range(3_000)) - {8}

        async def optimised() -> bool:
            status = (await client.get_collection(NAME)).status
            return status == models.CollectionStatus.GREEN

        await wait_until(optimised, "the collection is optimised after the restart")
        assert (await client.count(NAME)).count == 2_999

        async def tidied() -> bool:
            await client.count(NAME)
            return len(list(folder.iterdir())) == 1

        await wait_until(tidied, "the leftover copy and the replaced shard are gone")


async def test_an_optimised_collection_survives_a_kill(killable: QdrantProcess) -> None:
    async with connected(killable) as client:
        small = models.OptimizersConfigDiff(indexing_threshold=10)
        await create(client, optimizers_config=small)
        [folder] = (killable.data / "collections").iterdir()
        [first] = folder.iterdir()
        await client.upsert(NAME, [point(number, n=number) for number in range(2_000)])

        async def replaced() -> bool:
            await client.count(NAME)
            return not first.exists()

        await wait_until(replaced, "the optimised copy took over")
        changed = overwriting({"n": 1, "late": True}, having(1))
        await client.batch_update_points(NAME, [changed])
    killable.stop(signal.SIGKILL)
    killable.start()

    async with connected(killable) as client:
        kept = await payloads(client)
    assert len(kept) == 2_000
    assert kept[1] == {"n": 1, "late": True}


async def test_deleted_and_half_created_collections_leave_nothing(
    killable: QdrantProcess,
) -> None:
    async with connected(killable) as client:
        await create(client, "kept")
        await create(client, "dropped")
        await client.delete_collection("dropped")
    killable.stop(signal.SIGKILL)
    half = killable.data / "collections" / uuid4().hex / uuid4().hex
    half.mkdir(parents=True)
    (half / "edge_config.json").write_text("{")
    (killable.data / "registry.tmp").write_text("{")
    killable.start()

    async with connected(killable) as client:
        listed = (await client.get_collections()).collections
        assert [collection.name for collection in listed] == ["kept"]
        await create(client, "dropped")
        assert (await client.count("dropped")).count == 0
    assert not half.parent.exists()


async def test_options_of_an_earlier_version_keep_no_collection_closed(
    killable: QdrantProcess,
) -> None:
    async with connected(killable) as client:
        await create(client)
        await client.upsert(NAME, [point(1)])
    killable.stop(signal.SIGTERM)
    registry = killable.data / "registry.json"
    stored = json.loads(registry.read_bytes())
    stored["collections"][NAME]["config"]["write_consistency_factor"] = 1
    stored["collections"][NAME]["config"]["vectors"]["dense"]["on_disk"] = False
    registry.write_text(json.dumps(stored))
    killable.start()
    async with connected(killable) as client:
        assert (await client.count(NAME)).count == 1


async def test_a_terminated_server_ends_cleanly_and_keeps_all(killable: QdrantProcess) -> None:
    async with connected(killable) as client:
        await create(client)
        await client.upsert(NAME, [point(number) for number in range(10)])
    assert killable.stop(signal.SIGTERM) == 0
    killable.start()
    async with connected(killable) as client:
        assert (await client.count(NAME)).count == 10
    assert killable.stop(signal.SIGINT) == 0
    killable.start()


async def test_a_folder_serves_one_server(killable: QdrantProcess) -> None:
    second = QdrantProcess(killable.data.parent)
    with pytest.raises(AssertionError, match="in use by another server"):
        second.start()
