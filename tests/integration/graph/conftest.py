from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stores.redis_server import EmbeddedServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A running server of the test's own."""
    server = EmbeddedServer(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
