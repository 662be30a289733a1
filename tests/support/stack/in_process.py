"""Some routes of the API over real stores, in this process.

The application is the product's own; use cases are put in by the test.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.api.app import make_application
from services.api.http.graph_circuit import GraphCircuit
from services.api.http.route import Route
from services.api.http.tenancy import Tokens
from shared.config import ApiSettings, Settings
from shared.process.health import Probes, Seen

API_TOKEN = "api-token"
ADMIN_TOKEN = "admin-token"
ADMIN = {"X-Admin-Token": ADMIN_TOKEN}
API = {"Authorization": f"Bearer {API_TOKEN}"}

Client = TestClient[web.Request, web.Application]


def tokens(**variables: Any) -> Tokens:
    given = {"AUTOMEM_API_TOKEN": API_TOKEN, "ADMIN_API_TOKEN": ADMIN_TOKEN} | variables
    return Tokens(ApiSettings(_env_file=None, **given), host="127.0.0.1")


def probes(**up: bool) -> Probes:
    """Of stores that are up for the length of a test, but for those named with False."""
    found = Probes({})
    for name in ("graph", "vectors", "redis"):
        ok = up.get(name, True)
        found.seen[name] = Seen(time.monotonic() + 3600, failures=0 if ok else 2)
        found._listeners[name] = []
    return found


def make_app(
    routes: Iterable[Route], known: Tokens, circuit: GraphCircuit | None = None
) -> web.Application:
    return make_application(routes, Settings(), known, circuit or GraphCircuit(probes()))


@asynccontextmanager
async def served(app: web.Application, **headers: str) -> AsyncIterator[Client]:
    """A client with the API token, unless `headers` say otherwise."""
    async with TestClient(TestServer(app), headers=headers or API) as client:
        yield client
