"""Another model without downtime: recall answers all the while, and nothing written is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from shared.graph.upkeep.runs import RunState
from shared.vectors import Generation
from tests.bench.notes import notes
from tests.chaos.conftest import StartStack
from tests.support.stack.reembedding import Back, back, recalling
from tests.support.stack.stack import Client, Stack

pytestmark = pytest.mark.chaos
COUNT = 300
OTHER = {"provider": "placeholder", "dimension": 768}
LOCAL = {"EMBEDDING_PROVIDER": "local", "VECTOR_SIZE": "384"}
QUERIES = 50


@asynccontextmanager
async def writing(client: Client, *, every_s: float = 0.2) -> AsyncIterator[list[str]]:
    """Store a memory every now and then, change some and delete others; the ids that stay."""
    ids: list[str] = []
    stopping = asyncio.Event()

    async def until_told() -> None:
        for number in itertools.count():
            if stopping.is_set():
                return
            ids.append(await client.stored(f"Written meanwhile: number {number} of many."))
            if number % 4 == 1:
                answer = await client.patch(ids[-2], content=f"Changed after number {number}.")
                assert answer.status == 200, answer
            if number % 4 == 3:
                assert (await client.delete(ids[-2])).status == 200
                del ids[-2]
            await asyncio.sleep(every_s)

    task = asyncio.create_task(until_told(), name="writing")
    try:
        yield ids
    finally:
        stopping.set()
        await task


async def filled(stack: Stack, client: Client, count: int) -> list[str]:
    """Store, embed and relate so many; what to recall of them."""
    contents = notes(count)
    await client.store_all(contents, connections=32, persistent=True)
    await stack.stores().all_done(count)
    return [each[:60] for each in contents[:: max(1, count // QUERIES)]]


async def holds_all(stores: Back, generation: Generation) -> None:
    """Every memory has its point there, its node tells of it, and nothing else is there."""
    memories = await stores.stack.stores().rows("MATCH (m:Memory) RETURN m.id, m.text_hash")
    points = {
        point.id: point
        async for page in stores.vectors.scroll("default", generation=generation)
        for point in page
    }
    assert points.keys() == {row[0] for row in memories}
    assert [row[0] for row in memories if points[row[0]].text_hash != row[1]] == []


async def live(stores: Back) -> Generation:
    found = await stores.vectors.generations.live()
    assert found is not None
    return found


async def moved(
    stores: Back,
    client: Client,
    queries: list[str],
    request: Mapping[str, object],
    *,
    kill: tuple[str, ...] = (),
) -> list[str]:
    """One switch under a load of recalls and writes, none of which fails; what was written."""
    async with recalling(client, queries) as load, writing(client) as written:
        await asyncio.sleep(2.0)  # a while without a switch, to compare with
        began = time.monotonic()
        run = await stores.start(request)
        if kill:
            await stores.progressed(run, lambda p: p.get("processed", 0) > 0, "filling")
            await stores.stack.killed_and_back(*kill)
        ended = await stores.ended(run)
        took_s = time.monotonic() - began
        assert ended.state is RunState.COMPLETE, ended
        assert ended.result is not None
        assert ended.result["generation"] == (await live(stores)).collection
        assert ended.result["failed"] == 0
    print(
        f"\n{ended.result['total']} memories to {ended.result['model']} in {took_s:.1f} s:"
        f" {len(load.took)} recalls, p50 {load.p50_ms(until=began)} ms before,"
        f" {load.p50_ms(since=began)} ms during; {len(load.degraded)} degraded,"
        f" {len(written)} writes meanwhile"
    )
    load.proven(at_least=50)
    return written


async def test_a_switch_and_its_rollback_fail_no_recall(start: StartStack) -> None:
    stack = await start(LOCAL, "--only", "api,enricher,embedder,syncer")
    await there_and_back(stack, COUNT)


@pytest.mark.long
async def test_five_thousand_memories_are_switched_and_back(start: StartStack) -> None:
    stack = await start(LOCAL, "--only", "api,enricher,embedder,syncer")
    await there_and_back(stack, 5000)


async def there_and_back(stack: Stack, count: int) -> None:
    async with stack.client() as client, back(stack) as stores:
        queries = await filled(stack, client, count)
        first = await live(stores)
        written = await moved(stores, client, queries, OTHER)
        second = await live(stores)
        assert (second.dimension, second.serial) == (768, first.serial + 1)
        await stack.stores().all_done(count + len(written))
        await holds_all(stores, second)
        assert (await client.health())["vector_dimensions"]["effective"] == 768

        # What goes meanwhile leaves its point in the generation that is not written to.
        [gone] = await client.recalled(queries[0], limit=1)
        assert (await client.delete(gone)).status == 200
        assert gone in await stores.vectors.stored("default", [gone], generation=first)
        count -= 1
        rollback = {"generation": first.collection}
        written += await moved(stores, client, queries, rollback)
        assert await live(stores) == first
        async with recalling(client, queries) as load:
            await stores.vectors.generations.drop(second)
            await asyncio.sleep(1.5)
        load.proven(at_least=5)
        await stack.stores().all_done(count + len(written))
        await holds_all(stores, first)


async def test_kills_in_the_middle_only_delay_a_switch(start: StartStack) -> None:
    stack = await start(LOCAL, "--only", "api,enricher,embedder,syncer")
    async with stack.client() as client, back(stack) as stores:
        queries = await filled(stack, client, COUNT)
        written = await moved(stores, client, queries, OTHER, kill=("syncer", "embedder"))
        await stack.stores().all_done(COUNT + len(written))
        await holds_all(stores, await live(stores))


async def test_a_cancelled_switch_leaves_all_as_it_was(start: StartStack) -> None:
    """And what restarts afterwards serves the generation that was live."""
    stack = await start(LOCAL, "--only", "api,enricher,embedder,syncer")
    async with stack.client() as client, back(stack) as stores:
        queries = await filled(stack, client, 40)
        first = await live(stores)
        async with stack.frozen("embedder"):
            run = await stores.start(OTHER)
            await stores.progressed(run, lambda p: p.get("phase") == "filling", "filling")
            assert await stores.vectors.generations.next() is not None
            await stores.graph.runs.cancel("default", run.id)
            await stores.without_next()
        assert await live(stores) == first
        await stack.killed_and_back("api", "embedder")
        assert await client.recalled(queries[0])
        assert await client.stored("Written after the cancelled switch.")
        await stack.stores().all_done(41)
        await holds_all(stores, first)


async def test_a_process_that_starts_after_a_switch_serves_the_new_model(
    start: StartStack,
) -> None:
    """Its environment still names the old one, whose generation is still there."""
    stack = await start(LOCAL, "--only", "api,enricher,embedder,syncer")
    async with stack.client() as client, back(stack) as stores:
        queries = await filled(stack, client, 40)
        ended = await stores.ended(await stores.start(OTHER))
        assert ended.state is RunState.COMPLETE, ended
        await stack.killed_and_back("api", "embedder", "enricher", "syncer")
        assert await client.recalled(queries[0])
        await client.stored("Written after the restart.")
        await stack.stores().all_done(41)
        await holds_all(stores, await live(stores))
        assert (await client.health())["vector_dimensions"]["collection"] == 768
