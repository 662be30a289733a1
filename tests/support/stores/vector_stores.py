"""What the tests of the vector store share: a store on a collection of its own, points."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models

from shared.config import VectorSettings
from shared.domain.memory import Memory
from shared.errors import Unavailable
from shared.vectors import Point, VectorStore, point_for
from shared.vectors.sparse import SparseVector, sparse_document

DIMENSION = 8
# The one that the product opens for EMBEDDING_PROVIDER=placeholder and VECTOR_SIZE=8.
MODEL = f"placeholder-{DIMENSION}"


def settings(url: str, **variables: Any) -> VectorSettings:
    given: dict[str, Any] = {
        "QDRANT_URL": url,
        "QDRANT_TIMEOUT_SECONDS": 60,
        "QDRANT_COLLECTION": f"t-{uuid4().hex[:12]}",
    } | variables
    return VectorSettings(_env_file=None, **given)


@asynccontextmanager
async def new_store(given: VectorSettings, *, opened: bool = True) -> AsyncIterator[VectorStore]:
    """A store over a new alias; its generations are deleted afterwards."""
    store = await asyncio.to_thread(VectorStore, given)
    if opened:
        await store.live.open(MODEL, DIMENSION)
    try:
        yield store
    finally:
        with suppress(Unavailable):
            for generation in await store.generations.all():
                await store._client.delete_collection(generation.collection)
        await store.close()


async def emptied(store: VectorStore, tenants: Iterable[str]) -> None:
    """Delete every point of `tenants`: cheaper than a new generation with its indexes."""
    for tenant in tenants:
        async for page in store.scroll(tenant):
            await store.delete_seen(tenant, page)


def having(ids: Iterable[Any]) -> models.Filter:
    return models.Filter(must=[models.HasIdCondition(has_id=list(ids))])


async def change_payloads(
    client: AsyncQdrantClient,
    collection: str,
    ids: Sequence[str],
    changed: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Replace the payloads of points behind the product's back."""
    operations: list[models.UpdateOperation] = [
        models.OverwritePayloadOperation(
            overwrite_payload=models.SetPayload(
                payload=changed(record.payload or {}), filter=having([record.id])
            )
        )
        for record in await client.retrieve(collection, list(ids))
    ]
    await client.batch_update_points(collection, operations, wait=True)


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(numbers)] = numbers
    normal: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return normal


def memory(content: str = "", **fields: Any) -> Memory:
    known: dict[str, Any] = {
        "id": str(uuid4()),
        "version": 1,
        "payload_version": 1,
        "content": content,
    }
    return Memory(**(known | fields))


def point(tenant: str, of: Memory, dense: NDArray[np.float32], *, text_hash: str = "h") -> Point:
    vectors: dict[str, NDArray[np.float32] | SparseVector] = {
        "dense": dense,
        "context": dense[::-1].copy(),
        "bm25": sparse_document(of.content),
    }
    return point_for(tenant, of, text_hash=text_hash, vectors=vectors)
