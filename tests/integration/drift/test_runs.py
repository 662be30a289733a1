"""A run has one worker at a time, is continued by another worker, and always ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from services.syncer.janitor import Janitor
from services.syncer.relay import Relay
from services.syncer.runs import Progress, RunLost
from shared.config import SyncSettings
from shared.domain.memory import now_ms
from shared.errors import PermanentError, TransientError, Unavailable
from shared.graph.upkeep.runs import Run, RunState
from shared.graph.upkeep.sweeps import Fencing
from shared.leading.lease import Lease
from shared.streams.job import Job, Stage
from shared.streams.transitions import Defer, Done, Retry
from tests.support.stores.drifting import Place
from tests.support.stores.graphs import TENANT, cypher
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import consuming


class Steps:
    """A task of `count` steps that begins where its progress says."""

    def __init__(self, count: int = 3, fails: Callable[[int], Exception | None] | None = None):
        self.count = count
        self.fails = fails or (lambda _step: None)
        self.taken: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, progress: Progress) -> Mapping[str, Any]:
        for step in range(int(progress.state.get("step", 0)), self.count):
            await self.gate.wait()
            self.taken.append(step)
            if error := self.fails(step):
                raise error
            await progress.write(step=step + 1)
        return {"steps": self.count, "request": dict(progress.run.request)}


async def queued(here: Place, **request: Any) -> Job:
    run = await here.graph.runs.create(TENANT, "steps", request)
    return Job(TENANT, run.id, 0)


async def stored_run(here: Place, job: Job) -> Run:
    found = await here.graph.runs.get(TENANT, job.memory_id)
    assert found is not None
    return found


async def test_a_run_is_taken_and_its_result_is_kept(here: Place) -> None:
    job, steps = await queued(here, limit=3), Steps()
    assert (await stored_run(here, job)).state is RunState.QUEUED
    assert await here.handler({"steps": steps})([job]) == [Done()]
    run = await stored_run(here, job)
    assert (run.state, run.result) == (RunState.COMPLETE, {"steps": 3, "request": {"limit": 3}})
    assert run.progress == {"step": 3}
    assert run.started_at is not None
    assert run.completed_at is not None


async def test_a_run_that_is_over_is_not_taken_again(here: Place) -> None:
    job, steps = await queued(here), Steps()
    handler = here.handler({"steps": steps})
    await handler([job])
    assert await handler([job]) == [Done()]
    assert steps.taken == [0, 1, 2]


async def test_a_permanent_error_ends_it_with_its_reason(here: Place) -> None:
    job = await queued(here)
    steps = Steps(fails=lambda step: PermanentError("no such model") if step == 1 else None)
    assert await here.handler({"steps": steps})([job]) == [Done()]
    run = await stored_run(here, job)
    assert (run.state, run.error, run.result) == (RunState.FAILED, "no such model", None)
    assert run.progress == {"step": 1}


async def test_a_task_that_nobody_knows_fails(here: Place) -> None:
    job = await queued(here)
    await here.handler()([job])
    assert (await stored_run(here, job)).error == "there is no task steps"


async def test_a_store_that_is_down_interrupts_it_and_it_continues(here: Place) -> None:
    job = await queued(here)
    down = [Unavailable("vectors", "gone")]
    steps = Steps(fails=lambda step: down.pop() if step == 1 and down else None)
    handler = here.handler({"steps": steps})
    with pytest.raises(Unavailable):
        await handler([job])
    assert (await stored_run(here, job)).state is RunState.RUNNING
    assert await handler([job]) == [Done()]
    assert steps.taken == [0, 1, 1, 2]
    assert (await stored_run(here, job)).state is RunState.COMPLETE


async def test_what_may_succeed_later_is_tried_again_and_then_fails(here: Place) -> None:
    job = await queued(here)
    handler = here.handler({"steps": Steps(fails=lambda _step: TransientError("busy"))})
    assert await handler([job]) == [Retry("busy")]
    assert (await stored_run(here, job)).state is RunState.RUNNING
    last = replace(job, attempt=2)
    assert await handler([last]) == [Done()]
    run = await stored_run(here, job)
    assert (run.state, run.error) == (RunState.FAILED, "busy")


async def test_a_cancelled_run_stops_at_its_next_note(here: Place) -> None:
    job, steps = await queued(here), Steps()
    steps.gate.clear()
    working = asyncio.create_task(here.handler({"steps": steps})([job]))

    async def begun() -> bool:
        return (await stored_run(here, job)).state is RunState.RUNNING

    await wait_until(begun, "it runs")
    await here.graph.runs.cancel(TENANT, job.memory_id)
    steps.gate.set()
    assert await working == [Done()]
    assert steps.taken == [0]
    run = await stored_run(here, job)
    assert (run.state, run.result, run.progress) == (RunState.CANCELLED, None, {})


async def test_who_is_taken_over_writes_nothing_more(here: Place) -> None:
    """Two hold it, as after a pause: only the second brings it to its end."""
    job, slow, quick = await queued(here), Steps(), Steps()
    slow.gate.clear()
    first = asyncio.create_task(here.handler({"steps": slow})([job]))

    async def begun() -> bool:
        return (await stored_run(here, job)).state is RunState.RUNNING

    await wait_until(begun, "the first has it")
    quick.gate.clear()
    before = (await stored_run(here, job)).token
    second = asyncio.create_task(here.handler({"steps": quick})([job]))

    async def taken_over() -> bool:
        return (await stored_run(here, job)).token > before

    await wait_until(taken_over, "the second has it")
    slow.gate.set()
    [left] = await first
    assert isinstance(left, Defer)
    assert slow.taken == [0]
    quick.gate.set()
    assert await second == [Done()]
    assert (await stored_run(here, job)).state is RunState.COMPLETE


async def test_a_process_that_stops_hands_it_on_where_it_is(here: Place) -> None:
    job, steps, stopping = await queued(here), Steps(), asyncio.Event()
    steps.gate.clear()
    working = asyncio.create_task(here.handler({"steps": steps}, stopping)([job]))

    async def begun() -> bool:
        return (await stored_run(here, job)).state is RunState.RUNNING

    await wait_until(begun, "it runs")
    stopping.set()
    steps.gate.set()
    [left] = await working
    assert isinstance(left, Defer)
    run = await stored_run(here, job)
    assert (run.state, run.progress) == (RunState.RUNNING, {"step": 1})
    await here.handler({"steps": steps})([job])
    assert steps.taken == [0, 1, 2]


async def test_sigterm_leaves_the_run_to_the_next_consumer(here: Place) -> None:
    """The whole loop: published, taken, stopped in the middle, taken by another, acked."""
    steps, stream, stopping = Steps(), here.streams[Stage.SYNC], asyncio.Event()
    job = await queued(here)
    steps.gate.clear()
    await stream.publish([job])
    handler = here.handler({"steps": steps}, stopping)
    async with consuming(stream, handler, name="first", batch_size=1) as first:

        async def begun() -> bool:
            return (await stored_run(here, job)).state is RunState.RUNNING

        await wait_until(begun, "the first has it")
        stopping.set()
        leaving = asyncio.create_task(first.stop())
        steps.gate.set()
        await leaving
    async with consuming(stream, here.handler({"steps": steps}), name="second", batch_size=1):

        async def over() -> bool:
            return (await stored_run(here, job)).over

        await wait_until(over, "the second brought it to its end")
    assert steps.taken == [0, 1, 2]
    assert (await stream.depth()).live == 0


async def test_a_run_whose_job_got_lost_is_published_again(here: Place) -> None:
    """It was created, and Redis knew nothing of it."""
    job, stream = await queued(here), here.streams[Stage.SYNC]
    await cypher(here.settings, "MATCH (r:Run) SET r.due = 5")
    relay = Relay(here.graph, here.outbox, here.streams, SyncSettings())
    await relay._republish_runs(TENANT, now_ms())
    steps = Steps()
    async with consuming(stream, here.handler({"steps": steps}), batch_size=1):

        async def over() -> bool:
            return (await stored_run(here, job)).over

        await wait_until(over, "it was taken")
    assert steps.taken == [0, 1, 2]


async def test_a_run_whose_job_is_dead_has_failed(here: Place) -> None:
    """A body that ends its process each time, or raises what nobody foresaw."""
    job, stream = await queued(here), here.streams[Stage.SYNC]
    broken = here.handler({"steps": Steps(fails=lambda _step: ValueError("a bug"))})
    await stream.publish([job])
    async with consuming(stream, broken, batch_size=1):

        async def dead() -> bool:
            return (await stream.depth()).dead == 1

        await wait_until(dead, "its attempts are used up")
    assert (await stored_run(here, job)).state is RunState.RUNNING
    await cypher(here.settings, "MATCH (r:Run) SET r.due = 5")
    relay = Relay(here.graph, here.outbox, here.streams, SyncSettings())
    await relay._republish_runs(TENANT, now_ms())
    run = await stored_run(here, job)
    assert run.state is RunState.FAILED
    assert "dead stream" in str(run.error)
    await stream.discard([each.entry_id for each in await stream.dead(limit=10)])


async def test_progress_is_written_at_most_once_a_second_by_those_who_only_wait(
    here: Place,
) -> None:
    job = await queued(here)
    run = await here.graph.runs.begin(TENANT, job.memory_id)
    assert run is not None
    progress = Progress(here.graph.runs, TENANT, run, asyncio.Event())
    await progress.write_if_due(at=1)
    await progress.write_if_due(at=2)
    assert (await stored_run(here, job)).progress == {"at": 1}
    await progress.write(at=3)
    assert (await stored_run(here, job)).progress == {"at": 3}
    await here.graph.runs.cancel(TENANT, job.memory_id)
    with pytest.raises(RunLost):
        await progress.write(at=4)
    assert (await stored_run(here, job)).progress == {"at": 3}


async def test_the_janitor_keeps_the_newest_runs_of_each_task(here: Place) -> None:
    await here.graph.sweeps.raise_fence(TENANT, Fencing("janitor", 1))
    for number in range(5):
        job = await queued(here, number=number)
        await here.handler({"steps": Steps(1)})([job])
        await cypher(
            here.settings,
            f"MATCH (r:Run {{id: '{job.memory_id}'}}) SET r.completed_at = {1000 + number}",
        )
    await here.run(dry_run=True)
    waiting = await queued(here, number=9)
    janitor = Janitor(here.graph, here.streams, idempotency_ttl_s=60, runs_kept=2)
    lease = Lease(2, "test", expires_at=1e12)
    await janitor(lease)
    left = await here.graph.runs.latest(TENANT, tasks=["steps"])
    assert sorted(run.request["number"] for run in left) == [3, 4, 9]
    assert len(await here.graph.runs.latest(TENANT, tasks=["drift"])) == 1
    assert (await stored_run(here, waiting)).state is RunState.QUEUED
