"""Taking over: silent consumers' entries after the visibility, handed back ones at once."""

from __future__ import annotations

import asyncio

from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.streams.transitions import ConsumerState, Depth, Done, Published, Settlement
from tests.conftest import MakeStream
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import delivered, drained, job, jobs, silence, taken_over


async def test_entries_stay_with_a_consumer_that_is_heard_of(enrich: Stream) -> None:
    await enrich.publish(jobs(2))
    held = await delivered(enrich, "a")
    assert (await enrich.reclaim("b", 10)).deliveries == []
    await silence(enrich, "a")
    await enrich.renew("a", [held[0].entry_id])
    taken = (await enrich.reclaim("b", 10)).deliveries
    assert [(each.job, each.deliveries) for each in taken] == [(held[1].job, 2)]
    await drained(enrich)


async def test_fresh_entries_in_front_cannot_hide_a_stale_one(make_stream: MakeStream) -> None:
    """XAUTOCLAIM from 0-0 looks at ten times its count, always the same ones, and starves."""
    stream = make_stream(Stage.ENRICH)
    await stream.publish(jobs(400))
    held = await delivered(stream, "a", 400)
    await silence(stream, "a", held[-1].entry_id)
    taken = [(await stream.reclaim("b", 10)).deliveries for _ in range(6)]
    assert [each.entry_id for turn in taken for each in turn] == [held[-1].entry_id]
    await drained(stream)


async def test_the_cursor_comes_round(make_stream: MakeStream) -> None:
    stream = make_stream(Stage.ENRICH)
    await stream.publish(jobs(250))
    held = await delivered(stream, "a", 250)
    await stream.reclaim("b", 5)
    await silence(stream, "a", held[0].entry_id)
    found = [(await stream.reclaim("b", 5)).deliveries for _ in range(4)]
    assert sum(map(len, found)) == 1
    await drained(stream)


async def test_no_more_is_taken_than_asked_for(enrich: Stream) -> None:
    await enrich.publish(jobs(7))
    await delivered(enrich, "a")
    await silence(enrich, "a")
    counts = [len((await enrich.reclaim("b", 3)).deliveries) for _ in range(4)]
    assert sorted(counts) == [0, 1, 3, 3]
    await drained(enrich)


async def test_handed_back_entries_are_taken_at_once_and_uncharged(enrich: Stream) -> None:
    """A job that a stopping consumer hands back has not failed."""
    await enrich.publish(jobs(3))
    await delivered(enrich, "a")
    for consumer, successor in (("a", "b"), ("b", "c"), ("c", "d")):
        assert await enrich.hand_back(consumer) == 3
        assert (await enrich.depth()).pending == 0
        taken = await enrich.read(successor, 10)
        assert [each.deliveries for each in taken] == [1, 1, 1]
    assert [each.name for each in await enrich.consumers() if each.pending] == ["d"]
    await drained(enrich)


async def test_handed_back_jobs_are_still_known_to_the_ledger(enrich: Stream) -> None:
    await enrich.publish(jobs(3))
    await delivered(enrich, "a")
    assert await enrich.hand_back("a") == 3
    assert set(await enrich.publish(jobs(3))) == {Published.DUPLICATE}
    assert len(await drained(enrich)) == 3


async def test_what_went_silent_before_keeps_its_count_when_handed_back(enrich: Stream) -> None:
    """Else a job that ends processes would start over with every orderly stop."""
    await enrich.publish(jobs(1))
    await delivered(enrich, "a")
    await taken_over(enrich, "b")
    assert await enrich.hand_back("b") == 1
    taken = (await enrich.reclaim("c", 10)).deliveries
    assert [each.deliveries for each in taken] == [2]
    await drained(enrich)


async def test_handing_back_leaves_no_consumer(enrich: Stream) -> None:
    await enrich.publish(jobs(1))
    await delivered(enrich, "a")
    assert await enrich.hand_back("a") == 1
    assert await enrich.hand_back("a") == 0
    assert await enrich.consumers() == []
    await drained(enrich)


async def test_what_a_dying_read_still_takes_is_handed_back_too(enrich: Stream) -> None:
    """Redis serves a read that was cancelled until it sees that its connection was closed."""
    await enrich.publish(jobs(2))
    await delivered(enrich, "a", 2)
    dying = asyncio.create_task(enrich.read("a", 2, block_s=30.0), name="dying read")

    async def blocked() -> bool:
        return bool((await enrich._command.info("clients"))["blocked_clients"])

    await wait_until(blocked, "the read waits")
    assert await enrich.hand_back("a") == 4, "both of them, twice"
    assert len(await dying) == 2
    assert await enrich.consumers() == []
    assert await enrich.depth() == Depth(ready=2, pending=0, delayed=0, dead=0)
    await drained(enrich)


async def test_more_than_one_call_hands_back(enrich: Stream) -> None:
    await enrich.publish(jobs(1100))
    await delivered(enrich, "a", 1100)
    assert await enrich.hand_back("a") == 1100
    assert len(await drained(enrich)) == 1100


async def test_handing_back_to_nobody_is_harmless(enrich: Stream) -> None:
    assert await enrich.hand_back("a") == 0
    assert await enrich.consumers() == []


async def test_only_consumers_without_work_are_reaped(enrich: Stream) -> None:
    """XGROUP DELCONSUMER silently drops the entries that are pending on the consumer."""
    await enrich.publish([job(1)])
    await delivered(enrich, "busy")
    await enrich.read("idle", 1)
    assert await enrich.reap_consumers(60.0) == 0
    await wait_until(lambda: enrich.reap_consumers(0.02), "the idle consumer was reaped")
    await silence(enrich, "busy")
    assert await enrich.reap_consumers(0.02) == 0
    assert [each.name for each in await enrich.consumers()] == ["busy"]
    assert await enrich.depth() == Depth(ready=0, pending=1, delayed=0, dead=0)
    assert await drained(enrich) == [job(1)]


async def test_reaping_where_nobody_ever_read(enrich: Stream) -> None:
    assert await enrich.reap_consumers(0.0) == 0


async def test_consumers_tell_what_they_hold(enrich: Stream) -> None:
    await enrich.publish(jobs(2))
    await delivered(enrich, "a")
    [state] = await enrich.consumers()
    assert state == ConsumerState("a", 2, state.idle_ms)
    await drained(enrich)


async def test_an_entry_deleted_by_hand_leaves_pending_list_and_ledger(
    enrich: Stream, clients: RedisClients
) -> None:
    await enrich.publish(jobs(2))
    lost, kept = await delivered(enrich, "a")
    await silence(enrich, "a")
    await clients.command.xdel(clients.key("enrich", "jobs"), lost.entry_id)
    assert [each.job for each in (await enrich.reclaim("b", 10)).deliveries] == [kept.job]
    ledger = await clients.command.hgetall(clients.key("enrich", "at"))
    assert set(ledger) == {kept.job.key}
    await drained(enrich)


async def test_a_poison_input_is_left_uncharged_among_others_and_taken_alone(
    enrich: Stream,
) -> None:
    """Two consumers went silent with it: its neighbours must not go down with it for ever."""
    await enrich.publish(jobs(3))
    held = await delivered(enrich, "a")
    await silence(enrich, "a")
    assert len((await enrich.reclaim("b", 10)).deliveries) == 3
    await enrich.publish([job(9)])
    [fresh] = await enrich.read("a", 10)
    await silence(enrich, "a", *(each.entry_id for each in [*held, fresh]))
    reclaimed = await enrich.reclaim("d", 10)
    assert [each.job for each in reclaimed.deliveries] == [fresh.job]
    assert reclaimed.poison_waits
    counts: list[int] = []
    for waiting in (True, True, False):
        alone = await enrich.reclaim("d", 10, alone=True)
        assert alone.poison_waits is waiting
        counts += [each.deliveries for each in alone.deliveries]
    assert counts == [3, 3, 3]
    await enrich.settle("d", [Settlement(each, Done()) for each in reclaimed.deliveries])
    await drained(enrich)
