"""After a SIGKILL in the middle of the work, all of the work is still done, and once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.bench.notes import notes
from tests.chaos.conftest import TOKEN, StartStack
from tests.chaos.finished import finished
from tests.conftest import TENANTS
from tests.support.stack.stack import Client, Running, Stack, StoreView, running, write_tokens
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos
COUNT = 300
NOTES = notes(COUNT)
SPLIT = ("enricher", "embedder")
_MOMENT_S = 0.05


@asynccontextmanager
async def in_the_middle(stack: Stack, tenant: str = "default") -> AsyncIterator[None]:
    """Stop the workers for the block's length once some of the memories are embedded, not all.

    They work for moments only until then, so that a busy machine cannot miss the middle.
    """
    stores = stack.stores(tenant)

    async def begun() -> bool:
        for each in workers():
            each.signal_if_there(signal.SIGCONT)
        await asyncio.sleep(_MOMENT_S)
        for each in workers():
            each.signal_if_there(signal.SIGSTOP)
        return (await stores.state()).embedded > 0

    def workers() -> list[Running]:
        return [each for role in SPLIT for each in stack.processes(role) if each.alive]

    try:
        await wait_until(begun, "the embedder is at work")
        assert (await stores.state()).embedded < COUNT, "too late to be in the middle"
        yield
    finally:
        for each in workers():
            each.signal_if_there(signal.SIGCONT)


async def written(stores: StoreView, count: float) -> None:
    async def enough() -> bool:
        return await stores.number("MATCH (m:Memory) RETURN count(m)") > count

    await wait_until(enough, f"{count} are written")


@pytest.mark.parametrize("roles", [SPLIT, ("qdrant",), ("redis",)], ids="+".join)
async def test_all_is_done_after_a_kill_in_the_middle(
    stack: Stack, client: Client, tenant: str, roles: tuple[str, ...]
) -> None:
    async with stack.frozen(*SPLIT):
        ids = await client.store_all(NOTES, connections=32, persistent=True)
    async with in_the_middle(stack, tenant):
        gone = [stack.kill(role) for role in roles]
    await stack.back(gone)
    await finished(stack, ids, tenant=tenant)


@pytest.mark.parametrize("role", ["api", "redis"])
async def test_what_was_acknowledged_around_a_kill_is_kept_and_done(
    stack: Stack, client: Client, tenant: str, role: str
) -> None:
    writing = asyncio.create_task(client.store_all(NOTES, connections=16, persistent=True))
    await written(stack.stores(tenant), COUNT / 2)
    await stack.killed_and_back(role)
    ids = await writing
    assert len(ids) == COUNT
    await finished(stack, ids, tenant=tenant)


@pytest.mark.parametrize(
    "moment", [pytest.param("before", marks=pytest.mark.long), "in the middle"]
)
async def test_the_relay_restores_work_that_redis_lost(
    stack: Stack, client: Client, tenant: str, moment: str
) -> None:
    async with stack.frozen(*SPLIT):
        ids = await client.store_all(NOTES, connections=32, persistent=True)
        if moment == "before":
            await delete_keys(stack)
    if moment == "in the middle":
        async with in_the_middle(stack, tenant):
            await delete_keys(stack)
    await finished(stack, ids, tenant=tenant)


async def delete_keys(stack: Stack) -> None:
    """All streams, ledgers, leases and notes, as an operator's mistake would."""
    async with stack.stores().redis() as redis:
        keys = [key async for key in redis.scan_iter("eunoe:*", count=1000)]
        await redis.delete(*keys)


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Nobody takes work over, however long its holder is silent; the relay looks often."""
    folder = tmp_path_factory.mktemp("patient")
    tokens = write_tokens(folder / "tokens.json", {TOKEN: TENANTS})
    given = {
        "EUNOE_TOKENS_FILE": str(tokens),
        "EUNOE_VISIBILITY_SECONDS": "600",
        "EUNOE_OUTBOX_DELAY_SECONDS": "0.3",
    }
    roles = ("--only", "api,enricher,embedder,syncer")
    async with running(folder / "stack", given, *roles) as started:
        yield started


async def test_with_the_consumers_stopped_each_job_is_queued_once(
    patient: Stack, tenant: str
) -> None:
    """The relay takes each memory again and again, but the backlog does not grow."""
    count, stores = 60, patient.stores(tenant)
    async with patient.client(TOKEN, tenant) as client, patient.frozen(*SPLIT):
        ids = await client.store_all(NOTES[:count])

        async def came_round() -> bool:
            waits = "MATCH (m:Memory) WHERE m.embed_waits >= 3 AND m.enrich_waits >= 3"
            return await stores.number(f"{waits} RETURN count(m)") == count

        await wait_until(came_round, "the relay has taken every memory three times")
        assert await stores.work() == {"enrich": count, "embed": count, "relate": 0}
    await finished(patient, ids, tenant=tenant)


async def test_a_stopping_worker_hands_its_work_back_at_once(patient: Stack, tenant: str) -> None:
    """No job that a draining worker held waits for its visibility time to pass."""
    async with patient.client(TOKEN, tenant) as client, patient.frozen(*SPLIT):
        ids = await client.store_all(NOTES, connections=32, persistent=True)
    async with in_the_middle(patient, tenant):
        gone = [patient.kill(role, signal.SIGTERM) for role in SPLIT]
    await patient.back(gone)
    await finished(patient, ids, tenant=tenant)


@pytest.mark.long
async def test_a_paused_worker_that_wakes_up_changes_nothing(start: StartStack) -> None:
    """Its entries were taken over meanwhile; what it then settles or writes counts for naught."""
    stack = await start(None, "--replicas", "embedder=2", "--replicas", "enricher=2")
    async with stack.client() as client:
        async with stack.frozen(*SPLIT):
            ids = await client.store_all(NOTES, connections=32, persistent=True)
        async with in_the_middle(stack):
            pass
        paused = [stack.kill(role, signal.SIGSTOP) for role in SPLIT]
        await stack.stores().all_done(COUNT)
        for each in paused:
            each.signal(signal.SIGCONT)
        await finished(stack, ids)


@pytest.mark.long
async def test_all_is_done_after_many_kills_of_everything(start: StartStack) -> None:
    stack = await start()
    async with stack.client() as client:
        texts = notes(3000, seed=2)
        writing = asyncio.create_task(client.store_all(texts, connections=4, persistent=True))
        for role in ("embedder", "api", "redis", "enricher", "qdrant", "syncer", "redis", "api"):
            await stack.killed_and_back(role)
            await wait_until(stack.ready, "the stack is ready again")
        await finished(stack, await writing)
