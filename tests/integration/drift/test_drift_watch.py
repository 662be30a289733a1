"""The drift schedule: every tenant, repaired unless a setting forbids it, orphans after a grace."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.syncer.drift.findings import DriftGauges
from services.syncer.drift.watch import DriftWatch, OrphanHistory
from shared.config import LeaseSettings, SyncSettings
from shared.errors import Fenced, TransientError
from shared.graph.upkeep.runs import RunState
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Election, Lease
from shared.leading.schedule import Schedule, ScheduledTask
from shared.streams.job import Stage
from tests.support.stores.drifting import Place, point_of
from tests.support.stores.graphs import TENANT, a_memory
from tests.support.waiting.conditions import wait_until


def lease(token: int = 5) -> Lease:
    return Lease(token, "test", expires_at=1e12)


def watch(here: Place, *, grace_s: float = 3600.0, **settings: Any) -> DriftWatch:
    history = OrphanHistory(here.clients, grace_s=grace_s, interval_s=60.0)
    return DriftWatch(here.graph, here.drift, history, SyncSettings(**settings), DriftGauges())


def gauge(kind: str) -> float | None:
    return REGISTRY.get_sample_value("eunoe_drift_memories", {"kind": kind})


async def test_it_repairs_and_writes_its_history(here: Place) -> None:
    ids = [each.id for each in await here.seed(20)]
    await here.drop_points(ids[:3])
    await here.set_payload(ids[3:5], payload_version=1)
    await here.set_payload(ids[5:6], project="another")
    async with here.embedding():
        await watch(here)(lease())
    assert await here.agree()
    [run] = await here.graph.runs.latest(TENANT)
    assert (run.task, run.state, run.request) == ("drift", RunState.COMPLETE, {"scheduled": True})
    assert run.result is not None
    assert (run.result["missing_count"], run.result["stale_count"]) == (3, 2)
    assert (run.result["payload_count"], run.result["synced"]) == (1, 6)
    assert run.started_at is not None
    assert run.completed_at is not None
    assert [gauge(kind) for kind in ("missing", "stale", "payload", "orphaned")] == [3, 2, 1, 0]
    await watch(here)(lease())
    assert [gauge(kind) for kind in ("missing", "stale", "payload")] == [0, 0, 0]
    assert (await here.graph.runs.latest(TENANT))[0].result is not None


async def test_without_auto_repair_it_only_looks(here: Place) -> None:
    ids = [each.id for each in await here.seed(10)]
    await here.drop_points(ids[:3])
    await here.add_orphans(2)
    for _ in range(2):
        await watch(here, grace_s=0.0, SYNC_AUTO_REPAIR=False)(lease())
    assert (gauge("missing"), gauge("orphaned")) == (3, 2)
    assert (await here.streams[Stage.EMBED].depth()).live == 0
    audit = await here.audit()
    assert (audit.missing_count, audit.orphaned_count) == (3, 2)


async def test_an_orphan_goes_when_it_is_seen_again_after_the_grace(here: Place) -> None:
    await here.seed(10)
    orphans = await here.add_orphans(9)
    await watch(here, grace_s=0.0)(lease())
    assert (await here.audit()).orphaned_count == 9
    await watch(here, grace_s=3600.0)(lease())
    assert (await here.audit()).orphaned_count == 9
    younger = await here.add_orphans(2)
    await watch(here, grace_s=0.0)(lease())
    stored = await here.vectors.stored(TENANT, [*orphans, *younger])
    assert set(stored) == set(younger)
    await watch(here, grace_s=0.0)(lease())
    assert await here.agree()


async def test_an_orphan_whose_memory_came_back_stays(here: Place) -> None:
    memory = a_memory("restored in between")
    await here.vectors.upsert(TENANT, [point_of(memory)])
    await watch(here, grace_s=0.0)(lease())
    await here.graph.memories.create(TENANT, memory)
    await watch(here, grace_s=0.0)(lease())
    assert set(await here.vectors.stored(TENANT, [memory.id])) == {memory.id}


async def test_a_point_that_was_no_orphan_in_between_begins_anew(here: Place) -> None:
    """Seen, not seen, seen: the first time does not count any more."""
    memory = a_memory("comes and goes")
    await here.vectors.upsert(TENANT, [point_of(memory)])
    await watch(here, grace_s=0.0)(lease())
    await here.drop_points([memory.id])
    await watch(here, grace_s=0.0)(lease())
    await here.vectors.upsert(TENANT, [point_of(memory)])
    await watch(here, grace_s=0.0)(lease())
    assert (await here.audit()).orphaned_count == 1


async def test_orphans_may_be_kept_for_ever(here: Place) -> None:
    await here.add_orphans(3)
    for _ in range(3):
        await watch(here, grace_s=0.0, EUNOE_SYNC_DELETE_ORPHANS=False)(lease())
    assert (await here.audit()).orphaned_count == 3


async def test_a_memory_that_comes_between_the_look_and_the_deletion_keeps_its_point(
    here: Place,
) -> None:
    """The graph is asked again, and what was stored since is newer than what was seen."""
    memory = a_memory("orphan of long ago")
    await here.vectors.upsert(TENANT, [point_of(memory)])
    known = await here.vectors.stored(TENANT, [memory.id])
    newer = replace(memory, payload_version=memory.payload_version + 1)
    await here.vectors.upsert(TENANT, [point_of(newer)])
    await here.drift._delete(TENANT, list(known.values()))
    stored = await here.vectors.stored(TENANT, [memory.id])
    assert stored[memory.id].payload_version == newer.payload_version
    await here.graph.memories.create(TENANT, memory)
    await here.drift._delete(TENANT, list(stored.values()))
    assert set(await here.vectors.stored(TENANT, [memory.id])) == {memory.id}


async def test_every_tenant_is_watched_and_summed_up(here: Place) -> None:
    await here.seed(3)
    await here.add_point_of_beta()
    await here.add_orphans(2)
    await watch(here)(lease())
    assert gauge("orphaned") == 3
    [run] = await here.graph.runs.latest("beta")
    assert run.result is not None
    assert (run.result["orphaned_count"], run.result["falkordb_count"]) == (1, 0)


async def test_a_leader_of_before_writes_no_history(here: Place) -> None:
    await here.seed(3)
    await here.graph.sweeps.raise_fence(TENANT, Fencing("drift", 9))
    with pytest.raises(Fenced):
        await watch(here)(lease(5))
    assert await here.graph.runs.latest(TENANT) == []


async def test_a_tenant_that_cannot_be_mended_hides_no_other(here: Place) -> None:
    """No embedder works: the others are still looked at, and the round counts as failed."""
    ids = [each.id for each in await here.seed(3)]
    await here.drop_points(ids[:1])
    await here.graph.ensure("zeta")
    here.drift.wait_s = 0.2
    with pytest.raises(TransientError, match="1 tenants"):
        await watch(here)(lease())
    assert len(await here.graph.runs.latest("zeta")) == 1
    async with here.embedding():
        await watch(here)(lease())
    assert await here.agree()


async def test_the_first_audit_comes_after_an_interval(here: Place) -> None:
    """Nobody knows of one before: a new stack is not audited while it starts."""
    ids = [each.id for each in await here.seed(3)]
    await here.drop_points(ids[:1])
    rounds: list[float] = []
    body = watch(here)

    async def noted(lease: Lease) -> None:
        await body(lease)
        rounds.append(time.monotonic())

    election = Election("drift", here.clients, LeaseSettings())
    task = ScheduledTask("drift", 0.6, noted, wait_first=True)
    schedule = Schedule(task, election, here.clients, jitter=0.0)
    stopping, began = asyncio.Event(), time.monotonic()
    async with here.embedding(), asyncio.TaskGroup() as group:
        group.create_task(schedule.run(stopping))
        await wait_until(lambda: len(rounds) == 2, "it ran twice")
        stopping.set()
    assert rounds[0] - began >= 0.6
    assert await here.agree()


async def test_a_new_leader_does_not_begin_the_interval_anew(here: Place) -> None:
    """Else leaders that change often enough would put it off for ever."""
    rounds: list[Lease] = []

    async def noted(lease: Lease) -> None:
        rounds.append(lease)

    async def led_for_less_than_the_interval() -> bool:
        election = Election("drift", here.clients, LeaseSettings())
        task = ScheduledTask("drift", 1.0, noted, wait_first=True)
        schedule = Schedule(task, election, here.clients)
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(schedule.run(stopping))
            await asyncio.sleep(0.3)
            stopping.set()
        return bool(rounds)

    await wait_until(led_for_less_than_the_interval, "one of the leaders ran it")
