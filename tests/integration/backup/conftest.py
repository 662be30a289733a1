from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.config import GraphSettings, VectorSettings
from shared.graph.store import GraphStore
from shared.vectors import VectorStore
from tests.graphs import graph_settings, opened
from tests.stores import running_qdrant
from tests.vector_stores import new_store
from tests.vector_stores import settings as vector_settings


@pytest.fixture
def settings(falkordb_url: str) -> GraphSettings:
    return graph_settings(falkordb_url)


@pytest.fixture
async def store(settings: GraphSettings) -> AsyncIterator[GraphStore]:
    async with opened(settings) as graph:
        yield graph


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant-backup")) as url:
        yield url


@pytest.fixture(scope="session")
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(vector_settings(qdrant_url)) as found:
        yield found


@pytest.fixture
def no_vectors() -> VectorStore:
    return VectorStore(VectorSettings(_env_file=None, QDRANT_URL="http://127.0.0.1:9"))
