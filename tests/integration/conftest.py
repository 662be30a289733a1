"""One stack for all tests that ask one, and a tenant of its own for each of them.

For tests of a part of the product, in this process: the real stores behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.config import GraphSettings, RedisSettings, VectorSettings
from shared.graph.store import GraphStore
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.vectors import VectorStore
from tests.conftest import TENANTS, MakeStream
from tests.support.stack.operating import Operations, operated
from tests.support.stack.stack import Client, Stack, StoreView, quiet, running, write_tokens
from tests.support.stack.whole_api import WholeApi, whole_api
from tests.support.stores.graphs import drop, graph_settings, opened
from tests.support.stores.qdrant_server import running_qdrant
from tests.support.stores.redis_server import RedisServer
from tests.support.stores.vector_stores import new_store
from tests.support.stores.vector_stores import settings as vector_settings
from tests.support.workers.enriching import Enriching, enriching

# In every text that a test stores through `api`: no log line may ever show it.
CANARY = "kanarienvogel"
TOKEN = "token-of-every-tenant-4ce1"
ALPHA, BETA = "token-of-alpha-91d0", "token-of-beta-7a3f"


@pytest.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The running product; at its end nothing of anybody's work or words is left over."""
    folder = tmp_path_factory.mktemp("stack")
    tokens = write_tokens(
        folder / "tokens.json",
        {
            TOKEN: ["default", *TENANTS],
            ALPHA: ["alpha"],
            BETA: ["beta", "gamma"],
        },
    )
    async with running(folder / "stack", {"EUNOE_TOKENS_FILE": str(tokens)}) as started:
        yield started
        await quiet(started)
        for name, text in started.logs().items():
            assert CANARY not in text, f"{name} quotes a memory"
            assert not [token for token in (TOKEN, ALPHA, BETA) if token in text], name
        assert await started.stop() == 0


@pytest.fixture
async def api(stack: Stack, tenant: str) -> AsyncIterator[Client]:
    async with stack.client(TOKEN, tenant) as client:
        yield client


@pytest.fixture
def stores(stack: Stack, tenant: str) -> StoreView:
    return stack.stores(tenant)


# -- the API without workers -----------------------------------------------------------------


@pytest.fixture(scope="module")
async def whole(
    redis_url: str, falkordb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WholeApi]:
    """The API in this process, with the tasks that it begins and ends all the time."""
    tokens = write_tokens(tmp_path_factory.mktemp("api") / "tokens.json", {TOKEN: TENANTS})
    redis = RedisSettings(
        REDIS_URL=redis_url,
        EUNOE_REDIS_PREFIX=f"t{uuid4().hex[:12]}",
        EUNOE_REDIS_TIMEOUT_SECONDS=30,
    )
    graph = graph_settings(falkordb_url)
    async with whole_api(redis, graph, tokens) as started:
        yield started
    await drop(graph)
    async with Redis.from_url(redis_url) as client:
        if keys := [key async for key in client.scan_iter(f"{redis.prefix}:*", count=1000)]:
            await client.unlink(*keys)


# -- the stores of one part ---------------------------------------------------------------


@pytest.fixture
def settings(falkordb_url: str) -> GraphSettings:
    """A base graph of this test alone."""
    return graph_settings(falkordb_url)


@pytest.fixture
async def store(settings: GraphSettings) -> AsyncIterator[GraphStore]:
    async with opened(settings) as graph:
        yield graph


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant")) as url:
        yield url


@pytest.fixture(scope="module")
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    """One collection for the tests of a module; who counts in it empties it."""
    async with new_store(vector_settings(qdrant_url)) as found:
        yield found


@pytest.fixture
def no_vectors() -> VectorStore:
    """Its server is not there; never opened, so there is nothing to close."""
    return VectorStore(VectorSettings(_env_file=None, QDRANT_URL="http://127.0.0.1:9"))


@pytest.fixture
def streams(make_stream: MakeStream) -> Mapping[Stage, Stream]:
    return {stage: make_stream(stage) for stage in Stage}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis, without a graph, that this test may kill."""
    server = RedisServer(tmp_path, graph=False)
    server.start()
    yield server
    server.stop()


# -- parts over them ----------------------------------------------------------------------


@pytest.fixture
async def admin(
    clients: RedisClients, store: GraphStore, streams: Mapping[Stage, Stream]
) -> AsyncIterator[Operations]:
    """The operators' routes, asked by an admin."""
    async with operated(clients, store, streams) as started:
        yield started


@pytest.fixture
async def work(
    clients: RedisClients, make_stream: MakeStream, settings: GraphSettings
) -> AsyncIterator[Enriching]:
    """The enricher's handlers, driven batch by batch."""
    async with enriching(clients, make_stream, settings) as started:
        yield started
