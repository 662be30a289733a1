"""The dead stream: kept until an operator decides, readable in pages, replayed or discarded."""

from __future__ import annotations

from shared.redis.client import RedisClients
from shared.streams.job import Job
from shared.streams.stream import Stream
from shared.streams.transitions import DeadJob, DeadLetter, Depth, Published, Settlement
from tests.support.workers.working import delivered, drained, job, jobs


async def dead_lettered(
    stream: Stream, wanted: list[Job], reason: str = "permanent"
) -> list[DeadJob]:
    """The dead letters that `wanted` became, oldest first."""
    await stream.publish(wanted)
    held = await delivered(stream, "a", len(wanted))
    await stream.settle("a", [Settlement(each, DeadLetter(reason, "no")) for each in held])
    return (await stream.dead(limit=len(wanted)))[::-1]


async def test_a_dead_job_tells_its_story(enrich: Stream) -> None:
    await enrich.publish([Job("t", "m", 3, attempt=2, trace="x")])
    [held] = await delivered(enrich, "worker-7")
    long_error = "e" * 5000
    await enrich.settle("worker-7", [Settlement(held, DeadLetter("exhausted", long_error))])
    [dead] = await enrich.dead(limit=1)
    assert dead.job == Job("t", "m", 3, attempt=3, trace="x")
    assert (dead.reason, dead.attempts, dead.deliveries) == ("exhausted", 3, 1)
    assert dead.consumer == "worker-7"
    assert dead.error == "e" * 2048
    assert held.published_ms == dead.first_ms <= dead.dead_since_ms


async def test_pages_go_back_from_the_newest(enrich: Stream) -> None:
    dead = await dead_lettered(enrich, jobs(5))
    first = await enrich.dead(limit=2)
    second = await enrich.dead(limit=2, before=first[-1].entry_id)
    third = await enrich.dead(limit=2, before=second[-1].entry_id)
    assert [each.entry_id for each in first + second + third] == [
        each.entry_id for each in dead[::-1]
    ]


async def test_a_replayed_job_starts_afresh(enrich: Stream) -> None:
    [dead] = await dead_lettered(enrich, [Job("t", "m", 1, attempt=2)])
    assert await enrich.replay([dead.entry_id]) == 1
    assert await enrich.publish([Job("t", "m", 1)]) == [Published.DUPLICATE]
    assert await enrich.depth() == Depth(ready=1, pending=0, delayed=0, dead=0)
    assert await drained(enrich) == [Job("t", "m", 1)]


async def test_replaying_twice_publishes_once(enrich: Stream) -> None:
    [dead] = await dead_lettered(enrich, [job(1)])
    assert [await enrich.replay([dead.entry_id]) for _ in range(2)] == [1, 0]
    assert len(await drained(enrich)) == 1


async def test_malformed_entries_do_not_block_a_replay(
    enrich: Stream, clients: RedisClients
) -> None:
    for _ in range(3):
        await clients.command.xadd(clients.key("enrich", "jobs"), {"x": "y"})
    await delivered(enrich, "a")
    await dead_lettered(enrich, [job(1)])
    assert await enrich.replay([dead.entry_id for dead in await enrich.dead(limit=9)]) == 1
    await drained(enrich)


async def test_a_discarded_job_may_be_published_again(enrich: Stream) -> None:
    first, second = await dead_lettered(enrich, jobs(2))
    assert await enrich.discard([first.entry_id, "1-1"]) == 1
    assert await enrich.publish(jobs(2)) == [Published.NEW, Published.DEAD]
    await drained(enrich)
    assert [dead.entry_id for dead in await enrich.dead(limit=9)] == [second.entry_id]


async def test_replay_of_a_job_that_lives_again_does_not_double_it(
    enrich: Stream, clients: RedisClients
) -> None:
    [dead] = await dead_lettered(enrich, [job(1)])
    await clients.command.delete(clients.key("enrich", "at"))
    await enrich.publish([job(1)])
    assert await enrich.replay([dead.entry_id]) == 1
    assert len(await drained(enrich)) == 1
    assert await enrich.dead(limit=1) == []


async def test_the_sweep_clears_what_names_nothing(enrich: Stream, clients: RedisClients) -> None:
    await dead_lettered(enrich, [job(1)])
    await enrich.publish([job(2), job(3)])
    first, _ = await delivered(enrich, "a")
    await clients.command.xdel(clients.key("enrich", "jobs"), first.entry_id)
    assert await enrich.sweep() == 1
    assert await enrich.publish([job(1), job(3)]) == [Published.DEAD, Published.DUPLICATE]
    await drained(enrich)
