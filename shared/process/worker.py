"""A worker role: its consumers or its scheduled tasks, run until the process is stopped."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

from shared.leading.lease import Election
from shared.leading.schedule import Schedule, ScheduledTask
from shared.process.lifecycle import Process
from shared.redis.client import RedisClients
from shared.streams.consumer import Consumer
from shared.streams.job import Stage


def consumer_name(role: str) -> str:
    """Return this process's own name: no other process may ever hold entries under it."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


async def consume(process: Process, consumers: Mapping[Stage, Consumer]) -> None:
    """Run until `process.stopping`; then drain, and hand back unfinished jobs.

    Readiness needs the first successful read of each, liveness that its read loop turns.
    """
    drain_timeout_s = process.settings.process.drain_timeout_s
    async with asyncio.TaskGroup() as group:
        for stage, consumer in consumers.items():
            process.health.ready[f"{stage}_consumer"] = consumer.ready.is_set
            process.health.alive[f"{stage}_consumer"] = consumer.reads
            running = consumer.run(process.stopping, drain_timeout_s=drain_timeout_s)
            group.create_task(running, name=f"consume-{stage}")
        process.begin()


async def lead(process: Process, clients: RedisClients, *tasks: ScheduledTask) -> None:
    """Campaign for every task until `process.stopping`; ready whether leading or not."""
    holder = consumer_name(process.role)
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            election = Election(task.name, clients, process.settings.lease, holder=holder)
            process.health.alive[task.name] = election.healthy
            running = Schedule(task, election, clients).run(process.stopping)
            group.create_task(running, name=f"schedule-{task.name}")
        process.begin()
        await process.stopping.wait()  # with every task disabled there is nothing else to do
