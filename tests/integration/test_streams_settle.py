"""Settling: each entry moves to exactly one next state, and only its holder may move it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shared.redis.client import RedisClients
from shared.streams.job import Job
from shared.streams.stream import Stream
from shared.streams.transitions import (
    DeadLetter,
    Defer,
    Depth,
    Done,
    Published,
    Retry,
    Settled,
    Settlement,
)
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import delivered, drained, job, jobs, make_due, taken_over

OK, LOST, GONE = Settled.OK, Settled.LOST, Settled.GONE
EMPTY = Depth(ready=0, pending=0, delayed=0, dead=0)


async def test_acked_entries_are_gone(enrich: Stream, clients: RedisClients) -> None:
    await enrich.publish(jobs(3))
    held = await delivered(enrich, "a")
    assert await enrich.settle("a", [Settlement(each, Done()) for each in held]) == [OK] * 3
    assert await enrich.depth() == EMPTY
    assert not await clients.command.exists(clients.key("enrich", "at"))


async def test_one_call_settles_every_entry_its_own_way(enrich: Stream) -> None:
    await enrich.publish(jobs(4))
    done, failed, deferred, bad = await delivered(enrich, "a")
    answers = await enrich.settle(
        "a",
        [
            Settlement(done, Done()),
            Settlement(failed, Retry("", 60.0)),
            Settlement(deferred, Defer("", 60.0)),
            Settlement(bad, DeadLetter("permanent", "no such thing")),
        ],
    )
    assert answers == [OK] * 4
    assert await enrich.depth() == Depth(ready=0, pending=0, delayed=2, dead=1)
    assert sorted(each.attempt for each in await drained(enrich)) == [0, 1]


async def test_an_entry_settles_once(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    held = await delivered(enrich, "a")
    assert await enrich.settle("a", [Settlement(held[0], Retry("", 60.0))]) == [OK]
    again = [
        Settlement(held[0], Retry("", 60.0)),
        Settlement(held[0], Done()),
        Settlement(held[0], DeadLetter("", "")),
    ]
    assert await enrich.settle("a", again) == [GONE] * 3
    assert await enrich.depth() == Depth(ready=0, pending=0, delayed=1, dead=0)
    await drained(enrich)


async def test_a_former_holder_may_ack_but_neither_retry_nor_dead_letter(enrich: Stream) -> None:
    """Its work is done, so a late ack is right; its failure is the new holder's to judge."""
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "slow")
    taken = await taken_over(enrich, "quick")
    late = [Settlement(held, Retry("", 0.0)), Settlement(held, DeadLetter("x", "y"))]
    assert await enrich.settle("slow", late) == [LOST, LOST]
    assert await enrich.depth() == Depth(ready=0, pending=1, delayed=0, dead=0)
    assert await enrich.settle("slow", [Settlement(held, Done())]) == [OK]
    assert await enrich.settle("quick", [Settlement(taken, Done())]) == [GONE]
    assert await enrich.depth() == EMPTY


async def test_a_late_ack_leaves_the_ledger_of_a_newer_entry_alone(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(held, Done())])
    await enrich.publish([job(1)])
    assert await enrich.settle("a", [Settlement(held, Done())]) == [GONE]
    assert await enrich.publish([job(1)]) == [Published.DUPLICATE]
    await drained(enrich)


async def test_settling_after_redis_lost_everything_is_harmless(
    enrich: Stream, clients: RedisClients
) -> None:
    await enrich.publish(jobs(2))
    held = await delivered(enrich, "a")
    names = ("jobs", "at", "load")
    await clients.command.delete(*(clients.key("enrich", name) for name in names))
    late = [Settlement(held[0], Done()), Settlement(held[1], Retry("", 0.0))]
    assert await enrich.settle("a", late) == [GONE, GONE]
    assert await enrich.renew("a", [each.entry_id for each in held]) == set()
    assert await enrich.depth() == EMPTY


async def test_a_retry_comes_back_when_it_is_due_and_not_before(enrich: Stream) -> None:
    await enrich.publish([Job("t", "m", 7, run="r", trace="x")])
    [held] = await delivered(enrich, "a")
    settled_at = time.monotonic()
    await enrich.settle("a", [Settlement(held, Retry("", 0.2))])
    assert await enrich.promote() == 0
    await wait_until(enrich.promote, "the delayed job was promoted")
    assert time.monotonic() - settled_at >= 0.19
    [again] = await delivered(enrich, "a")
    assert again.job == Job("t", "m", 7, run="r", attempt=1, trace="x")
    assert again.deliveries == 1
    await enrich.settle("a", [Settlement(again, Done())])


async def test_promotion_is_bounded_and_says_when_to_go_on(enrich: Stream) -> None:
    await enrich.publish(jobs(7))
    held = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(each, Defer("", 60.0)) for each in held])
    await make_due(enrich)
    assert [await enrich.promote(limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert len(await drained(enrich)) == 7


async def test_a_delayed_copy_of_a_live_job_is_dropped(
    enrich: Stream, clients: RedisClients
) -> None:
    """The ledger was deleted and the job published again: promoting would double it."""
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(held, Retry("", 60.0))])
    await clients.command.delete(clients.key("enrich", "at"))
    await enrich.publish([job(1)])
    await make_due(enrich)
    assert await enrich.promote() == 1
    assert await enrich.depth() == Depth(ready=1, pending=0, delayed=0, dead=0)
    await drained(enrich)


async def test_renewing_keeps_an_entry_without_counting_a_delivery(enrich: Stream) -> None:
    """Plain XCLAIM counted each renewal as a delivery, and would dead-letter slow work."""
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "a")
    for _ in range(5):
        assert await enrich.renew("a", [held.entry_id]) == {held.entry_id}
    taken = await taken_over(enrich, "b")
    assert taken.deliveries == 2  # a's and b's own, none for the five renewals
    await enrich.settle("b", [Settlement(taken, Done())])


async def test_renewing_never_steals_an_entry_back(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "stale")
    taken = await taken_over(enrich, "new")
    assert await enrich.renew("stale", [held.entry_id]) == set()
    assert await enrich.renew("new", [held.entry_id]) == {held.entry_id}
    await enrich.settle("new", [Settlement(taken, Done())])


async def test_renewal_of_many_answers_for_each(enrich: Stream) -> None:
    await enrich.publish(jobs(600))
    held = await delivered(enrich, "a", 600)
    await enrich.settle("a", [Settlement(each, Done()) for each in held[:100]])
    kept = await enrich.renew("a", [each.entry_id for each in held])
    assert kept == {each.entry_id for each in held[100:]}
    await drained(enrich)


async def test_the_oldest_age_counts_from_the_first_publish(enrich: Stream) -> None:
    assert (await enrich.depth()).oldest_age_s is None
    await enrich.publish([job(1)])
    [held] = await delivered(enrich, "a")
    await wait_until(lambda: _older(enrich, 0.1), "the job is 0.1 s old")
    await enrich.settle("a", [Settlement(held, Retry("", 0.0))])
    assert await _older(enrich, 0.1)
    await make_due(enrich)
    await enrich.promote()
    assert await _older(enrich, 0.1)
    await drained(enrich)


async def _older(stream: Stream, age_s: float) -> bool:
    return ((await stream.depth()).oldest_age_s or 0.0) > age_s


@pytest.mark.parametrize(
    "fields",
    [
        {"x": "y"},
        {"key": "t|m|1|", "job": "{"},
        {"job": "[1]"},
        {"job": "[" * 5_000},
        {"job": '["t", "m", 1e999, "", 0, ""]'},
        {"job": '["t", "m", 1, "", Infinity, ""]'},
    ],
)
async def test_what_is_no_job_is_dead_lettered_with_its_fields(
    enrich: Stream, clients: RedisClients, fields: dict[str, str]
) -> None:
    await enrich.publish([job(1)])
    await clients.command.xadd(clients.key("enrich", "jobs"), fields)  # type: ignore[arg-type]
    held = await delivered(enrich, "a")
    assert [each.job for each in held] == [job(1)]
    [dead] = await enrich.dead(limit=5)
    assert (dead.reason, dead.job) == ("malformed", None)
    redis: Any = clients.command
    [(_, kept)] = await redis.xrange(enrich.keys.dead)
    assert all(value in kept["job"].replace("\\", "") for value in fields.values())
    assert await enrich.replay([dead.entry_id]) == 0
    await enrich.settle("a", [Settlement(each, Done()) for each in held])


async def test_bytes_that_are_no_text_do_not_end_the_reader(
    enrich: Stream, clients: RedisClients
) -> None:
    await clients.command.xadd(clients.key("enrich", "jobs"), {b"job": b"\xff\xfe"})
    assert await delivered(enrich, "a") == []
    assert [dead.reason for dead in await enrich.dead(limit=5)] == ["malformed"]
