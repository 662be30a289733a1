"""Consumers that die, stop, lose their entries, or find a dependency down."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from shared.config import RedisSettings, Settings, StreamSettings
from shared.errors import Unavailable
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.streams.transitions import Depth, Done, Outcome, Settled, Settlement
from tests.conftest import MakeStream
from tests.support.stores.redis_server import RedisServer
from tests.support.waiting.conditions import limited, wait_until
from tests.support.waiting.pace import limit_s
from tests.support.workers.working import (
    GROUP,
    Gate,
    Recorder,
    consuming,
    delivered,
    drained,
    job,
    jobs,
    silence,
)

Spawn = Callable[..., subprocess.Popen[bytes]]


async def empty(stream: Stream) -> bool:
    return (await stream.depth()).live == 0


# --- stopping


async def test_a_stop_lets_running_handlers_finish(enrich: Stream) -> None:
    gate = Gate()
    await enrich.publish([job(1)])
    async with consuming(enrich, gate) as running:
        await wait_until(lambda: gate.started, "the handler runs")
        running.stopping.set()
        await enrich.publish([job(2)])
        asyncio.get_running_loop().call_later(0.2, gate.opened.set)
    assert gate.finished == [job(1)]
    assert await enrich.depth() == Depth(ready=1, pending=0, delayed=0, dead=0)
    await drained(enrich)


async def test_a_stop_hands_back_what_does_not_finish_in_time(enrich: Stream) -> None:
    """After a stop nothing is pending; another consumer gets the job, with no attempt counted."""
    gate = Gate()
    await enrich.publish(jobs(3))
    async with consuming(enrich, gate, drain_timeout_s=0.1):
        await wait_until(lambda: len(gate.started) == 3, "the handler runs")
    assert len(gate.cancelled) == 3
    assert await enrich.consumers() == []
    assert (await enrich.depth()).pending == 0
    taken = await enrich.read("next", 10)
    assert [each.deliveries for each in taken] == [1, 1, 1]
    await drained(enrich)


async def test_a_stop_hands_back_what_still_waits_for_its_batch(enrich: Stream) -> None:
    recorder = Recorder()
    async with consuming(enrich, recorder, linger_s=30.0):
        await enrich.publish(jobs(2))
        await wait_until(lambda: _pending(enrich, 2), "both wait")
    assert recorder.jobs == []
    assert await enrich.consumers() == []
    assert await enrich.depth() == Depth(ready=2, pending=0, delayed=0, dead=0)
    assert len(await drained(enrich)) == 2


async def test_an_idle_consumer_stops_at_once_and_leaves_no_name(enrich: Stream) -> None:
    async with consuming(enrich, Recorder()) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        async with limited():
            await running.stop()
    assert await enrich.consumers() == []


async def test_a_cancelled_consumer_says_farewell_too(enrich: Stream) -> None:
    gate = Gate()
    await enrich.publish([job(1)])
    async with consuming(enrich, gate) as running:
        await wait_until(lambda: gate.started, "the handler runs")
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.task
        running.task = asyncio.create_task(asyncio.sleep(0), name="ended")
    assert gate.cancelled == [job(1)]
    assert await _pending_names(enrich) == []
    await drained(enrich)


# --- losing


async def test_lost_entries_cancel_their_handler_and_drop_its_outcome(enrich: Stream) -> None:
    gate = Gate()
    await enrich.publish([job(1)])
    async with consuming(enrich, gate) as running:
        await wait_until(lambda: gate.started, "the handler runs")
        await enrich.hand_back("worker")  # as if it had been silent
        [taken] = await enrich.read("thief", 1)
        await wait_until(lambda: gate.cancelled, "the handler was cancelled")
        assert await enrich.renew("thief", [taken.entry_id]) == {taken.entry_id}
        await running.stop()
    assert await _pending_names(enrich) == ["thief"]
    await drained(enrich)


async def test_a_batch_that_lost_some_entries_settles_the_others(
    make_stream: MakeStream, clients: RedisClients
) -> None:
    enrich = make_stream(Stage.ENRICH, EUNOE_VISIBILITY_SECONDS=6)
    gate = Gate()
    await enrich.publish(jobs(2))
    async with consuming(enrich, gate) as running:
        await wait_until(lambda: len(gate.started) == 2, "the handler runs")
        stolen, _ = await clients.command.xpending_range(enrich.keys.jobs, GROUP, "-", "+", 2)
        await clients.command.xclaim(enrich.keys.jobs, GROUP, "thief", 0, [stolen["message_id"]])
        stolen_at, consumer = time.monotonic(), running.consumer
        await wait_until(
            lambda: consumer._renewed_at > stolen_at, "a renewal sent after the theft was answered"
        )
        gate.opened.set()
        await wait_until(lambda: _pending(enrich, 1), "the other was settled")
        assert gate.cancelled == []
        assert await _pending_names(enrich) == ["thief"]
    await drained(enrich)


# --- crash loops


async def test_a_crash_loop_is_dead_lettered_before_the_handler_runs(
    make_stream: MakeStream,
) -> None:
    stream = make_stream(Stage.ENRICH, EUNOE_MAX_DELIVERIES=3)
    await stream.publish([job(1)])
    [held] = await delivered(stream, "dead-1")
    await stream._command.xclaim(
        stream.keys.jobs, "workers", "dead-2", 0, [held.entry_id], idle=3_600_000, retrycount=3
    )
    recorder = Recorder()
    async with consuming(stream, recorder):
        await wait_until(lambda: _is(stream, Depth(0, 0, 0, 1)), "the job is dead")
    assert recorder.jobs == []
    [dead] = await stream.dead(limit=1)
    assert (dead.reason, dead.attempts, dead.deliveries) == ("crash_loop", 0, 4)


async def test_a_suspect_runs_with_nobody_beside_it(enrich: Stream) -> None:
    """Twice delivered and not settled: it may kill its process, so it gets it for itself."""
    await enrich.publish(jobs(3))
    ids = [each.entry_id for each in await delivered(enrich, "dead")]
    together: list[int] = []
    running = 0

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        nonlocal running
        running += len(batch)
        beside_at_first = running
        await asyncio.sleep(random.uniform(0.01, 0.1))
        if any(each in jobs(3) for each in batch):
            together.append(max(beside_at_first, running))
        running -= len(batch)
        return [Done()] * len(batch)

    await enrich.publish([job(number) for number in range(10, 210)])
    async with consuming(enrich, handler, batch_size=5, batches=3):
        await wait_until(lambda: running > 5, "several batches run")
        await enrich._command.xclaim(
            enrich.keys.jobs, "workers", "dead", 0, ids, idle=3_600_000, retrycount=2
        )
        await wait_until(lambda: empty(enrich), "all is settled")
    assert together == [1, 1, 1]


async def test_a_poison_job_kills_only_itself(
    enrich: Stream, spawn: Spawn, make_stream: MakeStream
) -> None:
    """Each process that runs it dies; it is dead-lettered in the end, its neighbours are done."""
    stream = make_stream(Stage.ENRICH, EUNOE_MAX_DELIVERIES=4)
    await stream.publish([Job("default", "poison", 1), *jobs(7)])
    victims = [spawn("tests.support.workers.worker", "poison", "victim-0")]

    async def restarted_until_quiet() -> bool:
        """Start a new process for the one that died, as a supervisor does."""
        if victims[-1].poll() is not None:
            for consumer in await enrich.consumers():
                await silence(enrich, consumer.name)
            victims.append(
                spawn("tests.support.workers.worker", "poison", f"victim-{len(victims)}")
            )
        return await empty(stream)

    await wait_until(restarted_until_quiet, "all is settled")
    assert len(victims) == 5, "each delivery of the budget cost one process"
    [dead] = await stream.dead(limit=9)
    assert dead.job is not None
    assert (dead.job.memory_id, dead.reason) == ("poison", "crash_loop")


# --- processes


async def test_a_killed_consumers_work_is_finished_by_the_others(
    enrich: Stream, spawn: Spawn, clients: RedisClients
) -> None:
    """SIGKILL in the middle of handlers: every job is done."""
    wanted = jobs(200)
    await enrich.publish(wanted)
    victim = spawn("tests.support.workers.worker", "slow", "victim")
    await wait_until(lambda: _holds(enrich, "victim"), "the victim holds work")
    victim.kill()
    victim.wait()
    await silence(enrich, "victim")
    names = {"one", "two"}
    survivors = [spawn("tests.support.workers.worker", "quick", name) for name in sorted(names)]

    async def both_read() -> bool:
        return names <= {each.name for each in await enrich.consumers()}

    # One that had not begun to read would be ended by the signal before it could catch it.
    await wait_until(both_read, "both have started")
    await wait_until(lambda: empty(enrich), "all is settled")
    done = await clients.command.hgetall(clients.key("test", "done"))
    assert set(done) == {each.memory_id for each in wanted}
    await clients.command.delete(clients.key("test", "done"))
    for each in survivors:
        each.send_signal(signal.SIGTERM)
        assert each.wait(timeout=limit_s()) == 0
    assert [each.name for each in await enrich.consumers() if each.name in {"one", "two"}] == []


# --- dependencies


async def test_a_store_that_is_down_charges_no_attempt_and_pauses_reading(enrich: Stream) -> None:
    down = True
    calls: list[list[Job]] = []
    at: list[float] = []

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        calls.append(list(batch))
        at.append(time.monotonic())
        if down:
            raise Unavailable("graph", "refused")
        return [Done()] * len(batch)

    await enrich.publish(jobs(64))
    async with consuming(enrich, handler, batch_size=8, batches=4):
        await wait_until(lambda: len(calls) >= 7, "three probes failed")
        waits = [later - earlier for earlier, later in pairwise(at[3:7])]
        # A busy machine makes them longer, never shorter.
        assert waits[0] > 0.1, "one batch probes, after a pause"
        assert waits[1] > 0.2, "pauses double"
        assert waits[2] > 0.4, "pauses double"
        down = False
        await wait_until(lambda: empty(enrich), "all is settled")
    assert {each.attempt for batch in calls for each in batch} == {0}
    assert (await enrich.depth()).dead == 0


@pytest.fixture
async def own_stream(
    own_server: RedisServer, stream_settings: StreamSettings
) -> AsyncIterator[Stream]:
    stream_settings = stream_settings.model_copy(update={"visibility_s": 4.0})
    redis = RedisSettings(REDIS_URL=own_server.url, EUNOE_REDIS_TIMEOUT_SECONDS=limit_s(1))
    clients = RedisClients.open(redis, stream_settings)
    yield Stream(clients, policy_for(Stage.ENRICH, Settings(streams=stream_settings)))
    await clients.close()


async def test_a_consumer_survives_redis_coming_back_empty(
    own_server: RedisServer, own_stream: Stream
) -> None:
    recorder = Recorder()
    async with consuming(own_stream, recorder) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        own_server.kill()
        ticked_at = running.consumer.ticked_at
        await wait_until(lambda: running.consumer.ticked_at > ticked_at, "a read has failed")
        own_server.start()
        await own_stream.publish([job(1)])
        await wait_until(lambda: recorder.jobs == [job(1)], "it works again")
        assert running.consumer.ticked_at > ticked_at
    assert await own_stream.depth() == Depth(ready=0, pending=0, delayed=0, dead=0)


@asynccontextmanager
async def hung_in_mid_handler(server: RedisServer, stream: Stream) -> AsyncIterator[Gate]:
    """Redis hangs for the block's length; then the job's end is waited for."""
    gate = Gate()
    await stream.publish([job(1)])
    async with consuming(stream, gate):
        await wait_until(lambda: gate.started, "the handler runs")
        server.freeze()
        yield gate
        server.thaw()
        await wait_until(lambda: empty(stream), "the job is settled")


async def test_what_was_finished_while_redis_hung_is_settled_afterwards(
    own_server: RedisServer, own_stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, failed = own_stream.settle, asyncio.Event()

    async def watched(consumer: str, settlements: Sequence[Settlement]) -> list[Settled]:
        try:
            return await settle(consumer, settlements)
        except Unavailable:
            failed.set()
            raise

    monkeypatch.setattr(own_stream, "settle", watched)
    async with hung_in_mid_handler(own_server, own_stream) as gate:
        gate.opened.set()
        async with limited():
            await failed.wait()
    assert gate.started == [job(1)]


async def test_handlers_end_when_nothing_was_renewed_for_a_visibility(
    own_server: RedisServer, own_stream: Stream
) -> None:
    """By then another consumer may have the entries."""
    async with hung_in_mid_handler(own_server, own_stream) as gate:
        await wait_until(lambda: gate.cancelled, "the handler was cancelled")
        gate.opened.set()


async def test_a_consumer_may_start_before_redis(
    own_server: RedisServer, own_stream: Stream
) -> None:
    own_server.stop()
    recorder = Recorder()
    async with consuming(own_stream, recorder) as running:
        ticked_at = running.consumer.ticked_at
        await wait_until(lambda: running.consumer.ticked_at > ticked_at, "a read has failed")
        assert not running.consumer.ready.is_set()
        own_server.start()
        await own_stream.publish([job(1)])
        await wait_until(lambda: recorder.jobs, "it works")


async def test_a_consumer_stops_while_redis_is_down(
    own_server: RedisServer, own_stream: Stream
) -> None:
    gate = Gate()
    await own_stream.publish([job(1)])
    async with consuming(own_stream, gate, drain_timeout_s=0.2) as running:
        await wait_until(lambda: gate.started, "the handler runs")
        own_server.kill()
        gate.opened.set()
        async with limited():
            await running.stop()


async def _is(stream: Stream, depth: Depth) -> bool:
    return await stream.depth() == depth


async def _pending(stream: Stream, count: int) -> bool:
    return (await stream.depth()).pending == count


async def _pending_names(stream: Stream) -> list[str]:
    return [each.name for each in await stream.consumers() if each.pending]


async def _holds(stream: Stream, name: str) -> bool:
    return name in await _pending_names(stream)
