from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.config import GraphSettings
from shared.graph.store import GraphStore
from tests.graphs import graph_settings, opened


@pytest.fixture
def settings(falkordb_url: str) -> GraphSettings:
    return graph_settings(falkordb_url)


@pytest.fixture
async def store(settings: GraphSettings) -> AsyncIterator[GraphStore]:
    async with opened(settings) as store:
        yield store
