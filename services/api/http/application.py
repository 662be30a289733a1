"""The HTTP application around some routes; nothing is started or connected here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from aiohttp import web

from services.api.http.authentication import authenticate, guarded
from services.api.http.graph_outage import GraphCircuit
from services.api.http.middleware import make_middleware, mark_response
from services.api.http.parameters import SETTINGS
from services.api.http.route import Route
from services.api.http.tenancy import Tokens
from shared.config import Settings


def make_application(
    routes: Iterable[Route], settings: Settings, tokens: Tokens, circuit: GraphCircuit
) -> web.Application:
    """Return an application that serves the routes; the caller adds what their handlers use."""
    app = web.Application(
        middlewares=[make_middleware(partial(authenticate, tokens=tokens), circuit)],
        client_max_size=settings.api.body_bytes,
    )
    app[SETTINGS] = settings
    app.on_response_prepare.append(mark_response(settings.api.cors_origins))
    for route in routes:
        handler = guarded(route, tokens)
        app.router.add_route(route.method, route.path, handler)
        # As Flask does; but the answer to HEAD of an event stream would never end.
        if route.method == "GET" and route.media_type != "text/event-stream":
            app.router.add_route("HEAD", route.path, handler)
    return app
