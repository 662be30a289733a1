"""Filters and searches, as Eunoe needs them of a Qdrant server."""

import math
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from .support import X, Y, equals, field, ids_where, must, nearest, point, sparse

FILTERED: list[models.PointStruct] = [
    point(1, color="red", n=1, f=1.5, tags=["a", "b"]),
    point(2, color="blue", n=2, f=2.5, tags=["b"]),
    point(3, color="red", n=3, tags=[]),
    point(4, n=4),
]
ANY_RED_OR_4: list[models.Condition] = [equals("color", "red"), equals("n", 4)]
FILTERS: dict[str, tuple[models.Filter, set[int]]] = {
    "must": (must(equals("color", "red"), equals("n", 3)), {3}),
    "should": (models.Filter(should=ANY_RED_OR_4), {1, 3, 4}),
    "must_not": (models.Filter(must_not=ANY_RED_OR_4), {2}),
    "nested filters": (
        must(models.Filter(should=ANY_RED_OR_4), models.Filter(must_not=[equals("n", 1)])),
        {3, 4},
    ),
    "any integer": (must(field("n", match=models.MatchAny(any=[1, 4, 9]))), {1, 4}),
    "any string": (must(field("color", match=models.MatchAny(any=["blue", "green"]))), {2}),
    "any of none": (must(field("color", match=models.MatchAny(any=[]))), set()),
    "in list": (must(equals("tags", "a")), {1}),
    "range": (must(field("f", range=models.Range(gt=1.5, lte=2.5))), {2}),
    "lower bound": (must(field("n", range=models.Range(gte=2, lt=4))), {2, 3}),
    "has_id": (must(models.HasIdCondition(has_id=[2, 3, 99])), {2, 3}),
    "empty filter": (models.Filter(), {1, 2, 3, 4}),
}


@pytest.mark.parametrize("label", FILTERS)
async def test_filter(client: AsyncQdrantClient, points: str, label: str) -> None:
    """Scroll, count, query and delete select the same points, with indexes and without."""
    wanted, expected = FILTERS[label]
    await client.upsert(points, FILTERED)
    assert await ids_where(client, points, wanted) == expected
    for key, kind in [("color", "keyword"), ("n", "integer")]:
        await client.create_payload_index(points, key, models.PayloadSchemaType(kind))
    assert await ids_where(client, points, wanted) == expected
    assert (await client.count(points, count_filter=wanted)).count == len(expected)
    assert {hit.id for hit in await nearest(client, points, X, filter=wanted)} == expected
    await client.delete(points, wanted)
    assert (await client.count(points)).count == 4 - len(expected)


class TestQueries:
    @pytest.fixture
    async def filled(self, client: AsyncQdrantClient, points: str) -> str:
        rows = [
            (1, X, sparse(1, 2), {"t": "a"}),
            (2, [0.9, 0.1, 0.0, 0.0], sparse(2), {"t": "b"}),
            (3, Y, sparse(3), {"t": "a"}),
        ]
        await client.upsert(
            points,
            [
                models.PointStruct(id=number, vector={"dense": dense, "bm25": words}, payload=row)
                for number, dense, words, row in rows
            ],
        )
        return points

    async def test_dense(self, client: AsyncQdrantClient, filled: str) -> None:
        found = await nearest(client, filled, X, limit=2)
        assert [hit.id for hit in found] == [1, 2]
        assert found[0].score == pytest.approx(1.0)

    async def test_sparse_with_inverse_document_frequency(
        self, client: AsyncQdrantClient, filled: str
    ) -> None:
        found = await nearest(client, filled, sparse(1, 2), "bm25")
        assert [hit.id for hit in found] == [1, 2]
        # Qdrant's IDF: ln(1 + (N - n + .5) / (n + .5)), of 3 points 1 has the word 1, 2 have 2.
        rare, common = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
        assert found[0].score == pytest.approx(rare + common, rel=1e-5)
        assert found[1].score == pytest.approx(common, rel=1e-5)

    async def test_a_batch_answers_each_query(self, client: AsyncQdrantClient, filled: str) -> None:
        tenant = must(equals("t", "a"))
        dense, words = await client.query_batch_points(
            filled,
            [
                models.QueryRequest(query=X, using="dense", filter=tenant, with_payload=["t"]),
                models.QueryRequest(query=sparse(2), using="bm25", filter=tenant, with_vector=True),
            ],
        )
        assert [(hit.id, hit.payload) for hit in dense.points] == [(1, {"t": "a"}), (3, {"t": "a"})]
        [hit] = words.points
        assert hit.vector == {"dense": X, "bm25": sparse(1, 2)}

    async def test_a_batch_may_be_empty(self, client: AsyncQdrantClient, filled: str) -> None:
        assert await client.query_batch_points(filled, []) == []

    async def test_limit_and_threshold(self, client: AsyncQdrantClient, filled: str) -> None:
        async def ids(**options: Any) -> list[object]:
            return [hit.id for hit in await nearest(client, filled, X, **options)]

        assert await ids(limit=1) == [1]
        assert await ids(score_threshold=0.95) == [1, 2]


class TestMatrix:
    ROWS = ((1, X), (2, [0.9, 0.1, 0.0, 0.0]), (3, Y), (4, [0.1, 0.9, 0.0, 0.0]))

    @pytest.fixture
    async def filled(self, client: AsyncQdrantClient, points: str) -> str:
        await client.upsert(points, [point(number, dense, t="a") for number, dense in self.ROWS])
        no_vector = models.PointStruct(id=5, vector={"bm25": sparse(1)}, payload={"t": "a"})
        await client.upsert(points, [no_vector, point(6, X, t="b")])
        return points

    async def test_pairs_are_the_nearest_within_the_sample(
        self, client: AsyncQdrantClient, filled: str
    ) -> None:
        matrix = await client.search_matrix_pairs(
            filled, query_filter=must(equals("t", "a")), sample=10, limit=1, using="dense"
        )
        assert {(pair.a, pair.b) for pair in matrix.pairs} == {(1, 2), (2, 1), (3, 4), (4, 3)}
        assert all(pair.score > 0.9 for pair in matrix.pairs)

    async def test_offsets_say_the_same(self, client: AsyncQdrantClient, filled: str) -> None:
        wanted = must(equals("t", "a"))
        pairs = await client.search_matrix_pairs(
            filled, query_filter=wanted, sample=10, limit=3, using="dense"
        )
        offsets = await client.search_matrix_offsets(
            filled, query_filter=wanted, sample=10, limit=3, using="dense"
        )
        cells = zip(offsets.offsets_row, offsets.offsets_col, offsets.scores, strict=True)
        assert sorted(offsets.ids) == [1, 2, 3, 4]
        assert {(offsets.ids[a], offsets.ids[b]): score for a, b, score in cells} == {
            (pair.a, pair.b): pytest.approx(pair.score) for pair in pairs.pairs
        }

    async def test_the_sample_has_a_size(self, client: AsyncQdrantClient, filled: str) -> None:
        offsets = await client.search_matrix_offsets(filled, sample=2, limit=3, using="dense")
        assert len(offsets.ids) == len(offsets.offsets_row) == 2

    async def test_an_empty_sample(self, client: AsyncQdrantClient, points: str) -> None:
        assert (await client.search_matrix_pairs(points, using="dense")).pairs == []
