"""What Eunoe needs of a Qdrant server: points and every way of changing them."""

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
    has_vector,
    ids_where,
    must,
    payload_of,
    point,
    refused,
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

    async def test_the_columnar_form(self, client: AsyncQdrantClient, points: str) -> None:
        batch = models.Batch(
            ids=[1, 2],
            vectors={"dense": [X, Y], "bm25": [sparse(1), sparse(2)]},
            payloads=[{"n": 1}, {}],
        )
        await client.upsert(points, batch)
        found = await client.retrieve(points, [1, 2], with_vectors=True)
        assert {record.id: record.payload for record in found} == {1: {"n": 1}, 2: {}}
        vectors = {record.id: record.vector for record in found}
        assert vectors[2] == {"dense": Y, "bm25": sparse(2)}

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
        only = models.PayloadSelectorInclude(include=["a"])
        assert (await shown(only)).payload == {"a": 1}
        without = models.PayloadSelectorExclude(exclude=["b.d"])
        assert (await shown(without)).payload == {"a": 1, "b": {"c": 2}}
        assert (await shown(True)).vector is None
        assert (await shown(True, ["bm25"])).vector == {"bm25": sparse(3)}

    async def test_one_point_by_path(self, raw: Raw, points: str) -> None:
        uuid = str(uuid4())
        body = {"points": [{"id": uuid, "vector": {"dense": X}, "payload": {"a": 1}}]}
        await raw("PUT", f"/collections/{points}/points", body)
        status, answer = await raw("GET", f"/collections/{points}/points/{uuid}")
        assert (status, answer["result"]["payload"]) == (200, {"a": 1})
        assert (await raw("GET", f"/collections/{points}/points/7"))[0] == 404
        assert (await raw("GET", f"/collections/{points}/points/seven"))[0] == 400

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

    async def test_scrolling_in_an_order(self, client: AsyncQdrantClient, points: str) -> None:
        await client.create_payload_index(points, "n", models.PayloadSchemaType.INTEGER)
        await client.upsert(points, [point(1, n=5), point(2, n=9), point(3, n=7)])
        order = models.OrderBy(key="n", direction=models.Direction.DESC, start_from=8)
        found, _ = await client.scroll(points, order_by=order)
        assert [record.id for record in found] == [3, 1]

    async def test_an_order_needs_an_index(self, client: AsyncQdrantClient, points: str) -> None:
        await refused(400, client.scroll(points, order_by="n"))

    async def test_counting(self, client: AsyncQdrantClient, points: str) -> None:
        await client.upsert(points, [point(1, a=1), point(2, a=1), point(3, a=2)])
        assert (await client.count(points)).count == 3
        assert (await client.count(points, count_filter=must(equals("a", 1)))).count == 2

    async def test_deleting_by_ids_and_by_filter(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, a=1), point(2, a=2), point(3, a=3)])
        await client.delete(points, [1, 99])
        assert await ids_where(client, points, models.Filter()) == {2, 3}
        await client.delete(points, models.FilterSelector(filter=must(equals("a", 3))))
        assert await ids_where(client, points, models.Filter()) == {2}

    async def test_a_facet_counts_values(self, client: AsyncQdrantClient, points: str) -> None:
        await client.create_payload_index(points, "tag", models.PayloadSchemaType.KEYWORD)
        await client.upsert(points, [point(1, tag="a"), point(2, tag="a"), point(3, tag="b")])
        found = await client.facet(points, "tag", exact=True)
        assert {hit.value: hit.count for hit in found.hits} == {"a": 2, "b": 1}


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

    async def test_update_only_creates_nothing(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, n=1)])
        await client.upsert(
            points, [point(1, n=2), point(2, n=2)], update_mode=models.UpdateMode.UPDATE_ONLY
        )
        assert await payload_of(client, points, 1) == {"n": 2}
        assert await payload_of(client, points, 2) is None

    async def test_insert_only_replaces_nothing(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, n=1)])
        await client.upsert(
            points, [point(1, n=2), point(2, n=2)], update_mode=models.UpdateMode.INSERT_ONLY
        )
        assert await payload_of(client, points, 1) == {"n": 1}
        assert await payload_of(client, points, 2) == {"n": 2}


class TestPayloadAndVectorUpdates:
    async def test_set_overwrite_delete_and_clear(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        await client.upsert(points, [point(1, a=1, o={"x": 1})])
        await client.set_payload(points, {"b": 2}, points=[1])
        assert await payload_of(client, points, 1) == {"a": 1, "o": {"x": 1}, "b": 2}
        await client.set_payload(points, {"y": 2}, points=[1], key="o")
        assert (await payload_of(client, points, 1) or {})["o"] == {"x": 1, "y": 2}
        await client.delete_payload(points, ["a", "o.x"], points=[1])
        assert await payload_of(client, points, 1) == {"o": {"y": 2}, "b": 2}
        await client.overwrite_payload(points, {"c": 3}, points=[1])
        assert await payload_of(client, points, 1) == {"c": 3}
        await client.clear_payload(points, [1])
        assert await payload_of(client, points, 1) == {}

    async def test_each_by_filter(self, client: AsyncQdrantClient, points: str) -> None:
        await client.upsert(points, [point(1, a=1), point(2, a=2)])
        wanted = must(equals("a", 1))
        await client.set_payload(points, {"b": 1}, points=wanted)
        assert await payload_of(client, points, 1) == {"a": 1, "b": 1}
        await client.delete_payload(points, ["b"], points=wanted)
        assert await payload_of(client, points, 1) == {"a": 1}
        await client.overwrite_payload(points, {"a": 1, "c": 1}, points=wanted)
        assert await payload_of(client, points, 1) == {"a": 1, "c": 1}
        await client.clear_payload(points, models.FilterSelector(filter=wanted))
        assert await payload_of(client, points, 1) == {}
        assert await payload_of(client, points, 2) == {"a": 2}

    async def test_an_absent_point_is_not_found(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        text = await refused(404, client.set_payload(points, {"a": 1}, points=[7]))
        assert "No point with id 7" in text

    async def test_vectors_alone(self, client: AsyncQdrantClient, points: str) -> None:
        await client.upsert(points, [point(1, a=1)])
        both = models.PointVectors(id=1, vector={"dense": Y, "bm25": sparse(4)})
        await client.update_vectors(points, [both])
        [record] = await client.retrieve(points, [1], with_vectors=True)
        assert record.vector == {"dense": Y, "bm25": sparse(4)}
        assert record.payload == {"a": 1}
        await client.delete_vectors(points, ["bm25"], points=[1])
        [record] = await client.retrieve(points, [1], with_vectors=True)
        assert record.vector == {"dense": Y}
        await client.delete_vectors(points, ["dense"], points=must(equals("a", 1)))
        assert await ids_where(client, points, must(has_vector("dense"))) == set()

    async def test_an_update_batch_runs_in_order(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        guard = must(field("n", range=models.Range(lt=2)))
        listed = models.PointsList(points=[point(1, n=1), point(2, n=2), point(3, n=3)])
        older = models.PointsList(points=[point(1, n=9), point(3, n=9)], update_filter=guard)
        await client.batch_update_points(
            points,
            [
                models.UpsertOperation(upsert=listed),
                models.UpsertOperation(upsert=older),
                models.SetPayloadOperation(
                    set_payload=models.SetPayload(payload={"s": 1}, points=[2])
                ),
                models.DeletePayloadOperation(
                    delete_payload=models.DeletePayload(keys=["n"], points=[2])
                ),
                models.UpdateVectorsOperation(
                    update_vectors=models.UpdateVectors(
                        points=[models.PointVectors(id=2, vector={"dense": Z, "bm25": sparse(1)})]
                    )
                ),
                models.DeleteVectorsOperation(
                    delete_vectors=models.DeleteVectors(points=[2], vector=["bm25"])
                ),
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(payload={"o": 1}, points=[3])
                ),
                models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[3])),
                models.UpsertOperation(upsert=models.PointsList(points=[point(4)])),
                models.DeleteOperation(delete=models.PointIdsList(points=[4])),
            ],
        )
        found, _ = await client.scroll(points, with_vectors=True)
        assert {record.id: record.payload for record in found} == {1: {"n": 9}, 2: {"s": 1}, 3: {}}
        assert {record.id: record.vector for record in found}[2] == {"dense": Z}
