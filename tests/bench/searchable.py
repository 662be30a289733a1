"""20 writes a second against a whole stack: how long until each memory is found by meaning.

Every setting is the product's default. Searchable is what the receipt calls so: a vector of the
memory stands (by its words it is found from the first moment). One reader asks the graph every
17 ms how far those have come that are not done, so what it sees is up to 17 ms late.
`EUNOE_BENCH_SECONDS=10` is shorter.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from shared.config import variables
from tests.bench.figures import Table, latencies
from tests.bench.notes import notes
from tests.support.stack.stack import QUICK, Client, Stack, running

SECONDS = float(os.environ.get("EUNOE_BENCH_SECONDS", "60"))
PER_S = 20
# No divisor of the writes' 50 ms: all would be seen equally late.
_LOOK_S = 0.017
_WARM = 100
_PATIENCE_S = 120.0
_CHECKED = 50
# The stack of the tests is impatient; this one is as its users have it, but for its ports.
_DEFAULTS = {
    name: str(variables()[name][2]) for name in QUICK if name not in ("PORT", "EUNOE_ADMIN_PORT")
}
_PROGRESS = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id})"
    " RETURN id, CASE WHEN m.text_hash IS NOT NULL THEN 1 ELSE 0 END,"
    " CASE WHEN m.enriched_version >= m.version AND m.embedded_version >= m.payload_version"
    " AND m.related_version > 0 AND m.enrich_due IS NULL AND m.embed_due IS NULL"
    " AND m.relate_due IS NULL THEN 1 ELSE 0 END"
)


class Watch:
    """When the memories that were sent became searchable, and done; seconds since they were."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sent: dict[str, float] = {}  # of those that are not done
        self.searchable: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.looks: list[float] = []

    def follow(self, memory_id: str, sent_at: float) -> None:
        self._sent[memory_id] = sent_at

    async def look(self) -> None:
        began = time.monotonic()
        ids = json.dumps(list(self._sent))
        answer: Any = await self._redis.execute_command(  # type: ignore[no-untyped-call]
            "GRAPH.RO_QUERY", "memories", f"CYPHER ids={ids} {_PROGRESS}"
        )
        now = time.monotonic()
        for memory_id, searchable, done in answer[1]:
            seconds = now - self._sent[memory_id]
            if searchable:
                self.searchable.setdefault(memory_id, seconds)
            if done:
                self.done[memory_id] = seconds
                del self._sent[memory_id]
        self.looks.append(now - began)

    async def until_done(self, count: int) -> None:
        """Look at a fixed pace until `count` memories are done."""
        deadline = time.monotonic() + SECONDS + _PATIENCE_S
        while len(self.done) < count:
            assert time.monotonic() < deadline, f"{len(self._sent)} of {count} never got done"
            next_at = time.monotonic() + _LOOK_S
            if self._sent:
                await self.look()
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))


async def written(client: Client, watch: Watch, texts: Sequence[str]) -> tuple[list[float], float]:
    """Latencies of the POSTs, each sent at its time whatever became of those before it.

    The second is the most seconds that one was sent after its time.
    """
    answered, late = list[float](), list[float]()

    async def one(text: str, due_at: float) -> None:
        sent_at = time.monotonic()
        late.append(sent_at - due_at)
        memory_id = await client.stored(text, tags=["bench"], importance=0.6)
        answered.append(time.monotonic() - sent_at)
        watch.follow(memory_id, sent_at)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, text in enumerate(texts):
            due_at = began + number / PER_S
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            group.create_task(one(text, due_at))
    return answered, max(late)


async def checked(client: Client, watch: Watch) -> None:
    """The product's own word on some of them, or the figures are of something else."""
    ids = list(watch.done)
    for memory_id in ids[:: max(1, len(ids) // _CHECKED)]:
        answer = await client.ask("GET", f"/memory/{memory_id}/receipt")
        flags = [answer.body[name] for name in ("searchable", "enriched", "embedded", "related")]
        assert flags == [True] * 4, answer


async def measured(stack: Stack, table: Table) -> None:
    count = int(SECONDS * PER_S)
    texts = notes(_WARM + count, seed=20)
    async with stack.client() as client:
        await client.store_all(texts[:_WARM])
        await stack.stores().all_done(_WARM)
        async with stack.stores().redis() as redis, asyncio.TaskGroup() as group:
            watch = Watch(redis)
            writing = group.create_task(written(client, watch, texts[_WARM:]))
            group.create_task(watch.until_done(count))
        await checked(client, watch)
    answered, late_s = writing.result()
    for what, seconds in (
        ("POST /memory answered", answered),
        ("searchable", list(watch.searchable.values())),
        ("enriched, embedded and related", list(watch.done.values())),
    ):
        table.add(what, memories=len(seconds), **latencies(seconds, tail=0.95))
    table.facts = {
        "writes per s": PER_S,
        "seconds": SECONDS,
        "sent late by at most, ms": round(late_s * 1000, 1),
        "a look takes, ms (p95)": latencies(watch.looks, tail=0.95)["p95 ms"],
    }


async def run(folder: Path) -> Table:
    table = Table()
    async with running(folder, _DEFAULTS) as stack:
        await measured(stack, table)
    table.facts["load average"] = os.getloadavg()[0]
    return table
