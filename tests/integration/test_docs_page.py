"""/openapi.json and /docs are open, need no network, and name every served route."""

from __future__ import annotations

import json
import re

import pytest

from services.api.routes import ROUTES
from tests.integration.conftest import TOKEN
from tests.support.stack.stack import Client, Stack, refused


@pytest.fixture
def stranger(stack: Stack) -> Client:
    return stack.client()


async def test_the_document_is_open_and_that_of_the_table(stranger: Client) -> None:
    async with stranger as client:
        answer = await client.ask("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (
        200,
        "application/json; charset=utf-8",
    )
    assert answer.body["openapi"].startswith("3.1")
    shown = {route.path for route in ROUTES if route.documented}
    assert set(answer.body["paths"]) == shown


async def test_the_page_loads_only_what_is_served_here(stranger: Client) -> None:
    async with stranger as client:
        page = await client.ask("GET", "/docs")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "http" not in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) == 4
        for path in loaded:
            found = await client.ask("GET", f"/{path}")
            assert found.status == 200, path
            assert found.headers["X-Content-Type-Options"] == "nosniff"
            kind = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
            assert found.headers["Content-Type"].startswith(kind[path.rpartition(".")[2]])


@pytest.mark.parametrize(
    "path", ["/docs/index.html", "/docs/..%2fpyproject.toml", "/docs/swagger-ui-bundle.js.map"]
)
async def test_no_other_file_is_served(stranger: Client, path: str) -> None:
    async with stranger as client:
        refused(await client.ask("GET", path), 404)


async def test_the_document_s_server_is_this_one(api: Client) -> None:
    answer = await api.ask("GET", "/openapi.json")
    assert json.loads(answer.text)["servers"] == [{"url": "/"}]


# -- routes that are not there yet ----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/consolidate"),
        ("GET", "/consolidate/status"),
    ],
)
async def test_a_later_route_says_so(api: Client, method: str, path: str) -> None:
    reason = refused(await api.ask(method, path, json={}), 501)
    assert reason == f"{method} {path} is not implemented in this version"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/enrichment/reprocess"),
        ("POST", "/admin/reembed"),
        ("POST", "/admin/sync"),
        ("GET", "/admin/queues"),
        ("DELETE", "/admin/runs/1"),
    ],
)
async def test_an_admin_route_needs_its_token_first(
    api: Client, stranger: Client, method: str, path: str
) -> None:
    """The stack has no admin token configured."""
    assert refused(await api.ask(method, path), 403) == "Admin token not configured"
    async with stranger as client:
        refused(await client.ask(method, path), 401)


async def test_there_is_no_viewer(api: Client, stranger: Client) -> None:
    refused(await api.ask("GET", "/viewer"), 404)
    async with stranger as client:
        refused(await client.ask("GET", "/viewer"), 401)


async def test_a_wrong_method_names_the_right_ones(stack: Stack) -> None:
    async with stack.client(TOKEN) as client:
        answer = await client.ask("PUT", "/memory")
    refused(answer, 405)
    assert answer.headers["Allow"] == "POST"


async def test_a_long_query_string_is_read(api: Client) -> None:
    """A vector of the model's size comes in the query string, its commas escaped."""
    numbers = "%2C".join(["-0.0123456789012345678"] * 384)
    answer = await api.ask("GET", f"/recall?embedding={numbers}&limit=1")
    assert answer.status == 200, answer
