"""What a consumer does with its batches while everything around it works."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from shared.errors import PermanentError, TransientError
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import DeadLetter, Defer, Depth, Done, Outcome, Retry, Settlement
from tests.conftest import MakeStream
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import (
    Gate,
    Recorder,
    consuming,
    delivered,
    drained,
    idle_ms,
    job,
    jobs,
)

EMPTY = Depth(ready=0, pending=0, delayed=0, dead=0)


async def empty(stream: Stream) -> bool:
    return (await stream.depth()).live == 0


async def test_everything_published_is_handled_once_and_acked(enrich: Stream) -> None:
    recorder = Recorder()
    await enrich.publish(jobs(100))
    async with consuming(enrich, recorder) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        await enrich.publish(jobs(150)[100:])
        await wait_until(lambda: empty(enrich), "all is settled")
    assert Counter(each.memory_id for each in recorder.jobs) == Counter(
        each.memory_id for each in jobs(150)
    )
    assert await enrich.depth() == EMPTY


async def test_jobs_published_before_the_first_consumer_are_work(enrich: Stream) -> None:
    """A group created at `$` would never see them."""
    await enrich.publish(jobs(3))
    recorder = Recorder()
    async with consuming(enrich, recorder):
        await wait_until(lambda: len(recorder.jobs) == 3, "they are handled")


async def test_batches_are_full_under_load_and_never_larger(enrich: Stream) -> None:
    recorder = Recorder()
    await enrich.publish(jobs(50))
    async with consuming(enrich, recorder, batch_size=20):
        await wait_until(lambda: empty(enrich), "all is settled")
    assert [len(batch) for batch in recorder.batches] == [20, 20, 10]


async def test_a_batch_holds_each_memory_once(enrich: Stream) -> None:
    """The same id twice in one UNWIND reports success twice and keeps one write."""
    recorder = Recorder()
    await enrich.publish(
        [job(number, version=version) for version in (1, 2, 3) for number in (1, 2)]
    )
    await enrich.publish([job(1, tenant="other")])
    async with consuming(enrich, recorder):
        await wait_until(lambda: empty(enrich), "all is settled")
    assert len(recorder.jobs) == 7
    for batch in recorder.batches:
        assert len({(each.tenant, each.memory_id) for each in batch}) == len(batch)
    versions = [each.version for each in recorder.jobs if each == job(1, version=each.version)]
    assert versions == [1, 2, 3]


async def test_no_more_batches_run_at_once_than_allowed(enrich: Stream) -> None:
    gate = Gate()
    await enrich.publish(jobs(30))
    async with consuming(enrich, gate, batch_size=4, batches=3):
        await wait_until(lambda: len(gate.started) == 12, "three batches run")
        await asyncio.sleep(0.2)
        assert await enrich.depth() == Depth(ready=18, pending=12, delayed=0, dead=0)
        gate.opened.set()
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_a_busy_consumer_takes_nothing_it_cannot_start(enrich: Stream) -> None:
    """Another replica could do it meanwhile."""
    gate = Gate()
    async with consuming(enrich, gate, batch_size=10):
        await enrich.publish([job(1)])
        await wait_until(lambda: gate.started, "a batch runs")
        await enrich.publish([job(2)])
        await asyncio.sleep(0.2)
        assert await enrich.depth() == Depth(ready=1, pending=1, delayed=0, dead=0)
        gate.opened.set()
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_each_outcome_leads_to_its_state(make_stream: MakeStream) -> None:
    stream = make_stream(Stage.EMBED, EUNOE_EMBED_BACKOFF_SECONDS=60)
    wanted: dict[str, Outcome] = {
        "m0": Done(),
        "m1": Retry("busy"),
        "m2": DeadLetter("refused", "never"),
        "m3": Defer("later", 60.0),
    }

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        return [wanted[each.memory_id] for each in batch]

    await stream.publish(jobs(4))
    async with consuming(stream, handler):
        await wait_until(lambda: _is(stream, Depth(0, 0, 2, 1)), "each is where it belongs")
    [dead] = await stream.dead(limit=9)
    assert (dead.reason, dead.error, dead.attempts) == ("refused", "never", 1)
    assert {each.memory_id: each.attempt for each in await drained(stream)} == {"m1": 1, "m3": 0}


async def test_a_job_that_keeps_failing_is_dead_lettered_after_its_attempts(enrich: Stream) -> None:
    attempts: list[int] = []

    async def failing(batch: Sequence[Job]) -> Sequence[Outcome]:
        attempts.extend(each.attempt for each in batch)
        raise TransientError("still broken")

    await enrich.publish([job(1)])
    async with consuming(enrich, failing):
        await wait_until(lambda: _is(enrich, Depth(0, 0, 0, 1)), "the job is dead")
    assert attempts == [0, 1, 2]
    [dead] = await enrich.dead(limit=1)
    assert (dead.reason, dead.error, dead.attempts) == ("exhausted", "still broken", 3)


async def test_what_the_provider_asks_to_wait_is_waited(make_stream: MakeStream) -> None:
    stream = make_stream(Stage.EMBED)

    async def limited(batch: Sequence[Job]) -> Sequence[Outcome]:
        raise TransientError("rate limit", retry_after_s=60.0)

    await stream.publish([job(1)])
    async with consuming(stream, limited):
        await wait_until(lambda: _is(stream, Depth(0, 0, 1, 0)), "the job is delayed")
        await asyncio.sleep(0.3)  # five times the stage's own longest wait
        assert await stream.depth() == Depth(ready=0, pending=0, delayed=1, dead=0)
    await drained(stream)


@pytest.mark.parametrize("error", [PermanentError("bad"), KeyError("bad")])
async def test_one_bad_job_never_fails_its_neighbours(enrich: Stream, error: Exception) -> None:
    recorder = Recorder()

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        if any(each.memory_id == "m5" for each in batch):
            raise error
        return await recorder(batch)

    await enrich.publish(jobs(16))
    async with consuming(enrich, handler):
        await wait_until(lambda: _is(enrich, Depth(0, 0, 0, 1)), "only the bad job is left")
    assert {each.memory_id for each in recorder.jobs} == {f"m{number}" for number in range(16)} - {
        "m5"
    }
    assert all(each.attempt == 0 for each in recorder.jobs)
    [dead] = await enrich.dead(limit=1)
    assert dead.job is not None
    assert dead.job.memory_id == "m5"
    assert dead.reason == ("permanent" if isinstance(error, PermanentError) else "exhausted")


async def test_a_neighbour_is_not_dead_lettered_for_a_shared_transient_failure(
    enrich: Stream,
) -> None:
    """A job that always times out fails its batch each time; the last attempts are made alone."""
    finished: set[str] = set()

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        if any(each.memory_id == "m0" for each in batch):
            raise TransientError("timed out")
        finished.update(each.memory_id for each in batch)
        return [Done()] * len(batch)

    await enrich.publish(jobs(8))
    async with consuming(enrich, handler):
        await wait_until(lambda: _is(enrich, Depth(0, 0, 0, 1)), "only the culprit is dead")
    assert finished == {f"m{number}" for number in range(1, 8)}


async def test_too_few_outcomes_are_a_failure_not_a_success(enrich: Stream) -> None:
    async def forgetful(batch: Sequence[Job]) -> Sequence[Outcome]:
        return [Done()] * (len(batch) - 1)

    await enrich.publish(jobs(2))
    async with consuming(enrich, forgetful):
        await wait_until(lambda: _is(enrich, Depth(0, 0, 0, 2)), "both are dead")
    assert {dead.error.split(" at ")[0] for dead in await enrich.dead(limit=9)} == {"RuntimeError"}


async def test_an_unforeseen_error_does_not_quote_the_content(
    enrich: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ValueError often quotes its input, which no log may show."""

    async def quoting(batch: Sequence[Job]) -> Sequence[Outcome]:
        raise ValueError("canary-4711 is my secret")

    await enrich.publish([job(1)])
    async with consuming(enrich, quoting):
        await wait_until(lambda: _is(enrich, Depth(0, 0, 0, 1)), "the job is dead")
    [dead] = await enrich.dead(limit=1)
    assert dead.error.startswith("ValueError at test_consumer_work.py:")
    logged = capsys.readouterr().out
    assert "job.buried" in logged
    assert "ValueError" in logged
    assert "canary-4711" not in logged


async def test_a_partial_batch_lingers_and_a_full_one_leaves_at_once(enrich: Stream) -> None:
    recorder, linger_s = Recorder(), 0.5
    loop = asyncio.get_running_loop()
    async with consuming(enrich, recorder, batch_size=4, linger_s=lambda: linger_s) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        begun = loop.time()
        await enrich.publish(jobs(3))
        await wait_until(lambda: recorder.batches, "the partial batch left")
        assert loop.time() - begun > 0.3
        assert len(recorder.batches[0]) == 3
        linger_s = 3600.0
        await enrich.publish(jobs(4))
        await wait_until(lambda: len(recorder.batches) == 2, "the full batch left at once")
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_a_slow_handler_keeps_its_entries_by_renewing(make_stream: MakeStream) -> None:
    enrich = make_stream(Stage.ENRICH, EUNOE_VISIBILITY_SECONDS=5)
    gate, other = Gate(), Recorder()
    await enrich.publish([job(1)])
    async with consuming(enrich, gate, name="slow"):
        await wait_until(lambda: gate.started, "the slow one has it")
        async with consuming(enrich, other, name="quick"):
            held_ms = await idle_ms(enrich)

            async def renewed() -> bool:
                nonlocal held_ms
                before, held_ms = held_ms, await idle_ms(enrich)
                return held_ms < before

            for _ in range(3):
                await wait_until(renewed, "the slow one's claim was renewed")
            assert other.jobs == []
            gate.opened.set()
            await wait_until(lambda: empty(enrich), "all is settled")
    assert gate.finished == [job(1)]


async def test_delayed_jobs_are_promoted_by_any_consumer(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(held, Defer("", 0.1))])
    recorder = Recorder()
    async with consuming(enrich, recorder):
        await wait_until(lambda: recorder.jobs, "the delayed job was handled")


async def test_the_group_is_made_again_when_it_is_gone(
    enrich: Stream, clients: RedisClients
) -> None:
    recorder = Recorder()
    async with consuming(enrich, recorder) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        await clients.command.delete(clients.key("enrich", "jobs"))
        await enrich.publish([job(1)])
        await wait_until(lambda: recorder.jobs == [job(1)], "the job was handled")


async def _is(stream: Stream, depth: Depth) -> bool:
    return await stream.depth() == depth
