"""Some routes of the API over real stores, in this process: the app that is not yet whole.

Tokens and scopes are enforced as in the product; use cases are put in by the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.api.http import middleware
from services.api.http.access import Tokens
from services.api.http.authentication import guarded, needs_api_token
from services.api.http.parameters import SETTINGS
from services.api.http.route import Route
from shared.config import ApiSettings, Settings
from shared.errors import EunoeError

API_TOKEN = "api-token"
ADMIN_TOKEN = "admin-token"
ADMIN = {"X-Admin-Token": ADMIN_TOKEN}
API = {"Authorization": f"Bearer {API_TOKEN}"}

Client = TestClient[web.Request, web.Application]


def tokens(**variables: Any) -> Tokens:
    given = {"AUTOMEM_API_TOKEN": API_TOKEN, "ADMIN_API_TOKEN": ADMIN_TOKEN} | variables
    return Tokens(ApiSettings(_env_file=None, **given), host="127.0.0.1")


def make_app(routes: Iterable[Route], known: Tokens) -> web.Application:
    @web.middleware
    async def around(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if needs_api_token(request):
                middleware.identify(request, known)
            return await handler(request)
        except EunoeError as error:
            return middleware._domain_answer(error, "test")

    app = web.Application(middlewares=[around])
    app[SETTINGS] = Settings()
    for route in routes:
        app.router.add_route(route.method, route.path, guarded(route, known))
    return app


@asynccontextmanager
async def served(app: web.Application, **headers: str) -> AsyncIterator[Client]:
    """A client with the API token, unless `headers` say otherwise."""
    async with TestClient(TestServer(app), headers=headers or API) as client:
        yield client
