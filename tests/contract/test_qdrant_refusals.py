"""Requests that a Qdrant server refuses, and work that goes on beside them."""

import asyncio
import io
import json
import math

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.waiting.conditions import wait_until

from .conftest import Raw
from .support import (
    X,
    collection_names,
    create,
    having,
    nearest,
    overwriting,
    point,
    refused,
)

VECTOR_ERRORS: dict[str, tuple[object, str]] = {
    "too short": ({"dense": X[:3]}, "Vector dimension error: expected dim: 4, got 3"),
    "unknown name": ({"other": X}, "Not existing vector name error: other"),
    "no name": (X, ""),
    "sparse for dense": ({"dense": {"indices": [1], "values": [1.0]}}, ""),
    "dense for sparse": ({"bm25": X}, ""),
    "beyond 32 bits": ({"dense": [1e39, 0, 0, 0]}, ""),
    "infinite": ({"dense": [1e999, 0, 0, 0]}, ""),
    "text": ({"dense": ["1", 0, 0, 0]}, ""),
}

VECTOR = {"query": X, "using": "dense"}
CONDITION = {"key": "a", "match": {"value": "b"}}
OVERWRITE: dict[str, object] = {"payload": {"a": 1}, "filter": {}}
# What Qdrant serves and the embedded server does not, or what Qdrant refuses itself.
MEMBERS: dict[str, tuple[str, object]] = {
    "quest": ("/query/batch", {"searches": [{**VECTOR, "quest": 1}]}),
    "params": ("/query/batch", {"searches": [{**VECTOR, "params": {"exact": True}}]}),
    "prefetch": ("/query/batch", {"searches": [{**VECTOR, "prefetch": []}]}),
    "recommend": ("/query/batch", {"searches": [{**VECTOR, "query": {"recommend": {}}}]}),
    "order_by": ("/scroll", {"order_by": "a"}),
    "shard_key": ("/count", {"shard_key": "a"}),
    "geo_radius": ("/count", {"filter": {"must": [{"key": "a", "geo_radius": {}}]}}),
    "text": ("/count", {"filter": {"must": [{"key": "a", "match": {"text": "b"}}]}}),
    "min_should": ("/count", {"filter": {"min_should": {"conditions": [], "min_count": 1}}}),
    "is_empty": ("/count", {"filter": {"must": [{"is_empty": {"key": "a"}}]}}),
    "values_count": ("/count", {"filter": {"must": [{**CONDITION, "values_count": {}}]}}),
    "points": ("/delete", {"points": [1]}),
    "key": ("/batch", {"operations": [{"overwrite_payload": {**OVERWRITE, "key": "b"}}]}),
    "upsert": ("/batch", {"operations": [{"upsert": {"points": []}}]}),
}
CONFIGURATIONS: dict[str, object] = {
    "hnsw_config": {"vectors": {}, "hnsw_config": {"m": 4}},
    "quantization_config": {"vectors": {}, "quantization_config": {"scalar": {"type": "int8"}}},
    "multivector_config": {
        "vectors": {"dense": {"size": 4, "distance": "Cosine", "multivector_config": {}}}
    },
    "distance": {"vectors": {"dense": {"size": 4, "distance": "Euclid"}}},
    "modifier": {"vectors": {}, "sparse_vectors": {"words": {}}},
    "deleted_threshold": {"vectors": {}, "optimizers_config": {"deleted_threshold": 0.1}},
    "vectors": {"vectors": {"size": 4, "distance": "Cosine"}},
    "metadata": {"vectors": {}, "metadata": {"x": json.loads("[" * 70 + "]" * 70)}},
}
NOT_SERVED = [
    ("GET", "/collections/{name}/points/1"),
    ("POST", "/collections/{name}/points/query"),
    ("POST", "/collections/{name}/points/query/groups"),
    ("PUT", "/collections/{name}/points/payload"),
    ("POST", "/collections/{name}/points/payload"),
    ("PUT", "/collections/{name}/points/vectors"),
    ("POST", "/collections/{name}/facet"),
    ("DELETE", "/collections/{name}/index/key"),
    ("PATCH", "/collections/{name}"),
    ("GET", "/collections/{name}/exists"),
    ("POST", "/collections/{name}/no/such/route"),
    ("GET", "/cluster"),
    ("GET", "/healthz"),
]


class TestRefusals:
    @pytest.mark.parametrize("label", VECTOR_ERRORS)
    async def test_a_wrong_vector_changes_nothing(
        self, raw: Raw, client: AsyncQdrantClient, points: str, label: str
    ) -> None:
        vector, expected = VECTOR_ERRORS[label]
        good = {"id": 1, "vector": {"dense": X}}
        body = {"points": [good, {"id": 2, "vector": vector}]}
        status, answer = await raw("PUT", f"/collections/{points}/points", body)
        assert status == 400, answer
        assert expected in answer["status"]["error"]
        assert (await client.count(points)).count == 0

    @pytest.mark.parametrize("label", ["too short", "unknown name", "infinite", "text"])
    async def test_a_wrong_query_vector(self, raw: Raw, points: str, label: str) -> None:
        vector, expected = VECTOR_ERRORS[label]
        assert isinstance(vector, dict)
        [(using, query)] = vector.items()
        body = {"searches": [{"query": query, "using": using}]}
        status, answer = await raw("POST", f"/collections/{points}/points/query/batch", body)
        assert status == 400, answer
        assert expected in answer["status"]["error"]

    async def test_a_zero_vector_has_no_direction(
        self, client: AsyncQdrantClient, points: str, embedded_only: None
    ) -> None:
        await refused(400, client.upsert(points, [point(1, [0.0] * 4)]))
        await refused(400, nearest(client, points, [0.0] * 4))

    @pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": Infinity}', '{"x": 1e999}'])
    async def test_not_a_number_in_a_payload(self, raw: Raw, points: str, text: str) -> None:
        body = f'{{"points": [{{"id": 1, "vector": {{"dense": [1,0,0,0]}}, "payload": {text}}}]}}'
        status, answer = await raw("PUT", f"/collections/{points}/points", body)
        assert status == 400, answer

    @pytest.mark.parametrize(
        ("indices", "values"),
        [([1, 2], [1.0]), ([1, 1], [1.0, 1.0]), ([-1], [1.0]), ([2**32], [1.0])],
    )
    async def test_a_broken_sparse_vector(
        self, raw: Raw, points: str, indices: list[int], values: list[float]
    ) -> None:
        vector = {"bm25": {"indices": indices, "values": values}}
        body = {"points": [{"id": 1, "vector": vector}]}
        status, answer = await raw("PUT", f"/collections/{points}/points", body)
        assert status in {400, 422}, answer
        _, answer = await raw("POST", f"/collections/{points}/points/count", {})
        assert answer["result"] == {"count": 0}

    @pytest.mark.parametrize(
        "body",
        [
            '{"filter": {}',
            "[]",
            '"text"',
            '{"filter": {"most": []}}',
            '{"filter": {"must": [{"key": "a", "match": {"value": 1.5}}]}}',
            '{"filter": {"must": [{"key": "a", "match": {"any": [1, "b"]}}]}}',
            '{"filter": {"must": [{"has_id": ["abc"]}]}}',
            '{"filter": {"must": [{"key": "a[", "match": {"value": 1}}]}}',
            '{"limit": -1}',
            '{"limit": "many"}',
        ],
    )
    async def test_a_malformed_request(self, raw: Raw, points: str, body: str) -> None:
        status, answer = await raw("POST", f"/collections/{points}/points/scroll", body)
        assert status in {400, 422}, answer
        assert answer["status"]["error"]

    @pytest.mark.parametrize("member", MEMBERS)
    async def test_a_member_that_is_not_served(
        self, raw: Raw, points: str, member: str, embedded_only: None
    ) -> None:
        """An unknown option is refused by its name; it must not silently do nothing."""
        path, body = MEMBERS[member]
        status, answer = await raw("POST", f"/collections/{points}/points{path}", body)
        assert status == 400
        assert member in answer["status"]["error"]

    @pytest.mark.parametrize("member", CONFIGURATIONS)
    async def test_a_configuration_that_is_not_served(
        self, raw: Raw, name: str, member: str, embedded_only: None
    ) -> None:
        status, answer = await raw("PUT", f"/collections/{name}", CONFIGURATIONS[member])
        assert status == 400
        assert member in answer["status"]["error"]

    async def test_a_limit_of_nothing(self, client: AsyncQdrantClient, points: str) -> None:
        await refused(422, nearest(client, points, X, limit=0))
        await refused(422, client.scroll(points, limit=0))

    async def test_nesting_has_a_limit(self, raw: Raw, points: str, embedded_only: None) -> None:
        """The engine cannot read its own log past 128 levels, so it must not write them."""
        deep = "[" * 100 + "]" * 100
        row = f'{{"id": 1, "vector": {{}}, "payload": {{"x": {deep}}}}}'
        wanted = '{"must": [' * 50 + '{"key": "a", "match": {"value": 1}}' + "]}" * 50
        overwritten = f'{{"overwrite_payload": {{"filter": {{}}, "payload": {{"x": {deep}}}}}}}'
        for method, path, body in [
            ("PUT", "", f'{{"points": [{row}]}}'),
            ("POST", "/batch", f'{{"operations": [{overwritten}]}}'),
            ("POST", "/count", f'{{"filter": {wanted}}}'),
            ("POST", "/delete", f'{{"filter": {wanted}}}'),
        ]:
            status, answer = await raw(method, f"/collections/{points}/points{path}", body)
            assert status == 400
            assert "nests deeper than 64 levels" in answer["status"]["error"]

    async def test_an_upsert_of_nothing_that_is_a_point(self, raw: Raw, points: str) -> None:
        for body in ({}, {"points": [{"id": 1}]}, {"points": 5}):
            status, _ = await raw("PUT", f"/collections/{points}/points", body)
            assert status == 400

    async def test_the_shape_of_an_answer_and_of_an_error(self, raw: Raw, points: str) -> None:
        status, answer = await raw("POST", f"/collections/{points}/points/count", {})
        assert (status, answer["status"], answer["result"]) == (200, "ok", {"count": 0})
        assert answer["time"] >= 0
        status, answer = await raw("GET", "/collections/nowhere")
        assert status == 404
        assert answer["status"] == {"error": "Not found: Collection `nowhere` doesn't exist!"}
        assert answer["time"] >= 0

    @pytest.mark.parametrize(("method", "path"), NOT_SERVED)
    async def test_a_route_that_is_not_served_names_itself(
        self, raw: Raw, points: str, method: str, path: str, embedded_only: None
    ) -> None:
        path = path.replace("{name}", points)
        status, answer = await raw(method, path, {"points": [1]})
        assert status == 501
        assert answer["status"]["error"].endswith(f" {method} {path}")
        assert answer["time"] >= 0

    async def test_a_body_beyond_the_limit(
        self, qdrant_url: str, points: str, embedded_only: None
    ) -> None:
        too_much = io.BytesIO(b" " * (64 * 1024 * 1024 + 1))
        url = f"{qdrant_url}/collections/{points}/points"
        async with aiohttp.ClientSession() as http, http.put(url, data=too_much) as response:
            assert response.status == 413
            assert "error" in (await response.json())["status"]


class TestUnderLoad:
    async def test_reads_and_writes_go_on_while_it_optimises(
        self, client: AsyncQdrantClient, name: str, embedded_only: None
    ) -> None:
        """The optimised collection has every write that came meanwhile."""
        await create(
            client, name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10)
        )
        rows = [point(number, _direction(number), n=0) for number in range(2_000)]
        await client.upsert(name, rows)
        before = await client.get_collection(name)
        assert (before.status, before.indexed_vectors_count) == ("yellow", 0)
        written: list[int] = []

        async def write_and_read() -> bool:
            number = len(written)
            changed = overwriting({"n": number + 1}, having(number % 500))
            await client.batch_update_points(name, [changed])
            await client.upsert(name, [point(10_000 + number, n=number)])
            await client.delete(name, having(1_000 + number))
            written.append(number)
            assert len(await nearest(client, name, _direction(5), limit=3)) == 3
            return ((await client.get_collection(name)).indexed_vectors_count or 0) > 0

        await wait_until(write_and_read, "the collection is indexed")
        kept, _ = await client.scroll(name, limit=20_000)
        payloads = {record.id: record.payload for record in kept}
        latest = {number % 500: number + 1 for number in written}
        assert all(payloads[number] == {"n": n} for number, n in latest.items())
        assert all(payloads[10_000 + number] == {"n": number} for number in written)
        assert not payloads.keys() & {1_000 + number for number in written}

    async def test_a_collection_deleted_under_its_readers(
        self, client: AsyncQdrantClient, points: str
    ) -> None:
        """Readers are answered, and with 404 after the deletion; the server goes on."""
        await client.upsert(points, [point(number) for number in range(500)])

        async def read_until_gone() -> int | None:
            while True:
                try:
                    await nearest(client, points, X)
                except UnexpectedResponse as error:
                    return error.status_code

        readers = [asyncio.create_task(read_until_gone()) for _ in range(4)]
        await client.count(points)
        await client.delete_collection(points)
        assert await asyncio.gather(*readers) == [404] * 4
        assert points not in await collection_names(client)


def _direction(number: int) -> list[float]:
    return [math.sin(number), math.cos(number), math.sin(number * 0.7), 1.0]
