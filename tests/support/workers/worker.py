"""A consumer as a process of its own, to be killed.

Run `python -m tests.support.workers.worker <handler> <name>`.

Each finished job is counted in the hash `{test}:done`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from shared.config import RedisSettings, Settings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.consumer import Consumer
from shared.streams.job import Job, Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.streams.transitions import Done, Outcome

_SECONDS = {"slow": 3600.0, "quick": 0.01, "poison": 0.01}


async def main(kind: str, name: str) -> None:
    streams = StreamSettings(
        EUNOE_VISIBILITY_SECONDS=10,
        EUNOE_BLOCK_SECONDS=0.05,
        EUNOE_PROMOTE_SECONDS=0.02,
        EUNOE_MAX_DELIVERIES=4,
    )
    clients = RedisClients.open(RedisSettings(), streams)
    stream = Stream(clients, policy_for(Stage.ENRICH, Settings(streams=streams)))
    done = clients.key("test", "done")
    redis: Any = clients.command

    async def handler(batch: Sequence[Job]) -> Sequence[Outcome]:
        await asyncio.sleep(_SECONDS[kind])
        if kind == "poison" and any(job.memory_id == "poison" for job in batch):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind != "poison":
            for job in batch:
                await redis.hincrby(done, job.memory_id, 1)
        return [Done()] * len(batch)

    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = Consumer(stream, handler, name=name, batch_size=8)
    await consumer.run(stopping, drain_timeout_s=60.0)
    await clients.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
