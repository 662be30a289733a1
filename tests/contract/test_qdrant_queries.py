"""What Eunoe needs of a Qdrant server: filters and searches."""

import math
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from .support import X, Y, equals, field, has_vector, ids_where, must, point, refused, sparse

FILTERED: list[models.PointStruct] = [
    point(
        1, color="red", n=1, f=1.5, at="2024-01-01T00:00:00Z", tags=["a", "b"], text="a quick fox"
    ),
    point(2, color="blue", n=2, f=2.5, at="2024-06-01T00:00:00Z", tags=["b"], nothing=None),
    point(3, color="red", n=3, archived=True, tags=[], parts=[{"k": 1, "v": 1}, {"k": 2, "v": 2}]),
    point(4, n=4, archived=False, parts=[{"k": 1, "v": 2}], text="slow as a snail"),
]
ANY_RED_OR_4: list[models.Condition] = [equals("color", "red"), equals("n", 4)]
FILTERS: dict[str, tuple[models.Filter, set[int]]] = {
    "must": (must(equals("color", "red"), equals("n", 3)), {3}),
    "should": (models.Filter(should=ANY_RED_OR_4), {1, 3, 4}),
    "must_not": (models.Filter(must_not=ANY_RED_OR_4), {2}),
    "single condition": (models.Filter(must=equals("n", 2)), {2}),
    "min_should": (
        models.Filter(
            min_should=models.MinShould(conditions=[*ANY_RED_OR_4, equals("n", 1)], min_count=2)
        ),
        {1},
    ),
    "nested filters": (
        must(models.Filter(should=ANY_RED_OR_4), models.Filter(must_not=[equals("n", 1)])),
        {3, 4},
    ),
    "bool": (must(equals("archived", True)), {3}),
    "any": (must(field("n", match=models.MatchAny(any=[1, 4, 9]))), {1, 4}),
    "any of none": (must(field("color", match=models.MatchAny(any=[]))), set()),
    "except": (must(field("n", match=models.MatchExcept(**{"except": [1, 2]}))), {3, 4}),
    "in list": (must(equals("tags", "a")), {1}),
    "text": (must(field("text", match=models.MatchText(text="quick"))), {1}),
    "range": (must(field("f", range=models.Range(gt=1.5, lte=2.5))), {2}),
    "datetime range": (
        must(field("at", range=models.DatetimeRange(gte="2024-05-01T00:00:00Z"))),
        {2},
    ),
    "is_empty": (
        must(models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))),
        {3, 4},
    ),
    "is_null": (must(models.IsNullCondition(is_null=models.PayloadField(key="nothing"))), {2}),
    "has_id": (must(models.HasIdCondition(has_id=[2, 3, 99])), {2, 3}),
    "has_vector": (must(has_vector("bm25")), set()),
    "values_count": (must(field("tags", values_count=models.ValuesCount(gte=2))), {1}),
    "nested condition": (
        must(
            models.NestedCondition(
                nested=models.Nested(key="parts", filter=must(equals("k", 1), equals("v", 2)))
            )
        ),
        {4},
    ),
    "empty filter": (models.Filter(), {1, 2, 3, 4}),
}


@pytest.mark.parametrize("label", FILTERS)
async def test_filter(client: AsyncQdrantClient, points: str, label: str) -> None:
    """The same answer from scroll, count, query and delete, with indexes and without."""
    wanted, expected = FILTERS[label]
    await client.upsert(points, FILTERED)
    assert await ids_where(client, points, wanted) == expected
    for key, kind in [("color", "keyword"), ("n", "integer"), ("archived", "bool")]:
        await client.create_payload_index(points, key, models.PayloadSchemaType(kind))
    assert await ids_where(client, points, wanted) == expected
    assert (await client.count(points, count_filter=wanted)).count == len(expected)
    found = await client.query_points(points, query=X, using="dense", query_filter=wanted)
    assert {hit.id for hit in found.points} == expected
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
        found = (await client.query_points(filled, query=X, using="dense", limit=2)).points
        assert [hit.id for hit in found] == [1, 2]
        assert found[0].score == pytest.approx(1.0)
        assert found[0].payload is None or found[0].payload == {"t": "a"}

    async def test_sparse_with_inverse_document_frequency(
        self, client: AsyncQdrantClient, filled: str
    ) -> None:
        found = await client.query_points(filled, query=sparse(1, 2), using="bm25")
        assert [hit.id for hit in found.points] == [1, 2]
        # Qdrant's IDF: ln(1 + (N - n + .5) / (n + .5)), of 3 points 1 has the word 1, 2 have 2.
        rare, common = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
        assert found.points[0].score == pytest.approx(rare + common, rel=1e-5)
        assert found.points[1].score == pytest.approx(common, rel=1e-5)

    async def test_frequencies_of_a_part_of_the_collection(
        self, client: AsyncQdrantClient, filled: str, embedded_only: None
    ) -> None:
        """Needs Qdrant 1.19: a tenant's scores do not depend on the others' words."""
        corpus = models.IdfCorpusParams(corpus=must(equals("t", "a")))
        found = await client.query_points(
            filled, query=sparse(2), using="bm25", search_params=models.SearchParams(idf=corpus)
        )
        assert found.points[0].score == pytest.approx(math.log(1 + 1.5 / 1.5), rel=1e-5)

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

    async def test_limit_offset_and_threshold(self, client: AsyncQdrantClient, filled: str) -> None:
        async def ids(**options: Any) -> list[object]:
            found = await client.query_points(filled, query=X, using="dense", **options)
            return [hit.id for hit in found.points]

        assert await ids(limit=1, offset=1) == [2]
        assert await ids(score_threshold=0.95) == [1, 2]
        assert await ids(search_params=models.SearchParams(exact=True, hnsw_ef=64)) == [1, 2, 3]

    async def test_a_point_as_the_query_is_not_its_own_answer(
        self, client: AsyncQdrantClient, filled: str
    ) -> None:
        found = await client.query_points(filled, query=1, using="dense")
        assert [hit.id for hit in found.points] == [2, 3]
        words = await client.query_points(filled, query=2, using="bm25")
        assert [hit.id for hit in words.points] == [1]
        await refused(404, client.query_points(filled, query=99, using="dense"))

    @pytest.mark.parametrize("strategy", list(models.RecommendStrategy))
    async def test_recommending(
        self, client: AsyncQdrantClient, filled: str, strategy: models.RecommendStrategy
    ) -> None:
        wish = models.RecommendInput(positive=[1], negative=[Y], strategy=strategy)
        found = await client.query_points(
            filled, query=models.RecommendQuery(recommend=wish), using="dense"
        )
        assert [hit.id for hit in found.points] == [2, 3]

    @pytest.mark.parametrize("fusion", list(models.Fusion))
    async def test_fusing_prefetches(
        self, client: AsyncQdrantClient, filled: str, fusion: models.Fusion
    ) -> None:
        found = await client.query_points(
            filled,
            prefetch=[
                models.Prefetch(query=[0.8, 0.2, 0.0, 0.0], using="dense", limit=2),
                models.Prefetch(query=sparse(1), using="bm25"),
            ],
            query=models.FusionQuery(fusion=fusion),
        )
        assert found.points[0].id in {1, 2}
        assert {hit.id for hit in found.points} == {1, 2}

    async def test_rrf_adds_reciprocal_ranks(self, client: AsyncQdrantClient, filled: str) -> None:
        found = await client.query_points(
            filled,
            prefetch=[
                models.Prefetch(query=X, using="dense", limit=1),
                models.Prefetch(query=sparse(1), using="bm25"),
            ],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
        )
        assert [hit.id for hit in found.points] == [1]
        assert found.points[0].score == pytest.approx(1.0)

    async def test_ordering_by_a_key(self, client: AsyncQdrantClient, points: str) -> None:
        await client.create_payload_index(points, "n", models.PayloadSchemaType.INTEGER)
        await client.upsert(points, [point(1, n=5), point(2, n=9), point(3, n=7)])
        found = await client.query_points(points, query=models.OrderByQuery(order_by="n"))
        assert [hit.id for hit in found.points] == [1, 3, 2]
