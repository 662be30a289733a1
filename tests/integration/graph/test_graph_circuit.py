"""The server is away, slow or back again: callers see Unavailable, and nothing hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.config import GraphSettings
from shared.errors import PermanentError, Unavailable
from shared.graph.store import GraphStore
from tests.support.stores.graphs import TENANT, a_memory, opened
from tests.support.stores.redis_server import EmbeddedServer
from tests.support.waiting.conditions import limited


async def test_a_server_that_is_down_is_unavailable_and_not_waited_for(
    server: EmbeddedServer,
) -> None:
    async with opened(server.settings) as store:
        memory = a_memory()
        await store.memories.create(TENANT, memory)
        await server.kill()
        for call in (
            store.memories.get(TENANT, ["x"]),
            store.memories.create(TENANT, a_memory()),
            store.work.next_due(TENANT),
            store.tenants(),
            store.ping(),
        ):
            async with limited():
                with pytest.raises(Unavailable):
                    await call
        stranger = GraphStore(server.settings, outbox_delay_s=60)
        with pytest.raises(Unavailable):
            await stranger.open()
        with pytest.raises(Unavailable):
            await stranger.ping()
        await server.start()
        assert await store.memories.get(TENANT, [memory.id]) == {memory.id: memory}
        await store.ping()


async def test_a_query_past_the_servers_limit_is_unavailable(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, GraphSettings(EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS=0.05))
    slow = "UNWIND range(1, 3000) AS a UNWIND range(1, 3000) AS b RETURN count(a + b)"
    try:
        await server.start()
        async with opened(server.settings) as store:
            await store.ensure(TENANT)
            with pytest.raises(Unavailable):
                await store._client.query(TENANT, "slow", slow)
    finally:
        await server.kill()


async def test_an_error_never_quotes_what_a_memory_says(store: GraphStore) -> None:
    """A refused query's error text carries its parameters, which no log may show."""
    await store.ensure(TENANT)
    for wrong in ("RETURN $text +", "RETURN abs($text)"):
        with pytest.raises(PermanentError) as refused:
            await store._client.query(TENANT, "wrong", wrong, text="canary-7f3a")
        assert "canary" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


async def test_a_cancelled_call_leaves_the_connection_usable(store: GraphStore) -> None:
    await store.ensure(TENANT)
    slow = "UNWIND range(1, 2000) AS a UNWIND range(1, 2000) AS b RETURN count(a + b)"
    for _ in range(3):
        call = asyncio.create_task(store._client.query(TENANT, "slow", slow))
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.wait({call})
    memory = a_memory()
    await store.memories.create(TENANT, memory)
    assert await store.memories.get(TENANT, [memory.id]) == {memory.id: memory}


async def test_closing_finishes_what_was_accepted(settings: GraphSettings) -> None:
    store = await GraphStore(settings, outbox_delay_s=60).open()
    memories = [a_memory() for _ in range(50)]
    creates = [asyncio.create_task(store.memories.create(TENANT, memory)) for memory in memories]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*creates)
    async with opened(settings) as again:
        assert len(await again.memories.get(TENANT, [memory.id for memory in memories])) == 50
