"""A batch that is not full waits, but never longer than its oldest job may."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

import shared.streams.consumer
from shared.errors import Unavailable
from shared.streams.job import Job
from shared.streams.stream import Stream
from shared.streams.transitions import Done, Outcome
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import (
    Gate,
    Recorder,
    consuming,
    delivered,
    drained,
    job,
    jobs,
    silence,
)

LINGER_S = 3600.0


def left(recorder: Recorder, *wanted: Job) -> bool:
    return set(wanted) <= set(recorder.jobs)


async def empty(stream: Stream) -> bool:
    return not (await stream.depth()).live


async def waits(stream: Stream) -> bool:
    """Whether the consumer holds one job."""
    return any(each.name == "worker" and each.pending == 1 for each in await stream.consumers())


class Clock:
    """The consumer's clock; `ahead_s` makes every job older than it is."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_s

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shared.streams.consumer, "time", clock)
    return clock


async def test_the_linger_counts_from_the_oldest_jobs_publish(enrich: Stream, clock: Clock) -> None:
    """A job that nobody read for an hour does not wait for another hour."""
    recorder = Recorder()
    await enrich.publish([job(1)])
    clock.ahead_s = LINGER_S
    async with consuming(enrich, recorder, batch_size=4, linger_s=LINGER_S):
        await wait_until(lambda: left(recorder, job(1)), "the batch left")
        clock.ahead_s = 0.0
        await enrich.publish([job(2)])
        await wait_until(lambda: waits(enrich), "the second waits for others")
        assert recorder.jobs == [job(1)]
    await drained(enrich)


async def test_a_job_that_was_taken_over_waits_for_no_younger_one(
    enrich: Stream, clock: Clock
) -> None:
    """It comes after the young one, and has waited longer."""
    recorder = Recorder()
    await enrich.publish([job(1)])
    await delivered(enrich, "silent")
    async with consuming(enrich, recorder, batch_size=4, linger_s=LINGER_S):
        await enrich.publish([job(2)])
        await wait_until(lambda: waits(enrich), "the young one waits for others")
        clock.ahead_s = LINGER_S
        await silence(enrich, "silent")
        await wait_until(lambda: left(recorder, job(1)), "the old one left")
        assert recorder.batches == [[job(2), job(1)]]
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_a_linger_that_ends_holds_for_the_next_job(enrich: Stream) -> None:
    """As where a switch replaces a paid model by the local one, or the other way round."""
    recorder, linger_s = Recorder(), 0.0
    async with consuming(enrich, recorder, batch_size=4, linger_s=lambda: linger_s) as running:
        await wait_until(running.consumer.ready.is_set, "the consumer read")
        await enrich.publish([job(1)])
        await wait_until(lambda: left(recorder, job(1)), "it left alone")
        linger_s = 30.0
        for each in range(2, 6):
            await enrich.publish([job(each)])
        await wait_until(lambda: left(recorder, job(5)), "the full batch left")
        assert recorder.batches == [[job(1)], [job(each) for each in range(2, 6)]]
        linger_s = 0.0
        await enrich.publish([job(6)])
        await wait_until(lambda: left(recorder, job(6)), "it left alone again")
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_more_batches_run_once_they_are_allowed(enrich: Stream) -> None:
    gate, allowed = Gate(), 1
    async with consuming(enrich, gate, batch_size=1, batches=lambda: allowed):
        await enrich.publish(jobs(3))
        await wait_until(lambda: len(gate.started) == 1, "one runs")
        allowed = 3
        await wait_until(lambda: len(gate.started) == 3, "three run")
        gate.opened.set()
        await wait_until(lambda: empty(enrich), "all is settled")


async def test_one_job_probes_what_was_down(enrich: Stream) -> None:
    down = True
    sizes: list[int] = []

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        sizes.append(len(batch))
        if down:
            raise Unavailable("embedding", "down")
        return [Done()] * len(batch)

    await enrich.publish(jobs(32))
    async with consuming(enrich, handler, batch_size=8, linger_s=0.5):
        await wait_until(lambda: len(sizes) >= 4, "three probes failed")
        assert sizes[:4] == [8, 1, 1, 1]
        down = False
        await wait_until(lambda: max(sizes[4:], default=0) > 1, "it is back")
        await wait_until(lambda: empty(enrich), "all is settled")
