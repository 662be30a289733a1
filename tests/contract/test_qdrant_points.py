"""Points and the ways of changing them, as Eunoe needs them of a Qdrant server."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from qdrant_client import AsyncQdrantClient, models

from .conftest import Raw
from .support import (
    X,
    Y,
    Z,
    equals,
    field,
    having,
    ids_where,
    must,
    overwriting,
    payload_of,
    point,
    sparse,
)


class TestPoints:
    async def test_ids_are_integers_and_uuids(self, client: AsyncQdrantClient, points: str) -> None:
        uuid = str(uuid4())
        await client.upsert(points, [point(2**64 - 1, color="red"), point(uuid.upper())])
        found = await client.retrieve(points, [uuid, 2**64 - 1])
        assert {record.id for record in found} == {uuid, 2**64 - 1}
        [record] = await client.retrieve(points, [UUID(uuid)])
        assert record.id == uuid

    @pytest.mark.parametrize("bad", ["abc", "12", -1, 1.5, 2**64, True, None])
    async def test_other_ids_are_refused(self, raw: Raw, points: str, bad: object) -> None:
        status, _ = await raw(
            "PUT",
            f"/collections/{points}/points",
            {"points": [{"id": bad, "vector": {"dense": X}}]},
        )
        assert status == 400

    async def test_a_second_upsert_replaces_the_point(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, old=1)])
        await client.upsert(points, [point(1, Y, new=1)])
        [record] = await client.retrieve(points, [1], with_vectors=True)
        assert (record.payload, record.vector) == ({"new": 1}, {"dense": Y})

    async def test_parts_of_payload_and_vectors(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        both = models.PointStruct(
            id=1, vector={"dense": X, "bm25": sparse(3)}, payload={"a": 1, "b": {"c": 2, "d": 3}}
        )
        await client.upsert(points, [both])

        async def shown(with_payload: Any, with_vectors: bool | list[str] = False) -> models.Record:
            [record] = await client.retrieve(
                points, [1], with_payload=with_payload, with_vectors=with_vectors
            )
            return record

        assert (await shown(False)).payload is None
        assert (await shown(["b.c"])).payload == {"b": {"c": 2}}
        assert (await shown(True)).vector is None
        assert (await shown(True, ["bm25"])).vector == {"bm25": sparse(3)}

    async def test_scrolling_visits_every_point_once(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(number) for number in range(25)])
        seen: list[object] = []
        offset: Any = None
        pages = 0
        while pages == 0 or offset is not None:
            page, offset = await client.scroll(points, limit=10, offset=offset)
            seen += [record.id for record in page]
            pages += 1
        assert (sorted(map(int, map(str, seen))), pages) == (list(range(25)), 3)

    async def test_counting(self, client: AsyncQdrantClient, points: str) -> None:
        await client.upsert(points, [point(1, a=1), point(2, a=1), point(3, a=2)])
        assert (await client.count(points)).count == 3
        assert (await client.count(points, count_filter=must(equals("a", 1)))).count == 2

    async def test_deleting(self, client: AsyncQdrantClient, points: str) -> None:
        await client.upsert(points, [point(1, a=1), point(2, a=2), point(3, a=3)])
        await client.delete(points, having(1, 99))
        assert await ids_where(client, points, models.Filter()) == {2, 3}
        await client.delete(points, models.FilterSelector(filter=must(equals("a", 3))))
        assert await ids_where(client, points, models.Filter()) == {2}


class TestConditionalUpserts:
    @staticmethod
    def older_than(point_id: int, version: int) -> models.Filter:
        guarded = must(
            models.HasIdCondition(has_id=[point_id]),
            field("version", range=models.Range(lt=version)),
        )
        return models.Filter(should=[guarded])

    async def write(self, client: AsyncQdrantClient, name: str, version: int) -> object:
        await client.upsert(
            name, [point(1, version=version)], update_filter=self.older_than(1, version)
        )
        found = await payload_of(client, name, 1)
        return found and found["version"]

    async def test_only_a_newer_version_is_accepted(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        assert await self.write(client, points, 3) == 3, "a new point ignores the condition"
        assert await self.write(client, points, 2) == 3
        assert await self.write(client, points, 3) == 3
        assert await self.write(client, points, 4) == 4

    async def test_each_point_of_a_batch_has_its_own_guard(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(number, version=5) for number in range(100)])
        newer = {number: 4 + 2 * (number % 2) for number in range(100)}
        guards = models.Filter(
            should=[
                must(
                    models.HasIdCondition(has_id=[number]),
                    field("version", range=models.Range(lt=version)),
                )
                for number, version in newer.items()
            ]
        )
        update = [point(number, version=version) for number, version in newer.items()]
        await client.upsert(points, update, update_filter=guards)
        found, _ = await client.scroll(points, limit=200)
        versions = {record.id: (record.payload or {})["version"] for record in found}
        assert versions == {number: max(5, version) for number, version in newer.items()}

    async def test_the_newest_of_many_writers_wins(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        shuffled = [(index * 37) % 101 for index in range(1, 101)]
        await asyncio.gather(*(self.write(client, points, version) for version in shuffled))
        assert (await payload_of(client, points, 1) or {})["version"] == 100


class TestPayloads:
    async def test_a_batch_overwrites_in_order(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, n=1), point(2, n=2), point(3, Z, n=3)])
        by_filter = models.Filter(must=[field("n", range=models.Range(gte=2))])
        await client.batch_update_points(
            points,
            [
                overwriting({"n": 5, "old": 1}, having(1, 3)),
                overwriting({"n": 9}, by_filter),
                overwriting({"n": 0}, must(equals("n", 2))),
            ],
        )
        found, _ = await client.scroll(points, with_vectors=True)
        assert {record.id: record.payload for record in found} == {
            key: {"n": 9} for key in (1, 2, 3)
        }
        assert {record.id: record.vector for record in found}[3] == {"dense": Z}
