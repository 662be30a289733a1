"""HEAD is answered wherever GET is, with its status and headers and nothing after them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.api.routes import ROUTES
from tests.support.stack.api_process import ApiProcess, running_api

API = {"X-API-Key": "api-token"}
ADMIN = {"X-Admin-Token": "admin-token"}


@pytest.fixture(scope="module")
async def guarded(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, falkordb_url: str
) -> AsyncIterator[ApiProcess]:
    tokens = {"AUTOMEM_API_TOKEN": API["X-API-Key"], "ADMIN_API_TOKEN": ADMIN["X-Admin-Token"]}
    folder = tmp_path_factory.mktemp("api")
    async with running_api(ApiProcess(folder, redis_url, falkordb_url, **tokens)) as started:
        yield started


@pytest.fixture
async def session(guarded: ApiProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """On one connection: whatever followed a HEAD's headers would spoil the next answer."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(guarded.url, connector=connector) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/health", {}, 200),
        ("/docs", {}, 200),
        ("/docs/swagger-ui.css", {}, 200),
        ("/recall", {}, 401),
        ("/recall", API, 200),
        ("/memory/by-tag?tags=x", API, 200),
        ("/memory/none", API, 400),
        ("/backup?include=falkordb", API, 401),
        ("/backup?include=falkordb", ADMIN, 200),
        ("/admin/queues", API, 401),
        ("/admin/queues", API | ADMIN, 200),
        ("/memory", API, 405),
        ("/nowhere", API, 404),
    ],
)
async def test_the_head_is_that_of_the_answer(
    session: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    async with session.get(path, headers=headers) as whole:
        await whole.read()
    async with session.head(path, headers=headers) as head:
        assert (head.status, whole.status) == (status, status)
        assert head.content_type == whole.content_type
        assert await head.read() == b""
    async with session.get("/health") as after:
        assert (await after.json())["status"]


async def test_no_stream_is_opened_for_its_head(session: aiohttp.ClientSession) -> None:
    async with session.head("/stream", headers=API) as head:
        assert (head.status, head.headers["Allow"]) == (405, "GET")
    async with session.get("/stream/status", headers=API) as status:
        assert (await status.json())["subscribers"] == 0


async def test_every_other_path_that_is_read_has_a_head(session: aiohttp.ClientSession) -> None:
    """Asked without tokens, so that nothing is done; PUT tells what a path takes."""
    for path in {route.path for route in ROUTES if route.method == "GET"} - {"/stream"}:
        plain = path.replace("{", "").replace("}", "").partition(":")[0]
        async with session.put(plain, headers=API) as answer:
            assert "HEAD" in answer.headers["Allow"].split(","), path
