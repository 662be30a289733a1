from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.config import GraphSettings
from shared.graph.store import GraphStore
from tests.graphs import graph_settings, opened
from tests.redis_server import EmbeddedServer


@pytest.fixture
def settings(falkordb_url: str) -> GraphSettings:
    return graph_settings(falkordb_url)


@pytest.fixture
async def store(settings: GraphSettings) -> AsyncIterator[GraphStore]:
    async with opened(settings) as store:
        yield store


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A running server of the test's own."""
    server = EmbeddedServer(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
