"""Points without a tenant, or of one without a graph: the default tenant's run deletes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
from prometheus_client import REGISTRY

from services.syncer.drift.audit import TASK, drift_task
from services.syncer.drift.findings import DriftGauges
from services.syncer.drift.watch import DriftWatch, OrphanHistory
from shared.config import SyncSettings
from shared.leading.lease import Lease
from shared.streams.job import Job
from tests.support.stores.drifting import Place
from tests.support.stores.graphs import TENANT


async def nobodys(here: Place) -> list[str]:
    """One point without a tenant, one of a tenant without a graph."""
    ids = await here.add_orphans(2)
    await here.drop_keys(ids[:1], "tenant")
    await here.set_payload(ids[1:], tenant="of-nobody")
    return ids


async def left(here: Place, ids: list[str]) -> set[str]:
    points = await here.client.retrieve(here.collection, ids)
    return {str(point.id) for point in points}


async def test_a_dry_run_counts_them_and_a_run_deletes_them_on_request(here: Place) -> None:
    await here.seed(8)
    ids = await nobodys(here)
    for request in ({"dry_run": True}, {}):
        run = await here.run(**request)
        assert run.result is not None
        assert set(run.result["orphaned_sample"]) == set(ids)
        assert await left(here, ids) == set(ids)
    run = await here.run(delete_orphans=True)
    assert run.result is not None
    assert (run.result["orphaned_count"], run.result["orphans_deleted"]) == (2, 2)
    assert await left(here, ids) == set()
    assert await here.agree()


async def test_the_schedule_deletes_them_after_the_grace(here: Place) -> None:
    await here.seed(2)
    ids = await nobodys(here)
    history = OrphanHistory(here.clients, grace_s=0.0, interval_s=60.0)
    watch = DriftWatch(here.graph, here.drift, history, SyncSettings(), DriftGauges())
    lease = Lease(5, "test", expires_at=1e12)
    await watch(lease)
    assert await left(here, ids) == set(ids)
    await watch(lease)
    assert await left(here, ids) == set()


async def test_another_tenants_audit_leaves_them_alone(here: Place) -> None:
    await here.graph.ensure("beta")
    ids = await nobodys(here)
    run = await here.graph.runs.create("beta", TASK, {"delete_orphans": True})
    await here.handler()([Job("beta", run.id, 0)])
    assert await left(here, ids) == set(ids)
    await here.run(delete_orphans=True)


def gauges() -> Mapping[str, float | None]:
    kinds = ("missing", "orphaned", "stale")
    return {
        kind: REGISTRY.get_sample_value("eunoe_drift_memories", {"kind": kind}) for kind in kinds
    }


@pytest.mark.parametrize("batch_size", [1, 100])
async def test_a_repair_by_hand_ends_the_alarm(here: Place, batch_size: int) -> None:
    ids = [each.id for each in await here.seed(9)]
    await here.drop_points(ids[:3])
    await here.set_payload(ids[3:5], payload_version=1)
    await here.add_orphans(2)
    handler = here.handler({TASK: partial(drift_task, here.drift, DriftGauges())})

    async def taken(**request: object) -> None:
        run = await here.graph.runs.create(TENANT, TASK, {"batch_size": batch_size, **request})
        await handler([Job(TENANT, run.id, 0)])

    await taken(dry_run=True)
    assert gauges() == {"missing": 3, "orphaned": 2, "stale": 2}
    async with here.embedding():
        await taken()
        assert gauges() == {"missing": 0, "orphaned": 2, "stale": 0}
        await taken(delete_orphans=True)
    assert gauges() == {"missing": 0, "orphaned": 0, "stale": 0}
    assert await here.agree()
