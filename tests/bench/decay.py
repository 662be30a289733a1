"""Point reads of a graph of 100 000 memories while decay sweeps it, against idle."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from shared.graph.store import GraphStore
from tests.bench.figures import Table, latencies, median
from tests.bench.filled import connect, fill, opened
from tests.bench.writes import QUIET
from tests.support.stack.stack import Stack, running
from tests.support.waiting.conditions import wait_until

COUNT = 100_000
EDGES = 50_000
ROUNDS = 3
_PAUSE_S = 0.002
_IDLE_S = 6.0


async def reads(store: GraphStore, ids: list[str], stop: asyncio.Event) -> list[float]:
    """Latencies of single reads, one after another with a short rest, until `stop`."""
    rng, seconds = random.Random(1), list[float]()
    while not stop.is_set():
        began = time.perf_counter()
        found = await store.memories.get("default", [rng.choice(ids)])
        seconds.append(time.perf_counter() - began)
        assert len(found) == 1
        await asyncio.sleep(_PAUSE_S)
    return seconds


async def idle(store: GraphStore, ids: list[str]) -> list[float]:
    stop = asyncio.Event()
    reading = asyncio.create_task(reads(store, ids, stop))
    await asyncio.sleep(_IDLE_S)
    stop.set()
    return await reading


async def sweeping(stack: Stack, store: GraphStore, ids: list[str]) -> tuple[list[float], float]:
    """Latencies during one whole sweep by the running consolidator, and its seconds."""
    before = finished(stack)
    stop = asyncio.Event()
    async with stack.stores().redis() as redis:
        await redis.delete("eunoe:{schedule}:decay")  # it never ran: it is due
    stack.kill("consolidator")
    reading = asyncio.create_task(reads(store, ids, stop))
    began = time.monotonic()
    await wait_until(lambda: finished(stack) > before, "decay has swept the graph", 300.0)
    stop.set()
    return await reading, time.monotonic() - began


def finished(stack: Stack) -> int:
    return stack.logs()["consolidator"].count('"decay.finished"')


async def run(folder: Path) -> Table:
    table = Table()
    async with running(folder, QUIET) as stack:
        store = await opened(stack)
        ids = await fill(store, COUNT)
        await connect(stack, ids, EDGES)
        calm: list[list[float]] = []
        busy: list[list[float]] = []
        took: list[float] = []
        for _ in range(ROUNDS):
            calm.append(await idle(store, ids))
            seconds, sweep_s = await sweeping(stack, store, ids)
            busy.append(seconds)
            took.append(sweep_s)
        scored = await stack.stores().number(
            "MATCH (m:Memory) WHERE m.relevance_score IS NOT NULL RETURN count(m)"
        )
        await store.close()
    assert scored == COUNT, scored
    for what, rounds in (("idle", calm), ("while decay sweeps", busy)):
        table.add(
            f"point read, {what}",
            reads=sum(map(len, rounds)),
            **latencies([s for each in rounds for s in each]),
        )
    p99 = [median(latencies(each)["p99 ms"] for each in rounds) for rounds in (calm, busy)]
    table.facts = {
        "p99 above idle, ms (wanted <= 10)": round(p99[1] - p99[0], 2),
        "maximum during decay, ms": max(latencies(each)["max ms"] for each in busy),
        "sweep, s (with the process's start)": round(median(took), 1),
        "memories": COUNT,
        "edges": EDGES,
        "load average": os.getloadavg()[0],
    }
    return table
