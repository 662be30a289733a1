"""What the tests of model switches share: ask for a run, wait for it, recall all the while."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.config import Settings, StreamSettings
from shared.errors import Unavailable
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.vectors import VectorStore
from tests.support.stack.stack import Client, Stack
from tests.support.waiting.conditions import wait_until


@dataclass(frozen=True, slots=True)
class Back:
    """The stores of a running stack, as its own processes open them."""

    stack: Stack
    graph: GraphStore
    vectors: VectorStore
    sync: Stream

    async def start(self, request: Mapping[str, Any], *, tenant: str = "default") -> Run:
        """Ask for a run of `reembed`, as the API does."""
        run = await self.graph.runs.create(tenant, "reembed", request)
        await self.sync.publish([Job(tenant, run.id, 0)], exempt=True)
        return run

    async def run(self, run: Run, *, tenant: str = "default") -> Run:
        """The run as it is now."""
        found = await self.graph.runs.get(tenant, run.id)
        assert found is not None
        return found

    async def ended(self, run: Run, *, tenant: str = "default") -> Run:
        """The run once it is over; a long one may take as long as it makes progress."""
        seen = await self.run(run, tenant=tenant)

        async def changed() -> bool:
            nonlocal seen
            before = seen
            seen = await self.run(run, tenant=tenant)
            return seen != before or seen.over

        while not seen.over:
            try:
                await wait_until(changed, "the run made progress")
            except AssertionError as error:
                raise AssertionError(f"{error}: {seen}\n{self.stack.log_tail()}") from None
        return seen

    async def without_next(self) -> None:
        async def gone() -> bool:
            return await self.vectors.generations.next() is None

        await wait_until(gone, "no generation is being filled")

    async def progressed(
        self, run: Run, reached: Callable[[Mapping[str, Any]], bool], what: str
    ) -> None:
        async def far() -> bool:
            now = await self.run(run)
            assert not now.over, f"too late for {what}: {now}"
            return reached(now.progress)

        await wait_until(far, what)


@asynccontextmanager
async def back(stack: Stack) -> AsyncIterator[Back]:
    """Beside the processes, with the same stores."""
    redis, graphs, points = stack.store_settings()
    clients = RedisClients.open(redis, StreamSettings())
    graph = GraphStore(graphs, outbox_delay_s=2.0)
    await graph.open()
    vectors = await asyncio.to_thread(VectorStore, points)
    try:
        await wait_until(lambda: _attached(vectors), "there is a generation")
        sync = Stream(clients, policy_for(Stage.SYNC, Settings()))
        yield Back(stack, graph, vectors, sync)
    finally:
        await vectors.close()
        await graph.close()
        await clients.close()


async def _attached(vectors: VectorStore) -> bool:
    try:
        await vectors.live.attach()
    except Unavailable:
        return False
    return True


@dataclass(slots=True)
class Recalls:
    """A constant load of recalls: what failed, what found nothing, how long each took."""

    client: Client
    queries: Sequence[str]
    every_s: float
    failed: list[str] = field(default_factory=list)
    degraded: list[float] = field(default_factory=list)
    took: list[tuple[float, float]] = field(default_factory=list)
    _turn: int = 0

    async def one(self) -> None:
        query = self.queries[self._turn % len(self.queries)]
        self._turn += 1
        began = time.monotonic()
        answer = await self.client.recall(query, limit=5)
        self.took.append((began, answer.seconds))
        if answer.status != 200:
            self.failed.append(f"{answer.status} {answer.text[:300]}")
        elif not answer.body["results"]:
            self.failed.append(f"empty: {query}")
        elif answer.body.get("degraded"):
            self.degraded.append(began)

    async def forever(self) -> None:
        """One after the other at the load's pace; a slow answer delays the next."""
        while True:
            began = time.monotonic()
            await self.one()
            await asyncio.sleep(max(0.0, self.every_s - (time.monotonic() - began)))

    def p50_ms(self, since: float = 0.0, until: float = float("inf")) -> float:
        taken = [seconds for began, seconds in self.took if since <= began < until]
        return round(1000 * statistics.median(taken), 1) if taken else float("nan")

    def proven(self, at_least: int) -> None:
        assert not self.failed, f"{len(self.failed)} of {len(self.took)}: {self.failed[:5]}"
        assert len(self.took) >= at_least, f"only {len(self.took)} recalls were made"
        # Answered by words alone where the vectors took too long: a busy machine's, not a rule.
        assert len(self.degraded) <= 0.1 * len(self.took), f"{len(self.degraded)} without vectors"


@asynccontextmanager
async def recalling(
    client: Client, queries: Sequence[str], *, connections: int = 2, every_s: float = 0.05
) -> AsyncIterator[Recalls]:
    """Recall all the while, over `connections` at once."""
    load = Recalls(client, queries, every_s)
    tasks = [asyncio.create_task(load.forever(), name="recalls") for _ in range(connections)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
