"""Scopes: what a route's tokens must grant, and the line that an admin call leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from services.api.http.middleware import TENANT
from services.api.http.route import Route, Scope
from services.api.http.tenancy import Access, Tokens, digest_of
from tests.support.stack.in_process import (
    ADMIN,
    ADMIN_TOKEN,
    API,
    API_TOKEN,
    make_app,
    served,
    tokens,
)

NONE = {"X-Nothing": "1"}


async def _tenant(request: web.Request) -> web.Response:
    return web.Response(text=request.get(TENANT, "none"))


def _routes(*scopes: Scope) -> list[Route]:
    return [Route("GET", f"/{scope}", _tenant, "", scope=scope) for scope in scopes]


async def _ask(
    scope: Scope, headers: dict[str, str], known: Tokens | None = None, query: str = ""
) -> tuple[int, str]:
    app = make_app(_routes(scope), known or tokens())
    async with served(app, **(headers or NONE)) as client:
        answer = await client.get(f"/{scope}{query}")
        text = await answer.text()
    return answer.status, text if answer.status == 200 else json.loads(text)["error"]


async def test_an_open_route_asks_for_nothing() -> None:
    assert await _ask("open", {}) == (200, "none")


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
async def test_without_an_api_token_nothing_else_is_served(scope: Scope) -> None:
    assert await _ask(scope, ADMIN) == (401, "Unauthorized")


async def test_an_unknown_path_needs_a_token_before_it_is_unknown() -> None:
    async with served(make_app([], tokens()), **NONE) as client, client.get("/nowhere") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("write", 403)])
async def test_a_token_does_only_what_its_scopes_say(scope: Scope, status: int) -> None:
    known = tokens()
    known._listed = [
        Access(name="r", tenants=("acme",), scopes=frozenset({"read"}), digest=digest_of("reader"))
    ]
    found, message = await _ask(scope, {"Authorization": "Bearer reader"}, known)
    assert found == status
    assert message == ("acme" if status == 200 else "This token does not grant the scope 'write'")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (API, (401, "Admin authorization required")),
        (API | {"X-Admin-Token": "wrong"}, (401, "Admin authorization required")),
        # An API token is no admin token.
        (API | {"X-Admin-Token": API_TOKEN}, (401, "Admin authorization required")),
        (API | ADMIN, (200, "default")),
        (API | {"X-Admin-Api-Key": ADMIN_TOKEN}, (200, "default")),
    ],
)
async def test_an_admin_route_needs_both_tokens(
    headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert await _ask("admin", headers) == expected


async def test_the_admin_token_may_be_a_parameter() -> None:
    assert await _ask("admin", API, query=f"?admin_token={ADMIN_TOKEN}") == (200, "default")


@pytest.mark.parametrize("scope", ["admin", "admin_only"])
async def test_without_a_configured_admin_token_nobody_is_admin(scope: Scope) -> None:
    known = tokens(ADMIN_API_TOKEN=None)
    assert await _ask(scope, API | ADMIN, known) == (403, "Admin token not configured")


async def test_an_admin_only_route_asks_for_the_admin_token_alone() -> None:
    assert await _ask("admin_only", ADMIN) == (200, "default")
    assert (await _ask("admin_only", API))[0] == 401
    assert (await _ask("admin_only", {}))[0] == 401


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({"X-Tenant-Id": "acme"}, "", (200, "acme")),
        ({}, "?tenant=acme", (200, "acme")),
        ({}, "?tenant=a/b", (400, "tenant must be 1 to 64 letters, digits, '_', '.' or '-'")),
    ],
)
async def test_the_admin_token_alone_may_name_any_tenant(
    headers: dict[str, str], query: str, expected: tuple[int, str]
) -> None:
    assert await _ask("admin_only", ADMIN | headers, query=query) == expected


@pytest.mark.parametrize(
    ("headers", "outcome", "digest"),
    [
        (API | ADMIN, "200", digest_of(ADMIN_TOKEN)[:8]),
        (API | {"X-Admin-Token": "guess"}, "refused", digest_of("guess")[:8]),
        (API, "refused", None),
    ],
)
async def test_every_admin_call_leaves_one_line_without_the_token(
    headers: dict[str, str], outcome: str, digest: str | None
) -> None:
    with capture_logs() as lines:
        await _ask("admin", headers)
    [line] = [line for line in lines if line["event"] == "admin.called"]
    assert line["action"] == "GET /admin"
    assert line["address"] == "127.0.0.1"
    assert (line["outcome"], line["token"]) == (outcome, digest)
    assert ADMIN_TOKEN not in str(line)
    assert "guess" not in str(line)


async def test_an_admin_call_that_fails_says_so_in_its_line() -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError

    route = Route("GET", "/admin", broken, "", scope="admin")
    headers: dict[str, Any] = API | ADMIN
    with capture_logs() as lines:
        async with served(make_app([route], tokens()), **headers) as client:
            assert (await client.get("/admin")).status == 500
    assert [line["outcome"] for line in lines if line["event"] == "admin.called"] == ["failed"]
