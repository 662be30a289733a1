"""Stores that are down or silent: clear answers in time, and nothing half-written."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.bench.notes import notes
from tests.chaos.conftest import StartStack
from tests.chaos.finished import finished
from tests.support.stack.stack import Answer, Client, Stack, quiet, refused
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

pytestmark = pytest.mark.chaos
# Less than half of what a client of the silent graph waits; a second on an idle machine.
WITHIN_S = 25.0
WITHOUT_VECTORS_S = 4.0


def refused_in_time(answer: Answer) -> None:
    assert "FalkorDB" in refused(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.seconds < WITHIN_S


async def disconnected(client: Client, store: str) -> None:
    async def is_reported_down() -> bool:
        began = time.monotonic()
        health = await client.health()
        assert time.monotonic() - began < WITHIN_S
        return bool(health["status"] == "degraded" and health[store] == "disconnected")

    await wait_until(is_reported_down, f"/health says that {store} is down")


async def healthy(client: Client) -> None:
    async def is_reported_healthy() -> bool:
        return bool((await client.health())["status"] == "healthy")

    await wait_until(is_reported_healthy, "/health is healthy again")


async def test_a_silent_graph_is_answered_with_503_in_time(
    stack: Stack, client: Client, tenant: str
) -> None:
    known = await client.stored("The graph answered when this was stored")
    async with stack.frozen("redis"):
        answers = await asyncio.gather(
            *(client.store(f"never acknowledged {n}") for n in range(8)),
            client.get(known),
            client.recall("stored"),
            client.patch(known, importance=0.1),
            client.delete(known),
        )
        for answer in answers:
            refused_in_time(answer)
        await disconnected(client, "falkordb")
        for _ in range(5):
            refused_in_time(await client.store("still never acknowledged"))
    await healthy(client)
    # What was refused may still have been written, as a whole: then it is worked off too.
    await stack.stores(tenant).all_done(0)
    await quiet(stack)
    stores = stack.stores(tenant)
    ids = {row[0] for row in await stores.rows("MATCH (m:Memory) RETURN m.id")}
    assert (await stores.points()).keys() == ids
    assert await stores.duplicates() == []


@pytest.mark.long
async def test_a_graph_that_is_gone_is_answered_with_503_in_time(start: StartStack) -> None:
    """Killed so often that the supervisor waits before it starts it again."""
    stack = await start()
    async with stack.client() as client:
        kept = await client.stored("Kept over all of it")
        for _ in range(4):
            await stack.killed_and_back("redis")
        gone = stack.kill("redis")
        await wait_until(lambda: not gone.alive, "redis-server is gone")
        for _ in range(3):
            refused_in_time(await client.store("nobody takes this"))
        refused_in_time(await client.recall("anything"))
        await disconnected(client, "falkordb")
        await disconnected(client, "redis")
        await healthy(client)
        assert (await client.get(kept)).status == 200
        await finished_alone(stack)


async def finished_alone(stack: Stack) -> None:
    await stack.stores().all_done(1)
    await quiet(stack)


async def test_without_vectors_recall_answers_and_says_so(
    stack: Stack, client: Client, tenant: str
) -> None:
    for text in ("Ada prefers window seats", "The caterer was paid"):
        await client.stored(text)
    await stack.stores(tenant).all_done(2)
    async with stack.frozen("qdrant"):
        for attempt in range(4):
            answer = await client.recall("window seats")
            assert answer.status == 200
            assert answer.body["degraded"] == ["vector"]
            assert answer.body["vector_search"]["enabled"] is False
            assert answer.body["results"][0]["memory"]["content"] == "Ada prefers window seats"
            assert attempt == 0 or answer.seconds < limit_s(WITHOUT_VECTORS_S)
        assert (await client.store("written without vectors")).status == 201
        await disconnected(client, "qdrant")
    await healthy(client)

    async def whole() -> bool:
        return "degraded" not in (await client.recall("window seats")).body

    await wait_until(whole, "recall has its vectors back")
    await stack.stores(tenant).all_done(3)


async def test_a_store_that_comes_back_finds_its_roles_working(
    stack: Stack, client: Client, tenant: str
) -> None:
    """Nobody restarts for a store: the same processes go on."""
    pids = {each.role: each.pid for each in stack.processes() if each.role != "redis"}
    ids = await client.store_all(notes(40))
    for store in ("redis", "qdrant"):
        async with stack.frozen(store):
            await disconnected(client, {"redis": "falkordb", "qdrant": "qdrant"}[store])
        await healthy(client)
        ids += await client.store_all(notes(40, seed=hash(store) % 1000))
    await finished(stack, ids, tenant=tenant)
    assert {each.role: each.pid for each in stack.processes() if each.role != "redis"} == pids


async def test_past_high_water_a_write_is_refused_before_anything_is_stored(
    start: StartStack,
) -> None:
    """The backlog stays bounded, and a refused write leaves no trace in the graph."""
    stack = await start(
        {"EUNOE_HIGH_WATER": "40", "EUNOE_TENANT_SHARE": "1"},
        *("--only", "api,enricher,embedder,syncer"),
    )
    async with stack.client() as client:
        stores = stack.stores()
        async with stack.frozen("enricher", "embedder"):
            stored, answer = 0, await client.store("filling up 0")
            while answer.status == 201:
                stored += 1
                assert stored < 5000, "nothing was ever refused"
                answer = await client.store(f"filling up {stored}")
            assert "backlog" in refused(answer, 503)
            assert int(answer.headers["Retry-After"]) >= 1
            for _ in range(10):
                refused(await client.store("no room for this"), 503)
            assert await stores.number("MATCH (m:Memory) RETURN count(m)") == stored
            assert (await client.recall("filling")).status == 200

        async def room() -> bool:
            return (await client.store("there is room again")).status == 201

        await wait_until(room, "writes are accepted again")
        await stores.all_done(stored + 1)


@pytest.mark.parametrize("count", [pytest.param(20_000, marks=[pytest.mark.long]), 2_000])
async def test_a_killed_graph_is_back_and_answers_within_three_seconds(
    start: StartStack, count: int
) -> None:
    stack = await start({"EUNOE_HIGH_WATER": "100000"}, "--only", "api")
    async with stack.client() as client:
        ids = await client.store_all(notes(count), connections=64)
        stores = stack.stores()
        await stores.rows(
            "MATCH (a:Memory) WITH a ORDER BY a.id WITH collect(a) AS all UNWIND range(0,"
            f" {count * 3 // 2}) AS n WITH all[n % {count}] AS a, all[(n * 7 + 1) % {count}] AS b"
            " CREATE (a)-[:SIMILAR_TO {score: 0.9}]->(b)"
        )
        edges = await stores.number("MATCH (:Memory)-[r]->(:Memory) RETURN count(r)")
        assert edges >= count * 3 // 2
        # Acknowledged writes survive the process at once; the disk follows within a second.
        stack.kill("redis")

        async def answers() -> bool:
            answer = await client.get(ids[-1])
            return answer.status == 200

        await wait_until(answers, "the graph answers again")
        assert await stores.number("MATCH (m:Memory) RETURN count(m)") == count
        assert await stores.number("MATCH (:Memory)-[r]->(:Memory) RETURN count(r)") == edges
