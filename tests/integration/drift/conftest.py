"""A place whose stores a test may break; its collection is shared, its graph is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.config import GraphSettings, RedisSettings
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.vectors import VectorStore
from tests.conftest import MakeStream
from tests.support.stores.drifting import Place, place
from tests.support.stores.graphs import TENANT
from tests.support.stores.vector_stores import emptied


@pytest.fixture
async def here(
    vectors: VectorStore,
    settings: GraphSettings,
    clients: RedisClients,
    redis_settings: RedisSettings,
    make_stream: MakeStream,
) -> AsyncIterator[Place]:
    streams = {stage: make_stream(stage) for stage in (Stage.EMBED, Stage.SYNC, Stage.RELATE)}
    async with place(settings, vectors, clients, redis_settings, streams) as found:
        yield found
    await emptied(vectors, (TENANT, "beta"))
