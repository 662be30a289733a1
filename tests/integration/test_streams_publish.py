"""Publishing: once per job while it is live, dead or delayed, whatever is deleted by hand."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.config import RedisSettings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import DeadLetter, Depth, Done, Published, Retry, Settlement
from tests.conftest import MakeStream
from tests.support.stores.proxy import Proxy
from tests.support.workers.working import delivered, drained, job, jobs

NEW, DUPLICATE, DEAD, BUSY = Published.NEW, Published.DUPLICATE, Published.DEAD, Published.BUSY


async def test_answers_keep_the_order_of_the_jobs(enrich: Stream) -> None:
    await enrich.publish(jobs(3))
    assert await enrich.publish([job(9), job(1), job(8), job(9)]) == [
        NEW,
        DUPLICATE,
        NEW,
        DUPLICATE,
    ]
    await drained(enrich)


async def test_any_number_of_jobs_may_be_published_at_once(enrich: Stream) -> None:
    assert set(await enrich.publish(jobs(1201))) == {NEW}
    assert await enrich.depth() == Depth(ready=1201, pending=0, delayed=0, dead=0)
    await drained(enrich)


async def test_nothing_to_publish_asks_nothing(enrich: Stream) -> None:
    assert await enrich.publish([]) == []


async def test_another_version_or_run_is_another_job(enrich: Stream) -> None:
    variants = [Job("t", "m", 1), Job("t", "m", 2), Job("t", "m", 1, run="r"), Job("u", "m", 1)]
    assert await enrich.publish(variants) == [NEW] * 4
    await drained(enrich)


async def test_an_attempt_or_a_trace_does_not_make_another_job(enrich: Stream) -> None:
    await enrich.publish([Job("t", "m", 1)])
    assert await enrich.publish([Job("t", "m", 1, attempt=2, trace="x")]) == [DUPLICATE]
    await drained(enrich)


async def test_a_repeating_publisher_leaves_each_job_once(enrich: Stream) -> None:
    """The relay publishes the same lagging memories for an hour; the backlog stays."""
    wanted = jobs(50)
    for _ in range(40):
        await enrich.publish(random.sample(wanted, 25), exempt=True)
    await enrich.publish(wanted, exempt=True)
    assert await enrich.depth() == Depth(ready=50, pending=0, delayed=0, dead=0)
    assert len(await drained(enrich)) == 50


async def test_a_job_in_a_consumers_hands_is_live(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [delivery] = await delivered(enrich, "a")
    assert await enrich.publish([job(1)]) == [DUPLICATE]
    await enrich.settle("a", [Settlement(delivery, Done())])
    assert await enrich.publish([job(1)]) == [NEW]
    await drained(enrich)


async def test_a_delayed_job_is_live(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [delivery] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(delivery, Retry("", 60.0))])
    assert await enrich.publish([job(1)]) == [DUPLICATE]
    assert await enrich.depth() == Depth(ready=0, pending=0, delayed=1, dead=0)
    await drained(enrich)


async def test_a_dead_job_stays_dead(enrich: Stream) -> None:
    await enrich.publish([job(1)])
    [delivery] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(delivery, DeadLetter("permanent", "no"))])
    assert await enrich.publish([job(1)]) == [DEAD]
    assert await enrich.publish([job(1)], exempt=True) == [DEAD]
    assert await enrich.depth() == Depth(ready=0, pending=0, delayed=0, dead=1)


@pytest.mark.parametrize("lost", [["jobs"], ["at"], ["jobs", "at"], ["jobs", "at", "load"]])
async def test_publishing_works_after_keys_were_deleted_by_hand(
    enrich: Stream, clients: RedisClients, lost: list[str]
) -> None:
    """A dedup key would refuse the repair; the ledger is only believed while it is true."""
    wanted = jobs(20)
    await enrich.publish(wanted)
    await clients.command.delete(*(clients.key("enrich", name) for name in lost))
    assert await enrich.publish(wanted) == [NEW] * 20
    assert await enrich.publish(wanted) == [DUPLICATE] * 20
    assert {each.key for each in await drained(enrich)} == {each.key for each in wanted}


async def test_a_delayed_job_deleted_by_hand_can_be_published(
    enrich: Stream, clients: RedisClients
) -> None:
    await enrich.publish([job(1)])
    [delivery] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(delivery, Retry("", 60.0))])
    await clients.command.delete(clients.key("enrich", "delayed"))
    assert await enrich.publish([job(1)]) == [NEW]
    await drained(enrich)


async def test_a_dead_job_deleted_by_hand_can_be_published(
    enrich: Stream, clients: RedisClients
) -> None:
    await enrich.publish([job(1)])
    [delivery] = await delivered(enrich, "a")
    await enrich.settle("a", [Settlement(delivery, DeadLetter("permanent", "no"))])
    await clients.command.delete(clients.key("enrich", "dead"))
    assert await enrich.publish([job(1)]) == [NEW]
    await drained(enrich)


async def test_copies_made_by_a_lost_ledger_settle_without_harm(
    enrich: Stream, clients: RedisClients
) -> None:
    """Two entries of one job: the one that the ledger does not name never doubles further."""
    await enrich.publish([job(1)])
    await clients.command.delete(clients.key("enrich", "at"))
    await enrich.publish([job(1)])
    unnamed, named = await delivered(enrich, "a")
    await enrich.settle(
        "a", [Settlement(unnamed, Retry("", 0.0)), Settlement(named, DeadLetter("x", "y"))]
    )
    assert await enrich.depth() == Depth(ready=0, pending=0, delayed=0, dead=1)
    assert await enrich.publish([job(1)]) == [DEAD]


async def test_past_high_water_nothing_is_added(make_stream: MakeStream) -> None:
    stream = make_stream(Stage.ENRICH, EUNOE_HIGH_WATER=10, EUNOE_TENANT_SHARE=1.0)
    answers = await stream.publish(jobs(12))
    assert answers == [NEW] * 10 + [BUSY] * 2
    assert await stream.publish([job(0), job(99)]) == [DUPLICATE, BUSY]
    assert await stream.publish([job(99)], exempt=True) == [NEW]
    assert len(await drained(stream)) == 11


async def test_delayed_jobs_count_towards_high_water(make_stream: MakeStream) -> None:
    stream = make_stream(Stage.ENRICH, EUNOE_HIGH_WATER=2)
    await stream.publish([Job("a", "1", 1), Job("b", "1", 1)])
    held = await delivered(stream, "a")
    await stream.settle("a", [Settlement(each, Retry("", 60.0)) for each in held])
    assert await stream.publish([Job("c", "1", 1)]) == [BUSY]
    await drained(stream)


async def test_a_tenant_past_its_share_is_refused_once_the_stage_is_half_full(
    make_stream: MakeStream,
) -> None:
    stream = make_stream(Stage.ENRICH, EUNOE_HIGH_WATER=20, EUNOE_TENANT_SHARE=0.3)
    greedy = [Job("greedy", str(number), 1) for number in range(12)]
    # Alone it may use the idle half; beyond, its 6 jobs are more than its share.
    assert await stream.publish(greedy) == [NEW] * 10 + [BUSY] * 2
    modest = [Job("modest", str(number), 1) for number in range(7)]
    assert await stream.publish(modest) == [NEW] * 6 + [BUSY]
    await drained(stream)
    assert await stream.publish(greedy) == [NEW] * 10 + [BUSY] * 2
    await drained(stream)


async def test_the_load_is_forgotten_with_the_last_job(
    enrich: Stream, clients: RedisClients
) -> None:
    await enrich.publish(jobs(5))
    assert await clients.command.hgetall(clients.key("enrich", "load")) == {"default": "5"}
    await drained(enrich)
    assert not await clients.command.exists(clients.key("enrich", "load"))


async def test_a_command_that_is_sent_twice_publishes_once(
    redis_settings: RedisSettings, stream_settings: StreamSettings, enrich: Stream
) -> None:
    """redis-py repeats a command whose answer got lost; a plain XADD left two entries."""
    await enrich.publish([job(0)])  # so that the server knows the script
    proxy = Proxy(redis_settings.url)
    await proxy.open()
    through = RedisSettings(
        REDIS_URL=proxy.url,
        EUNOE_REDIS_PREFIX=redis_settings.prefix,
        EUNOE_REDIS_TIMEOUT_SECONDS=30,
    )
    clients = RedisClients.open(through, stream_settings)
    await clients.ping()
    proxy.lose_answer()
    assert await Stream(clients, enrich.policy).publish([job(1)]) == [DUPLICATE]
    assert proxy.lost
    await clients.close()
    await proxy.close()
    assert await enrich.depth() == Depth(ready=2, pending=0, delayed=0, dead=0)
    await drained(enrich)


async def test_concurrent_publishers_of_one_job_add_it_once(enrich: Stream) -> None:
    answers = await asyncio.gather(*(enrich.publish([job(1)]) for _ in range(30)))
    assert sorted(answer for [answer] in answers) == [DUPLICATE] * 29 + [NEW]
    await drained(enrich)
