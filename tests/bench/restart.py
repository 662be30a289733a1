"""redis-server killed with 20 000 memories in the graph: until the API answers again."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench.figures import Table, median
from tests.bench.filled import connect, fill, opened
from tests.bench.writes import QUIET
from tests.support.stack.stack import Client, Stack, running
from tests.support.waiting.conditions import wait_until

COUNT = 20_000
EDGES = 30_000
ROUNDS = 3


async def back(stack: Stack, client: Client, memory_id: str) -> tuple[float, float]:
    """Seconds from SIGKILL until a read is answered, and until a write is."""
    began = time.monotonic()
    stack.kill("redis")

    async def read() -> bool:
        return (await client.get(memory_id)).status == 200

    async def written() -> bool:
        return (await client.store("written after the restart")).status == 201

    await wait_until(read, "a read is answered", 60.0)
    read_s = time.monotonic() - began
    await wait_until(written, "a write is answered", 60.0)
    return read_s, time.monotonic() - began


async def run(folder: Path) -> Table:
    table, reads, writes = Table(), list[float](), list[float]()
    async with running(folder, QUIET) as stack, stack.client() as client:
        store = await opened(stack)
        ids = await fill(store, COUNT)
        await connect(stack, ids, EDGES)
        await store.close()
        for _ in range(ROUNDS):
            read_s, write_s = await back(stack, client, ids[-1])
            reads.append(read_s)
            writes.append(write_s)
        kept = await stack.stores().number("MATCH (m:Memory {tags: ['filled']}) RETURN count(m)")
        edges = await stack.stores().number("MATCH ()-[r:SIMILAR_TO]->() RETURN count(r)")
    assert (kept, edges) == (COUNT, EDGES), (kept, edges)
    for what, seconds in (("SIGKILL until a read", reads), ("SIGKILL until a write", writes)):
        table.add(what, **{"median s": round(median(seconds), 2), "max s": round(max(seconds), 2)})
    table.facts = {
        "wanted": "< 3 s",
        "memories": COUNT,
        "edges": EDGES,
        "load average": os.getloadavg()[0],
    }
    return table
