"""Another model without downtime: recall answers all the while, and nothing written is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest

from shared.graph.upkeep.runs import RunState
from shared.vectors import Generation
from tests.bench.notes import notes
from tests.chaos.conftest import StartStack
from tests.support.stack.reembedding import Back, back, recalling
from tests.support.stack.stack import Client, Stack, running

pytestmark = pytest.mark.chaos
COUNT = 300
LOCAL = {"EMBEDDING_PROVIDER": "local", "VECTOR_SIZE": "384"}
ROLES = ("--only", "api,enricher,embedder,syncer")
QUERIES = 50


@pytest.fixture(scope="module")
async def switching(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Filled once; a test begins with the model that another one has left, and takes its own."""
    async with running(tmp_path_factory.mktemp("switch") / "stack", LOCAL, *ROLES) as stack:
        async with stack.client() as client:
            await filled(stack, client, COUNT)
        yield stack


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, object]]:
    """Requests for models of which there is no generation yet."""
    dimensions = itertools.count(512, 64)
    return ({"provider": "placeholder", "dimension": each} for each in dimensions)


@asynccontextmanager
async def writing(client: Client, *, every_s: float = 0.2) -> AsyncIterator[list[str]]:
    """Store a memory every now and then, change some and delete others; the ids that stay."""
    ids: list[str] = []
    stopping = asyncio.Event()

    async def write_until_stopped() -> None:
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

    task = asyncio.create_task(write_until_stopped(), name="writing")
    try:
        yield ids
    finally:
        stopping.set()
        await task


async def filled(stack: Stack, client: Client, count: int) -> list[str]:
    """Store, embed and relate so many; what to recall of them."""
    await client.store_all(notes(count), connections=32, persistent=True)
    await stack.stores().all_done(count)
    return queries_of(count)


def queries_of(count: int) -> list[str]:
    return [each[:60] for each in notes(count)[:: max(1, count // QUERIES)]]


async def memories(stack: Stack) -> int:
    return await stack.stores().number("MATCH (m:Memory) RETURN count(m)")


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
        await asyncio.sleep(0.5)  # a while without a switch, to compare with
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


async def test_a_switch_and_its_rollback_fail_no_recall(
    switching: Stack, others: Iterator[dict[str, object]]
) -> None:
    await there_and_back(switching, queries_of(COUNT), next(others))


@pytest.mark.long
async def test_five_thousand_memories_are_switched_and_back(
    start: StartStack, others: Iterator[dict[str, object]]
) -> None:
    stack = await start(LOCAL, *ROLES)
    async with stack.client() as client:
        queries = await filled(stack, client, 5000)
    await there_and_back(stack, queries, next(others))


async def there_and_back(stack: Stack, queries: list[str], other: dict[str, object]) -> None:
    async with stack.client() as client, back(stack) as stores:
        count, first = await memories(stack), await live(stores)
        newest = (await stores.vectors.generations.all())[-1]
        written = await moved(stores, client, queries, other)
        second = await live(stores)
        assert (second.dimension, second.serial) == (other["dimension"], newest.serial + 1)
        await stack.stores().all_done(count + len(written))
        await holds_all(stores, second)
        shown = (await client.health())["vector_dimensions"]
        assert shown["effective"] == other["dimension"]

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


async def test_kills_in_the_middle_only_delay_a_switch(
    switching: Stack, others: Iterator[dict[str, object]]
) -> None:
    async with switching.client() as client, back(switching) as stores:
        count, kill = await memories(switching), ("syncer", "embedder")
        written = await moved(stores, client, queries_of(COUNT), next(others), kill=kill)
        await switching.stores().all_done(count + len(written))
        await holds_all(stores, await live(stores))


async def test_a_cancelled_switch_leaves_all_as_it_was(
    switching: Stack, others: Iterator[dict[str, object]]
) -> None:
    """And what restarts afterwards serves the generation that was live."""
    async with switching.client() as client, back(switching) as stores:
        count, first = await memories(switching), await live(stores)
        async with switching.frozen("embedder"):
            run = await stores.start(next(others))
            await stores.progressed(run, lambda p: p.get("phase") == "filling", "filling")
            assert await stores.vectors.generations.next() is not None
            await stores.graph.runs.cancel("default", run.id)
            await stores.without_next()
        assert await live(stores) == first
        await switching.killed_and_back("api", "embedder")
        assert await client.recalled(queries_of(COUNT)[0])
        assert await client.stored("Written after the cancelled switch.")
        await switching.stores().all_done(count + 1)
        await holds_all(stores, first)


async def test_a_process_that_starts_after_a_switch_serves_the_new_model(
    switching: Stack, others: Iterator[dict[str, object]]
) -> None:
    """Its environment still names the old one, whose generation is still there."""
    other = next(others)
    async with switching.client() as client, back(switching) as stores:
        count = await memories(switching)
        ended = await stores.ended(await stores.start(other))
        assert ended.state is RunState.COMPLETE, ended
        await switching.killed_and_back("api", "embedder", "enricher", "syncer")
        assert await client.recalled(queries_of(COUNT)[0])
        await client.stored("Written after the restart.")
        await switching.stores().all_done(count + 1)
        serving = await live(stores)
        assert any(each.dimension == 384 for each in await stores.vectors.generations.all())
        await holds_all(stores, serving)
        shown = (await client.health())["vector_dimensions"]
        assert serving.dimension == shown["collection"] == other["dimension"]
