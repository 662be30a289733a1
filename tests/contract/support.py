"""Points, filters, searches and the check of a refusal that the contract tests share."""

from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

X, Y, Z = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]
Row = dict[str, object]


def point(point_id: int | str, dense: list[float] = X, **payload: object) -> models.PointStruct:
    return models.PointStruct(id=point_id, vector={"dense": dense}, payload=payload)


def sparse(*indices: int) -> models.SparseVector:
    return models.SparseVector(indices=list(indices), values=[1.0] * len(indices))


def field(key: str, **condition: object) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def must(*conditions: models.Condition) -> models.Filter:
    return models.Filter(must=list(conditions))


def equals(key: str, value: object) -> models.FieldCondition:
    return field(key, match=models.MatchValue(value=value))


def having(*ids: int) -> models.Filter:
    return must(models.HasIdCondition(has_id=list(ids)))


def overwriting(
    payload: dict[str, object], wanted: models.Filter
) -> models.OverwritePayloadOperation:
    return models.OverwritePayloadOperation(
        overwrite_payload=models.SetPayload(payload=payload, filter=wanted)
    )


async def create(
    client: AsyncQdrantClient,
    name: str,
    optimizers_config: models.OptimizersConfigDiff | None = None,
) -> None:
    await client.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)},
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        optimizers_config=optimizers_config,
    )


async def payload_of(client: AsyncQdrantClient, name: str, point_id: int | str) -> Row | None:
    found = await client.retrieve(name, [point_id])
    return found[0].payload if found else None


async def ids_where(client: AsyncQdrantClient, name: str, wanted: models.Filter) -> set[object]:
    found, _ = await client.scroll(name, scroll_filter=wanted, limit=100)
    return {record.id for record in found}


async def refused(status: int, call: object) -> str:
    """Return the text of a refusal with this status."""
    with pytest.raises(UnexpectedResponse) as refusal:
        await call  # type: ignore[misc]
    assert refusal.value.status_code == status, refusal.value.content
    return refusal.value.content.decode()


async def nearest(
    client: AsyncQdrantClient,
    name: str,
    query: list[float] | models.SparseVector,
    using: str = "dense",
    **options: Any,
) -> list[models.ScoredPoint]:
    """Return the answer to a batch of one query."""
    request = models.QueryRequest(query=query, using=using, **options)
    [found] = await client.query_batch_points(name, [request])
    return found.points


async def collection_names(client: AsyncQdrantClient) -> set[str]:
    return {collection.name for collection in (await client.get_collections()).collections}
