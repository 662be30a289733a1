"""The stores agree again with the real syncer and embedder, even if a repair is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.syncer.drift.audit import TASK, Drift
from shared.config import Settings, StreamSettings
from shared.errors import Unavailable
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run, RunState
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.vectors import VectorStore
from tests.support.stack.stack import Stack, running
from tests.support.stores.drifting import Place
from tests.support.stores.graphs import TENANT
from tests.support.stores.vector_stores import DIMENSION
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos

# What a test seeds is never enriched: only the drift moves the stores.
_NEVER_S = 1e7
ENVIRONMENT = {
    "EMBEDDING_PROVIDER": "placeholder",
    "VECTOR_SIZE": str(DIMENSION),
    "SYNC_CHECK_INTERVAL_SECONDS": "100000",
}
KINDS = ("missing", "stale", "payload", "orphaned")


@pytest.fixture(scope="module")
async def drifting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("drift") / "stack"
    async with running(folder, ENVIRONMENT, "--only", "embedder,syncer") as stack:
        yield stack
        assert await stack.stop() == 0


@pytest.fixture
async def here(drifting: Stack) -> AsyncIterator[Place]:
    """The stack's default tenant, emptied afterwards."""
    redis, graphs, points = drifting.store_settings()
    clients = RedisClients.open(redis, StreamSettings())
    streams = {stage: Stream(clients, policy_for(stage, Settings())) for stage in Stage}
    outbox = Outbox(clients, streams, delay_s=_NEVER_S)
    vectors = await asyncio.to_thread(VectorStore, points)

    async def attached() -> bool:
        with suppress(Unavailable):
            await vectors.live.attach()
        return vectors.live.generation is not None

    await wait_until(attached, "the embedder has made a generation")
    graph = await GraphStore(graphs, outbox_delay_s=_NEVER_S).open()
    drift = Drift(graph, vectors, outbox, excluded_types=frozenset(), wait_s=60.0)
    place = Place(graphs, graph, vectors, vectors._client, clients, outbox, streams, drift)
    try:
        await graph.ensure(TENANT)
        yield place
        await emptied(place)
    finally:
        await graph.close()
        await vectors.close()
        await clients.close()


async def emptied(here: Place) -> None:
    while page := await here.graph.sweeps.memories_page(TENANT, "", 1000):
        await here.graph._client.write(
            TENANT,
            "emptied",
            "UNWIND $ids AS id MATCH (m:Memory {id: id}) DELETE m",
            ids=[row.id for row in page],
        )
    async for points in here.vectors.scroll(TENANT):
        await here.vectors.delete(TENANT, [each.id for each in points])


async def broken(here: Place, count: int, parts: tuple[int, int, int, int]) -> None:
    """`parts` of each kind: deleted, made stale, changed in the payload, added."""
    ids = [each.id for each in await here.seed(count, tags=("a", "b"))]
    missing, stale, payload, orphaned = parts
    await here.drop_points(ids[:missing])
    at = missing
    await here.set_payload(ids[at : at + stale // 2], payload_version=1)
    await here.set_payload(ids[at + stale // 2 : at + stale], text_hash="0" * 32)
    at += stale
    await here.set_payload(ids[at : at + payload // 2], tags=["renamed"])
    await here.drop_keys(ids[at + payload // 2 : at + payload], "project")
    await here.add_orphans(orphaned)


async def requested_run(here: Place, **request: Any) -> Run:
    run = await here.graph.runs.create(TENANT, TASK, request)
    await here.outbox.announce({Stage.SYNC: [Job(TENANT, run.id, 0)]}, exempt=True)
    return run


async def ended(here: Place, run: Run, timeout_s: float = 60.0) -> Run:
    async def over() -> bool:
        return (await here.stored_run(run)).over

    await wait_until(over, "the run is over", timeout_s)
    return await here.stored_run(run)


def found(run: Run) -> tuple[int, ...]:
    assert run.state is RunState.COMPLETE, run.error
    assert run.result is not None
    return tuple(run.result[f"{kind}_count"] for kind in KINDS)


def took_s(run: Run) -> float:
    assert run.completed_at is not None
    assert run.started_at is not None
    return (run.completed_at - run.started_at) / 1000


class Resident:
    """The highest resident memory of a process since it was last forgotten, in MiB."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def forget(self) -> None:
        (self._folder / "clear_refs").write_text("5")

    def highest(self) -> float:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        pytest.param(1_200, (30, 20, 10, 20), id="1200"),
        pytest.param(
            12_000,
            (300, 200, 100, 200),
            id="12000",
            marks=[pytest.mark.long],
        ),
    ],
)
async def test_the_audit_is_exact_and_one_repair_makes_both_stores_agree(
    here: Place, count: int, parts: tuple[int, int, int, int]
) -> None:
    await broken(here, count, parts)
    dry = await ended(here, await requested_run(here, dry_run=True))
    assert found(dry) == parts
    assert dry.result is not None
    assert dry.result["falkordb_count"] == count
    assert dry.result["qdrant_count"] == count - parts[0] + parts[3]
    repaired = await ended(here, await requested_run(here, delete_orphans=True))
    assert found(repaired) == parts
    assert repaired.result is not None
    assert (repaired.result["synced"], repaired.result["failed"]) == (sum(parts[:3]), 0)
    assert repaired.result["orphans_deleted"] == parts[3]
    again = await ended(here, await requested_run(here, dry_run=True))
    assert found(again) == (0, 0, 0, 0)
    assert await here.agree()
    print(f"{count}: audit {took_s(dry):.2f} s, repair {took_s(repaired):.2f} s")


@pytest.mark.long
async def test_memory_use_does_not_grow_with_the_tenant(here: Place, drifting: Stack) -> None:
    """Four times the memories and the drift, in the same resident memory."""
    highest: list[float] = []
    resident = Resident(drifting.one("syncer").pid)
    for count in (3_000, 3_000, 12_000):
        await broken(here, count, (300, 200, 100, 200))
        resident.forget()
        for request in ({"dry_run": True}, {"delete_orphans": True}):
            await ended(here, await requested_run(here, **request))
        highest.append(resident.highest())
        assert await here.agree()
        await emptied(here)
    print(f"resident MiB: 3000 {highest[0]:.1f}, again {highest[1]:.1f}, 12000 {highest[2]:.1f}")
    assert highest[2] - highest[1] < 6.0


async def test_a_repair_whose_syncer_is_killed_ends_the_same(here: Place, drifting: Stack) -> None:
    """SIGKILL in the middle, twice: the next syncer goes on, and the counts are of the whole."""
    parts = (1200, 100, 100, 40)
    await broken(here, 2_000, parts)
    run = await requested_run(here, delete_orphans=True)
    for _ in range(2):
        known = (await here.stored_run(run)).progress.get("after", "")

        async def repairing(known: str = known) -> bool:
            progress = (await here.stored_run(run)).progress
            return bool(progress.get("repairing")) and progress["after"] != known

        await wait_until(repairing, "the next page is being repaired")
        await drifting.killed_and_back("syncer")
    over = await ended(here, run)
    assert found(over) == parts
    assert over.result is not None
    assert (over.result["synced"], over.result["failed"]) == (sum(parts[:3]), 0)
    assert over.result["orphans_deleted"] == parts[3]
    assert await here.agree()
