"""Two tenants with memories of the same ids: each has its points, those of an older Eunoe too.

That one wrote every point under its memory's bare id, so the second tenant got none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from services.syncer.reembedding import forced_jobs, switch
from services.syncer.reembedding.reembed import TASK
from services.syncer.reembedding.switch import Switch
from services.syncer.runs import Progress
from shared.domain.memory import Memory
from shared.vectors import VectorQuery
from shared.vectors.points import struct_of
from tests.support.stores.drifting import Place, point_of
from tests.support.stores.graphs import TENANT, a_memory
from tests.support.stores.vector_stores import DIMENSION

BETA = "beta"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced_jobs, "_ANNOUNCE_EVERY_S", 0.2)
    monkeypatch.setattr(switch, "_COUNT_EVERY_S", 0.01)
    monkeypatch.setattr(switch, "_SEEN_AFTER_S", 0.0)


async def restored(here: Place, memories: Sequence[Memory]) -> list[Memory]:
    """The memories in the second tenant, due to be embedded."""
    await here.graph.ensure(BETA)
    theirs = [a_memory(f"restored {each.content}", id=each.id) for each in memories]
    await here.graph.memories.create_many(BETA, theirs)
    return theirs


async def as_before(here: Place, tenant: str, memories: Sequence[Memory]) -> None:
    """Have an older Eunoe's points of them, and a graph that calls them embedded."""
    await here.embed(memories, tenant)
    await here.vectors.delete(tenant, [each.id for each in memories])
    old = [struct_of(point_of(each, tenant)) for each in memories]
    for each, memory in zip(old, memories, strict=True):
        assert each.payload is not None
        del each.payload["memory_id"]
        each.id = memory.id
    await here.client.upsert(here.collection, old, wait=True)


async def test_each_tenant_is_embedded_and_audited_by_itself(here: Place) -> None:
    own = await here.seed(20)
    theirs = await restored(here, own)
    await here.embed(theirs, BETA)
    for tenant in (TENANT, BETA):
        assert await here.agree(tenant)
        run = await here.run(tenant, delete_orphans=True)
        assert run.result is not None
        assert run.result["status"] == "already_synced"
    await here.drop_points([each.id for each in own[:3]])
    async with here.embedding():
        await here.run(delete_orphans=True)
    assert sorted(here.embedded) == sorted(each.id for each in own[:3])
    assert await here.agree(BETA)


async def test_an_older_eunoes_points_serve_until_the_repair_has_moved_them(here: Place) -> None:
    """And while a memory has both, it is found once, and is no neighbour of itself."""
    theirs = await restored(here, [a_memory(f"note {number}") for number in range(10)])
    ids = sorted(each.id for each in theirs)
    await as_before(here, BETA, theirs)
    assert await found(here) == ids
    async with here.embedding():
        run = await here.run(BETA)
        assert run.result is not None
        assert (run.result["missing_count"], run.result["orphaned_count"]) == (10, 10)
        assert (run.result["synced"], run.result["failed"]) == (10, 0)
        assert await here.vectors.count(BETA) == 20
        assert await found(here) == ids
        near = await here.vectors.neighbours(BETA, ids[:1], limit=20, threshold=-1.0)
        assert sorted(hit.id for hit in near[ids[0]]) == ids[1:]
        run = await here.run(BETA, delete_orphans=True)
    assert run.result is not None
    assert (run.result["missing_count"], run.result["orphans_deleted"]) == (0, 10)
    assert await here.agree(BETA)
    assert await found(here) == ids


async def found(here: Place) -> list[str]:
    """The memories of the second tenant that a search finds, as often as it does."""
    query = VectorQuery("dense", np.ones(DIMENSION, np.float32), 50)
    [hits] = await here.vectors.search(BETA, [query])
    return sorted(hit.id for hit in hits)


async def test_an_older_eunoes_point_is_replaced_by_the_default_tenants(here: Place) -> None:
    """It stands under the bare id, which is the default tenant's from now on."""
    own = await here.seed(4)
    theirs = await restored(here, own)
    await here.embed(theirs, BETA)
    await here.drop_points([each.id for each in own])
    await as_before(here, BETA, theirs)
    async with here.embedding():
        for tenant in (TENANT, BETA):
            run = await here.run(tenant, delete_orphans=True)
            assert run.result is not None
            assert (run.result["synced"], run.result["failed"]) == (4, 0)
    assert await here.agree()
    assert await here.agree(BETA)


async def test_points_of_the_default_tenant_need_no_repair_after_an_upgrade(here: Place) -> None:
    ids = [each.id for each in await here.seed(5)]
    await here.drop_keys(ids, "memory_id")
    audit = await here.audit()
    assert (audit.drifted, audit.orphaned_count) == (0, 0)


async def test_a_point_that_names_another_memory_is_mended(here: Place) -> None:
    """Behind the product's back: of the default tenant's the key is not even read."""
    theirs = await restored(here, [a_memory(f"note {number}") for number in range(3)])
    await here.embed(theirs, BETA)
    await here.seed(2)
    for tenant in (TENANT, BETA):
        stored = [point async for page in here.vectors.scroll(tenant) for point in page]
        await here.set_payload([stored[0].point_id], memory_id=stored[1].id)
        await here.drop_keys([stored[1].point_id], "memory_id")
        async with here.embedding():
            await here.run(tenant, delete_orphans=True)
        assert await here.agree(tenant)


async def test_a_switch_fills_and_proves_what_both_tenants_hold(here: Place) -> None:
    """Also a generation that an older Eunoe filled, as when it is gone back to."""
    own = await here.seed(6)
    theirs = await restored(here, [*own, *(a_memory(f"note {number}") for number in range(6))])
    await as_before(here, BETA, theirs)
    made = await here.graph.runs.create(TENANT, TASK, {})
    run = await here.graph.runs.begin(TENANT, made.id)
    assert run is not None
    stores = (here.graph, here.vectors, here.outbox)
    progress = Progress(here.graph.runs, TENANT, run, asyncio.Event())
    target = await here.vectors.live.attach()
    switching = Switch(*stores, progress=progress, target=target)
    async with here.embedding():
        assert await switching() == []
    await switching._verify()
    assert await here.agree()
    assert await here.agree(BETA)


async def test_an_orphan_of_one_tenant_goes_and_the_others_point_stays(here: Place) -> None:
    own = await here.seed(5)
    theirs = await restored(here, own)
    await here.embed(theirs, BETA)
    await here.graph.memories.delete(BETA, [own[0].id])
    run = await here.run(BETA, delete_orphans=True)
    assert run.result is not None
    assert (run.result["orphaned_sample"], run.result["orphans_deleted"]) == ([own[0].id], 1)
    assert await here.agree()
    assert await here.agree(BETA)
