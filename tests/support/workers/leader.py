"""A leader as a process of its own, to be frozen: `python -m tests.support.workers.leader <name>`.

Writes `began <name> <token>` and `ended <name> <token>` to the list `{test}:terms`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from shared.config import LeaseSettings, RedisSettings, StreamSettings
from shared.leading.lease import Election, Lease
from shared.redis.client import RedisClients


async def main(name: str) -> None:
    clients = RedisClients.open(RedisSettings(), StreamSettings())
    settings = LeaseSettings(
        EUNOE_LEASE_TTL_SECONDS=6,
        EUNOE_LEASE_RENEW_DEADLINE_SECONDS=4,
        EUNOE_LEASE_RETRY_SECONDS=0.05,
    )
    election = Election("decay", clients, settings, holder=name)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    redis: Any = clients.command

    async def body(lease: Lease) -> None:
        await redis.rpush(clients.key("test", "terms"), f"began {name} {lease.token}")
        try:
            await asyncio.Event().wait()
        finally:
            await redis.rpush(clients.key("test", "terms"), f"ended {name} {lease.token}")

    while not stopping.is_set():
        await election.lead(body, stopping)
    await clients.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
