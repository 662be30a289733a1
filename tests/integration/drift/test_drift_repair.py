"""The repair of drift: one makes both stores agree, and whatever races it wins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from qdrant_client import models

from services.syncer.drift.audit import TASK
from services.syncer.drift.findings import Audit
from services.syncer.runs import Progress, RunLost
from shared.domain.memory import next_version, now_ms
from shared.errors import Conflict
from shared.graph.upkeep.runs import Run, RunState
from shared.streams.job import Job, Stage
from tests.support.stores.drifting import Place, point_of
from tests.support.stores.graphs import TENANT, a_memory, cypher
from tests.support.waiting.conditions import wait_until


async def broken(here: Place, count: int = 40) -> dict[str, list[str]]:
    """5 missing, 4 stale, 3 of another payload, 6 orphans."""
    ids = [each.id for each in await here.seed(count, tags=("a",))]
    await here.drop_points(ids[:5])
    await here.set_payload(ids[5:9], payload_version=1, text_hash="of other words")
    await here.set_payload(ids[9:12], project="another", surplus=1)
    return {"drift": ids[:12], "orphans": await here.add_orphans(6)}


def counts(run: Run) -> dict[str, Any]:
    names = ("missing", "stale", "payload", "orphaned")
    result = run.result or {}
    return {"status": result["status"]} | {name: result[f"{name}_count"] for name in names}


FOUND = {"missing": 5, "stale": 4, "payload": 3, "orphaned": 6}


async def test_one_repair_makes_both_stores_agree(here: Place) -> None:
    made = await broken(here)
    async with here.embedding():
        run = await here.run(delete_orphans=True)
    assert run.state is RunState.COMPLETE
    assert counts(run) == {"status": "complete", **FOUND}
    assert run.result is not None
    assert (run.result["synced"], run.result["failed"]) == (12, 0)
    assert (run.result["orphans_deleted"], "failed_ids" in run.result) == (6, False)
    assert sorted(here.embedded) == sorted(made["drift"])
    assert await here.agree()
    again = await here.run(delete_orphans=True)
    assert counts(again) == {
        "status": "already_synced", "missing": 0, "stale": 0, "payload": 0, "orphaned": 0
    }  # fmt: skip


async def test_orphans_stay_unless_they_are_to_go(here: Place) -> None:
    await broken(here)
    async with here.embedding():
        run = await here.run()
    assert counts(run) == {"status": "complete", **FOUND}
    audit = await here.audit()
    assert (audit.drifted, audit.orphaned_count) == (0, 6)


@pytest.mark.parametrize("request_", [{"dry_run": True, "delete_orphans": True}, {"repair": False}])
async def test_a_run_that_may_not_repair_writes_nothing(
    here: Place, request_: dict[str, Any]
) -> None:
    await broken(here)
    run = await here.run(**request_)
    assert counts(run) == {"status": "dry_run", **FOUND}
    assert (await here.streams[Stage.EMBED].depth()).live == 0
    audit = await here.audit()
    assert (audit.drifted, audit.orphaned_count, audit.pending_count) == (12, 6, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"payload_version": 9_000_000_000_000},
        {"payload_version": "no number"},
        {"payload_version": None},
        {"tenant": None},
        {"tenant": "of-nobody"},
        {"tenant": "beta"},
        {"tenant": 5},
    ],
)
async def test_a_point_that_no_upsert_may_replace_is_mended(
    here: Place, change: dict[str, Any]
) -> None:
    """An upsert leaves a point that is newer or belongs to another tenant."""
    memories = await here.seed(3)
    await here.graph.ensure("beta")
    [(key, value)] = change.items()
    if value is None:
        await here.drop_keys([memories[1].id], key)
    else:
        await here.set_payload([memories[1].id], **change)
    async with here.embedding():
        run = await here.run()
    assert run.result is not None
    assert (run.result["synced"], run.result["failed"]) == (1, 0)
    assert await here.agree()


async def test_another_tenants_memory_of_that_id_keeps_its_own_point(here: Place) -> None:
    """Only a wrong tenant in a payload can stand in the way; the right one stands elsewhere."""
    memories = await here.seed(3)
    theirs = a_memory("restored", id=memories[1].id)
    await here.graph.memories.create("beta", theirs)
    await here.embed([theirs], "beta")
    await here.set_payload([theirs.id], tenant="beta")
    async with here.embedding():
        run = await here.run(delete_orphans=True)
    assert run.result is not None
    assert (run.result["synced"], run.result["failed"]) == (1, 0)
    assert await here.agree()
    assert await here.agree("beta")


async def test_what_cannot_be_embedded_is_reported_as_failed(here: Place) -> None:
    ids = [each.id for each in await here.seed(10)]
    await here.drop_points(ids[:3])
    here.refused = {ids[0]}

    async def given_up() -> bool:
        """As the relay does, once it finds the job in the dead stream."""
        row = (await here.graph.sweeps.audited(TENANT, ids[:1]))[ids[0]]
        failed = [(ids[0], row.memory.payload_version)]
        return bool(await here.graph.work.give_up(TENANT, Stage.EMBED, failed))

    async with here.embedding(), asyncio.TaskGroup() as group:
        group.create_task(wait_until(given_up, "its job was queued"))
        run = await here.run()
    assert run.result is not None
    assert (run.result["synced"], run.result["failed"]) == (2, 1)
    assert run.result["failed_ids"] == [ids[0]]


async def test_without_an_embedder_the_repair_says_so(here: Place) -> None:
    ids = [each.id for each in await here.seed(4)]
    await here.drop_points(ids[:2])
    here.drift.wait_s = 0.2
    run = await here.graph.runs.create(TENANT, TASK, {})
    job = Job(TENANT, run.id, 0, attempt=2)
    await here.handler()([job])
    ended = await here.stored_run(run)
    assert ended.state is RunState.FAILED
    assert "2 memories wait for an embedder" in str(ended.error)
    async with here.embedding():
        await wait_until(here.agree, "what was queued is embedded all the same")


async def test_no_more_is_under_way_than_a_page(here: Place) -> None:
    """However many points are missing, the embed stream never gets them all at once."""
    ids = [each.id for each in await here.seed(60)]
    await here.drop_points(ids)
    deepest = 0

    async def watch() -> None:
        nonlocal deepest
        while len(here.embedded) < 60:
            deepest = max(deepest, (await here.streams[Stage.EMBED].depth()).live)
            await asyncio.sleep(0.002)

    async with here.embedding(), asyncio.TaskGroup() as group:
        group.create_task(watch())
        await here.run()
    assert 0 < deepest <= 7
    assert await here.agree()


async def test_a_change_during_the_repair_wins(here: Place) -> None:
    """PATCH and DELETE between a repair's reading and its writing."""
    memories = await here.seed(6)
    ids = [each.id for each in memories]
    await here.drop_points(ids[:4])
    run = await here.graph.runs.create(TENANT, TASK, {})
    async with here.embedding(opened=False):
        repairing = asyncio.create_task(here.handler()([Job(TENANT, run.id, 0)]))
        depth = here.streams[Stage.EMBED].depth

        async def queued() -> bool:
            return (await depth()).live == 4

        await wait_until(queued, "the repair has queued its jobs")
        await patch(here, ids[0], "other words")
        await cypher(here.settings, f"MATCH (m:Memory {{id: '{ids[1]}'}}) DELETE m")
        here.gate.set()
        await repairing
        await here.streams[Stage.EMBED].publish([Job(TENANT, ids[0], 0)])
        await wait_until(here.agree, "the points are of what was written last")
    ended = await here.stored_run(run)
    assert ended.state is RunState.COMPLETE
    assert (ended.result or {})["failed"] == 0
    stored = await here.vectors.stored(TENANT, ids[:2])
    now = (await here.graph.memories.get(TENANT, [ids[0]]))[ids[0]]
    assert stored[ids[0]].text_hash == point_of(now).payload["text_hash"]
    assert ids[1] not in stored


async def patch(here: Place, memory_id: str, content: str) -> None:
    """As PATCH leaves a memory: of a new version, and to be embedded."""
    memory = (await here.graph.memories.get(TENANT, [memory_id]))[memory_id]
    version = next_version(memory.payload_version, now_ms())
    await cypher(
        here.settings,
        f"MATCH (m:Memory {{id: '{memory_id}'}}) SET m.version = {version},"
        f" m.payload_version = {version}, m.content = '{content}', m.embed_due = {now_ms()}",
    )


class Stopping:
    """A task whose run is lost at its n-th write, however far it is then."""

    def __init__(self, here: Place, at: int) -> None:
        self._here = here
        self._left = at

    async def __call__(self, progress: Progress) -> Any:
        write = progress.write

        async def writing(**counts: object) -> None:
            await write(**counts)
            self._left -= 1
            if self._left == 0:
                raise RunLost("killed")

        progress.write = progress.write_if_due = writing  # type: ignore[method-assign]
        tasks = self._here.handler().tasks
        return await tasks[TASK](progress)


@pytest.mark.parametrize("at", [1, 3, 5, 8, 10, 12, 14, 16, 18])
async def test_a_repair_that_is_interrupted_and_run_again_ends_the_same(
    here: Place, at: int
) -> None:
    """The same stores, and the same counts: what was begun is written before it is done."""
    await broken(here)
    run = await here.graph.runs.create(TENANT, TASK, {"delete_orphans": True})
    job = Job(TENANT, run.id, 0)
    async with here.embedding():
        await here.handler({TASK: Stopping(here, at)})([job])
        assert (await here.stored_run(run)).state is RunState.RUNNING
        await here.handler()([job])
    ended = await here.stored_run(run)
    assert counts(ended) == {"status": "complete", **FOUND}
    assert ended.result is not None
    assert (ended.result["synced"], ended.result["failed"]) == (12, 0)
    assert ended.result["orphans_deleted"] == 6
    assert (ended.result["falkordb_count"], ended.result["qdrant_count"]) == (40, 41)
    assert await here.agree()


async def test_a_cancelled_repair_stops_and_leaves_no_orphan_of_its_own(here: Place) -> None:
    ids = [each.id for each in await here.seed(30)]
    await here.drop_points(ids)
    run = await here.graph.runs.create(TENANT, TASK, {})
    async with here.embedding(opened=False):
        repairing = asyncio.create_task(here.handler()([Job(TENANT, run.id, 0)]))

        async def queued() -> bool:
            return (await here.streams[Stage.EMBED].depth()).live > 0

        await wait_until(queued, "the repair is under way")
        await here.graph.runs.cancel(TENANT, run.id)
        await repairing
        here.gate.set()
        await wait_until(lambda: here.embedded, "what was queued is embedded")
    ended = await here.stored_run(run)
    assert (ended.state, ended.result) == (RunState.CANCELLED, None)
    assert len(here.embedded) <= 7
    audit = await here.audit()
    assert audit.missing_count == 30 - len(here.embedded)


async def test_a_switch_of_the_generation_ends_the_audit(here: Place) -> None:
    """Repaired for the one that served before: reported as failed, another run is to begin."""
    ids = [each.id for each in await here.seed(3)]
    await here.drop_points(ids[:1])
    live = here.vectors.live.generation
    assert live is not None
    other = await here.vectors.generations.create(live.model, live.dimension, serial=99)

    audit = Audit()

    async def beat(*, at_once: bool = False) -> None:
        if audit.repairing and at_once:
            await here.vectors.generations.activate(other)

    try:
        async with here.embedding():
            with pytest.raises(Conflict, match="switched"):
                await here.drift(TENANT, audit, beat, repair=True)
    finally:
        await here.vectors.generations.activate(live)
        await here.vectors.live.attach()


async def test_a_point_under_a_number_goes_as_any_orphan(here: Place) -> None:
    """Nobody here writes such a point; somebody else may."""
    await here.seed(3)
    foreign_point = models.PointStruct(id=77, vector={}, payload={"tenant": TENANT})
    await here.client.upsert(here.collection, [foreign_point], wait=True)
    run = await here.run(delete_orphans=True)
    assert run.result is not None
    assert (run.result["orphaned_sample"], run.result["orphans_deleted"]) == (["77"], 1)
    assert await here.agree()


async def test_a_new_memory_during_the_audit_is_no_orphan(here: Place) -> None:
    """Its point comes after it: who sees the point finds the memory."""
    await here.seed(10)
    fresh = a_memory("stored meanwhile")
    await here.graph.memories.create(TENANT, fresh)
    await here.embed([fresh])
    audit = await here.audit()
    assert (audit.orphaned_count, audit.drifted) == (0, 0)
