"""A place whose stores a test may break; its collection is shared, its graph is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from shared.config import GraphSettings, RedisSettings
from shared.connection import RedisClients
from shared.job import Stage
from shared.stream import Stream
from shared.vectors import VectorStore
from tests.drifting import Place, place
from tests.graphs import TENANT, graph_settings
from tests.stores import running_qdrant
from tests.vector_stores import emptied, new_store, settings

MakeStream = Callable[..., Stream]


@pytest.fixture(scope="module")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant")) as url:
        yield url


@pytest.fixture(scope="module")
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(settings(qdrant_url)) as opened:
        yield opened


@pytest.fixture
def graphs(falkordb_url: str) -> GraphSettings:
    return graph_settings(falkordb_url)


@pytest.fixture
async def here(
    vectors: VectorStore,
    graphs: GraphSettings,
    clients: RedisClients,
    redis_settings: RedisSettings,
    make_stream: MakeStream,
) -> AsyncIterator[Place]:
    streams = {stage: make_stream(stage) for stage in (Stage.EMBED, Stage.SYNC, Stage.RELATE)}
    async with place(graphs, vectors, clients, redis_settings, streams) as found:
        yield found
    await emptied(vectors, (TENANT, "beta"))
