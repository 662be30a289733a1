"""One API process; its tests share a graph and differ by their words."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.stack.api_process import ApiProcess, running_api


@pytest.fixture(scope="package")
async def api(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, falkordb_url: str
) -> AsyncIterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    async with running_api(ApiProcess(folder, redis_url, falkordb_url)) as started:
        yield started
