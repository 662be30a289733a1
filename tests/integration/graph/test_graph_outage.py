"""The server is away, slow or back again: callers see Unavailable, data stays."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.config import GraphSettings
from shared.embedded.stores import redis_argv, wait_ready
from shared.errors import Conflict, PermanentError, Unavailable
from shared.graph.store import GraphStore
from shared.graph.work import Embedded, Related
from tests.graphs import TENANT, a_memory, cypher, graph_settings, opened
from tests.redis_server import free_port


class EmbeddedServer:
    """The product's own embedded server over one folder, on one port over restarts."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self.settings = graph_settings(f"redis://127.0.0.1:{self._port}")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> float:
        """Seconds until it answered."""
        argv = await asyncio.to_thread(
            redis_argv, self.settings, port=self._port, data_dir=self._folder / "data"
        )
        started = time.monotonic()
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        await wait_ready(self.settings.url, timeout_s=30)
        return time.monotonic() - started

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            self.process = None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


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
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await call
            assert time.monotonic() - started < 3
        stranger = GraphStore(server.settings, outbox_delay_s=60)
        with pytest.raises(Unavailable):
            await stranger.open()
        with pytest.raises(Unavailable):
            await stranger.ping()
        await server.start()
        assert await store.memories.get(TENANT, [memory.id]) == {memory.id: memory}
        await store.ping()


async def test_a_query_past_the_servers_limit_is_unavailable(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.settings = GraphSettings(
        FALKORDB_URL=server.settings.url,
        FALKORDB_GRAPH=server.settings.graph,
        EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS=0.05,
    )
    slow = "UNWIND range(1, 3000) AS a UNWIND range(1, 3000) AS b RETURN count(a + b)"
    try:
        await server.start()
        async with opened(server.settings) as store:
            await store.ensure(TENANT)
            with pytest.raises(Unavailable):
                await store._client.read(TENANT, "slow", slow)
    finally:
        await server.kill()


async def test_an_error_never_quotes_what_a_memory_says(store: GraphStore) -> None:
    """I8: a refused query's text carries its parameters."""
    await store.ensure(TENANT)
    for wrong in ("RETURN $text +", "RETURN abs($text)"):
        with pytest.raises(PermanentError) as refused:
            await store._client.read(TENANT, "wrong", wrong, text="canary-7f3a")
        assert "canary" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


async def test_a_cancelled_call_leaves_the_connection_usable(store: GraphStore) -> None:
    await store.ensure(TENANT)
    slow = "UNWIND range(1, 2000) AS a UNWIND range(1, 2000) AS b RETURN count(a + b)"
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await store._client.read(TENANT, "slow", slow)
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


@pytest.mark.chaos
async def test_twenty_thousand_memories_are_back_within_seconds_of_a_kill(
    server: EmbeddedServer,
) -> None:
    async with opened(server.settings) as store:
        ids: list[str] = []
        for _ in range(40):
            memories = [a_memory(tags=("t",)) for _ in range(500)]
            await store.memories.create_many(TENANT, memories)
            ids += [memory.id for memory in memories]
            await store.work.embedded(
                TENANT, [Embedded(m.id, m.payload_version, "h", relate=True) for m in memories]
            )
            near = tuple((memory.id, 0.9) for memory in memories[:2])
            await store.work.related(
                TENANT, [Related(m.id, "h", m.payload_version, near) for m in memories[2:]]
            )
        counted = "MATCH (m:Memory) OPTIONAL MATCH (m)-[x]->() RETURN count(DISTINCT m), count(x)"
        before = await cypher(server.settings, counted)
        assert before[0] == [20_000, 40 * 498 * 4]
        one = await store.memories.get(TENANT, ids[:50])
        counts = await store.memories.counts(TENANT)
        await server.kill()
        # Half a second on an idle machine; replaying queries instead of effects took minutes.
        assert await server.start() < 10
        assert await cypher(server.settings, counted) == before
        assert await store.memories.get(TENANT, ids[:50]) == one
        assert await store.memories.counts(TENANT) == counts
        with pytest.raises(Conflict):
            await store.memories.create(TENANT, one[ids[0]])


async def test_a_refused_write_does_not_shift_what_a_restart_reads(server: EmbeddedServer) -> None:
    """A CREATE that a constraint refused made the append-only file name other nodes after it."""
    async with opened(server.settings) as store:
        first = a_memory("first")
        await store.memories.create(TENANT, first)
        with pytest.raises(Conflict):
            await store.memories.create(TENANT, replace(first, content="again"))
        fresh = [a_memory(f"fresh {number}") for number in range(3)]
        with pytest.raises(Conflict):
            await store.memories.create_many(TENANT, [*fresh, first])
        later = [a_memory(f"later {number}") for number in range(8)]
        for memory in later:
            await store.memories.create(TENANT, memory)
        for at, memory in enumerate(later):
            await store.memories.touch(TENANT, [memory.id], memory.last_accessed + 1000 * (at + 1))
        ids = [memory.id for memory in (first, *fresh, *later)]
        before = await store.memories.get(TENANT, ids)
        assert len(before) == 9
        await server.kill()
        await server.start()
        assert await store.memories.get(TENANT, ids) == before
