"""POST /memory against the graph's own rate of single CREATE queries, alternating."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis

from shared.domain.memory import Memory, now_ms
from shared.graph.engine.client import literal
from shared.graph.records import CREATED, columns, embedding_columns, slot, tag_columns
from tests.bench.figures import Table, latencies, median
from tests.bench.notes import notes
from tests.support.stack.stack import REPOSITORY, Stack, running

ROUNDS = 5
COUNT = 3000
CONNECTIONS = 32
# What other work there is must not run into a measurement.
QUIET = {
    "EUNOE_OUTBOX_DELAY_SECONDS": "600",
    "EUNOE_RELAY_SECONDS": "1",
    "EUNOE_RELAY_ALL_SECONDS": "600",
    "EUNOE_JANITOR_SECONDS": "600",
    "CONSOLIDATION_DECAY_INTERVAL_SECONDS": "100000",
    "EUNOE_HIGH_WATER": "1000000",
    "EUNOE_TENANT_SHARE": "1",
    "EUNOE_VISIBILITY_SECONDS": "60",
}


def creates(count: int, seed: int) -> list[str]:
    """CREATE queries of the row that the product stores for a note, every value a literal."""
    queries = []
    for text in notes(count, seed=seed):
        now = now_ms()
        memory = Memory(
            id=str(uuid4()),
            version=now,
            payload_version=now,
            content=text,
            importance=0.6,
            tags=("bench", "run:1"),
            timestamp=now,
            updated_at=now,
            last_accessed=now,
            t_valid=now,
        )
        row: list[Any] = [
            *columns(memory),
            slot(memory.id),
            *tag_columns(memory),
            *embedding_columns(None),
            now + 600_000,
            now + 600_000,
        ]
        cells = ", ".join(
            f"{name}: {literal(value)}"
            for name, value in zip(CREATED, row, strict=True)
            if value is not None
        )
        queries.append(f"CREATE (m:Memory {{{cells}}}) RETURN m.id")
    return queries


def single_creates(url: str, queries: list[str]) -> list[float]:
    """Seconds of each query: one connection, back to back."""
    seconds = []
    with Redis.from_url(url, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        for query in queries:
            began = time.perf_counter()
            connection.send_command("GRAPH.QUERY", "bench", query, "--compact")
            connection.read_response()
            seconds.append(time.perf_counter() - began)
        client.connection_pool.release(connection)
    return seconds


async def prepared(stack: Stack) -> None:
    """The graph of the comparison, with every index and constraint of the product's."""
    from shared.config import GraphSettings
    from shared.graph.store import GraphStore

    settings = GraphSettings(
        FALKORDB_URL=stack.redis_url.removesuffix("/0"), FALKORDB_GRAPH="bench"
    )
    store = await GraphStore(settings, outbox_delay_s=60).open()
    await store.ensure("default")
    await store.close()


async def posts(stack: Stack, count: int, seed: int) -> dict[str, Any]:
    """What the lean client measured, from a process of its own."""
    arguments = [stack.one("api").ports["http"], CONNECTIONS, count, seed]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.lean",
        *map(str, arguments),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    assert not found["refused"], found["first"]
    return found


async def run(folder: Path) -> Table:
    table = Table()
    async with running(folder, QUIET) as stack:
        await prepared(stack)
        await posts(stack, 500, 999)  # a tenant's first moment, and the first of everything
        creating: list[list[float]] = []
        posting: list[dict[str, Any]] = []
        async with stack.frozen("enricher", "embedder"):
            for number in range(ROUNDS):
                queries = creates(COUNT, number + 100)
                creating.append(await asyncio.to_thread(single_creates, stack.redis_url, queries))
                posting.append(await posts(stack, COUNT, number))
        busy = [await posts(stack, COUNT, ROUNDS + number) for number in range(3)]
    graph = median(len(each) / sum(each) for each in creating)
    alone = _add(table, "POST /memory, workers stopped", posting)
    table.rows.insert(
        0,
        {
            "what": "single CREATE, one connection",
            "per s": round(graph),
            **latencies([s for each in creating for s in each]),
        },
    )
    _add(table, "POST /memory, all running", busy)
    table.facts = {
        "ratio (wanted >= 0.5)": round(alone / graph, 3),
        "p99 / p50 (wanted < 10)": round(_p99_over_p50(posting), 2),
        "rounds": ROUNDS,
        "requests per round": COUNT,
        "load average": os.getloadavg()[0],
    }
    return table


def _add(table: Table, what: str, rounds: list[dict[str, Any]]) -> float:
    rate = median(len(each["seconds"]) / each["took_s"] for each in rounds)
    table.add(
        what, **{"per s": round(rate)}, **latencies([s for r in rounds for s in r["seconds"]])
    )
    return float(rate)


def _p99_over_p50(rounds: list[dict[str, Any]]) -> float:
    per_round = [latencies(each["seconds"]) for each in rounds]
    return float(median(each["p99 ms"] / each["p50 ms"] for each in per_round))
