"""Words for stream tests: make jobs, work a stream off, run a consumer for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.streams.batch import Handler
from shared.streams.consumer import Consumer
from shared.streams.job import Delivery, Job
from shared.streams.stream import Stream
from shared.streams.transitions import Done, Outcome, Settlement

GROUP = "workers"


def job(number: int, *, version: int = 1, tenant: str = "default") -> Job:
    return Job(tenant, f"m{number}", version)


def jobs(count: int) -> list[Job]:
    return [job(number) for number in range(count)]


async def delivered(stream: Stream, consumer: str, limit: int = 100) -> list[Delivery]:
    """New entries, the group's creation by the first read included."""
    return await stream.read(consumer, limit) or await stream.read(consumer, limit)


async def drained(stream: Stream) -> list[Job]:
    """Every live job, finished: also what others held and what was delayed."""
    finished: list[Job] = []
    while (depth := await stream.depth()).live:
        if depth.delayed:
            await make_due(stream)
            await stream.promote()
        if depth.pending:
            await stream.hand_back("drainer")
            for consumer in await stream.consumers():
                if consumer.pending and consumer.name != "released":
                    await stream.hand_back(consumer.name)
        taken = [
            *(await stream.reclaim("drainer", 500)).deliveries,
            *(await stream.reclaim("drainer", 1, alone=True)).deliveries,
            *await stream.read("drainer", 500),
        ]
        await stream.settle("drainer", [Settlement(each, Done()) for each in taken])
        finished += [each.job for each in taken]
    return finished


async def make_due(stream: Stream) -> None:
    """Let every delayed job be due now."""
    delayed = stream.keys.delayed
    redis: Any = stream._command
    for member in await redis.zrange(delayed, 0, -1):
        await redis.zadd(delayed, {member: 1})


class Recorder:
    """A handler that finishes everything and remembers it, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[Job]] = []

    async def __call__(self, batch: Sequence[Job]) -> Sequence[Outcome]:
        self.batches.append(list(batch))
        return [Done()] * len(batch)

    @property
    def jobs(self) -> list[Job]:
        return [each for batch in self.batches for each in batch]


class Gate:
    """A handler that waits until it is opened; `started` are the jobs it was given."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.started: list[Job] = []
        self.finished: list[Job] = []
        self.cancelled: list[Job] = []

    async def __call__(self, batch: Sequence[Job]) -> Sequence[Outcome]:
        self.started += batch
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += batch
            raise
        self.finished += batch
        return [Done()] * len(batch)


class Running:
    """A consumer in the background; `stop` is SIGTERM."""

    def __init__(self, consumer: Consumer, drain_timeout_s: float) -> None:
        self.consumer = consumer
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(
            consumer.run(self.stopping, drain_timeout_s=drain_timeout_s), name="tested-consumer"
        )

    async def stop(self) -> None:
        self.stopping.set()
        await self.task


@asynccontextmanager
async def consuming(
    stream: Stream, handler: Handler, *, drain_timeout_s: float = 60.0, **options: Any
) -> AsyncIterator[Running]:
    """A running consumer, named `worker` if no other name is given; stopped at the block's end."""
    given: dict[str, Any] = {"name": "worker", "batch_size": 16, "pause_s": (0.1, 0.4)} | options
    running = Running(Consumer(stream, handler, **given), drain_timeout_s)
    try:
        yield running
    finally:
        await running.stop()


async def silence(stream: Stream, consumer: str, *entry_ids: str) -> None:
    """Make entries look as if `consumer` had been silent for the visibility.

    Without `entry_ids`: all that it holds.
    """
    rows = await stream._command.xpending_range(stream.keys.jobs, GROUP, "-", "+", 1000, consumer)
    wanted = list(entry_ids) or [row["message_id"] for row in rows]
    idle_ms = int(stream.policy.limits.visibility_s * 1000) + 1
    if wanted:
        await stream._command.xclaim(
            stream.keys.jobs, GROUP, consumer, 0, wanted, idle=idle_ms, justid=True
        )


async def idle_ms(stream: Stream, entry_id: Any = "") -> int:
    """How long ago the entry, else the only pending one, was delivered or renewed."""
    first, last = (entry_id, entry_id) if entry_id else ("-", "+")
    [row] = await stream._command.xpending_range(stream.keys.jobs, GROUP, first, last, 1)
    return int(row["time_since_delivered"])


async def taken_over(stream: Stream, by: str) -> Delivery:
    """The one pending entry, taken from a holder that seems to be silent."""
    [holder] = [each.name for each in await stream.consumers() if each.pending]
    await silence(stream, holder)
    [taken] = (await stream.reclaim(by, 1)).deliveries
    return taken
