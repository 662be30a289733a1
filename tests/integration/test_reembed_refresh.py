"""A refresh in place: vectors are really made again, page by page, of the newest where asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from shared.graph.upkeep.runs import RunState
from tests.integration.conftest import CANARY
from tests.support.stack.reembedding import back
from tests.support.stack.stack import Client, Stack, StoreView

TEXTS = [f"{CANARY}: the {number}. note about falcons and their nests" for number in range(12)]


async def corrupt(stack: Stack, stores: StoreView) -> None:
    """Overwrite the tenant's vectors, and nothing else, as nobody of ours would."""
    client = AsyncQdrantClient(url=stack.qdrant_url, check_compatibility=False)
    wrong: dict[str, Any] = {name: [1.0] + [0.0] * 383 for name in ("dense", "context")}
    points = [
        models.PointStruct(
            id=each.id,
            payload=each.payload,
            vector={**each.vector, **wrong} if isinstance(each.vector, dict) else wrong,
        )
        for each in (await stores.points(vectors=True)).values()
    ]
    try:
        await client.upsert("memories", points, wait=True)
    finally:
        await client.close()


async def dense(stores: StoreView) -> dict[str, np.ndarray[Any, Any]]:
    points = await stores.points(vectors=True)
    return {
        key: np.asarray(point.vector["dense"])
        for key, point in points.items()
        if isinstance(point.vector, dict)
    }


def mended(ids: list[str], now: dict[str, Any], before: dict[str, Any]) -> int:
    return sum(bool(now[key] @ before[key] > 0.99) for key in ids)


async def test_a_refresh_mends_corrupted_vectors(
    stack: Stack, api: Client, stores: StoreView, tenant: str
) -> None:
    ids = await api.store_all(TEXTS, connections=1)
    await stores.all_done(len(ids))
    before = await dense(stores)
    await corrupt(stack, stores)
    assert mended(ids, await dense(stores), before) == 0
    async with back(stack) as behind:
        run = await behind.start({"batch_size": 5}, tenant=tenant)
        ended = await behind.ended(run, tenant=tenant)
    assert ended.state is RunState.COMPLETE, ended
    assert ended.result is not None
    expected = {"status": "complete", "processed": 12, "failed": 0, "total": 12, "batch_size": 5}
    assert expected.items() <= ended.result.items()
    assert ended.result["metadata_preserved"] is True
    assert ended.progress["processed"] == 12
    assert mended(ids, await dense(stores), before) == len(ids)
    await stores.all_done(len(ids))


async def test_a_limit_takes_the_newest(
    stack: Stack, api: Client, stores: StoreView, tenant: str
) -> None:
    ids = [
        await api.stored(text, timestamp=f"2026-01-{number + 1:02}T00:00:00Z")
        for number, text in enumerate(TEXTS)
    ]
    await stores.all_done(len(ids))
    before = await dense(stores)
    await corrupt(stack, stores)
    async with back(stack) as behind:
        run = await behind.start({"batch_size": 2, "limit": 5}, tenant=tenant)
        ended = await behind.ended(run, tenant=tenant)
    assert ended.result is not None
    assert (ended.result["processed"], ended.result["total"]) == (5, 5)
    now = await dense(stores)
    assert mended(ids[-5:], now, before) == 5
    assert mended(ids[:-5], now, before) == 0
    await stores.all_done(len(ids))


async def test_nothing_to_embed_is_complete_at_once(stack: Stack, tenant: str) -> None:
    async with back(stack) as behind:
        run = await behind.start({}, tenant=tenant)
        ended = await behind.ended(run, tenant=tenant)
    assert ended.state is RunState.COMPLETE, ended
    assert ended.result is not None
    assert (ended.result["processed"], ended.result["total"]) == (0, 0)


async def test_a_model_that_cannot_be_opened_fails_with_its_reason(
    stack: Stack, api: Client, stores: StoreView, tenant: str
) -> None:
    await api.stored(TEXTS[0])
    await stores.all_done(1)
    async with back(stack) as behind:
        live = await behind.vectors.generations.live()
        run = await behind.start({"provider": "voyage"}, tenant=tenant)
        ended = await behind.ended(run, tenant=tenant)
        assert ended.state is RunState.FAILED, ended
        assert "VOYAGE_API_KEY" in (ended.error or "")
        assert await behind.vectors.generations.live() == live
        assert await behind.vectors.generations.next() is None
