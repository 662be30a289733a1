"""The API as a web application; nothing is started or connected here."""

from __future__ import annotations

from aiohttp import web

from services.api import use_cases
from services.api.http import docs_page, openapi
from services.api.http.application import make_application
from services.api.http.graph_outage import GraphCircuit
from services.api.http.tenancy import Tokens
from services.api.routes import ROUTES
from services.api.use_cases import Background
from shared.config import Settings
from shared.process.stores import Stores


def make_app(
    stores: Stores, settings: Settings, tokens: Tokens
) -> tuple[web.Application, Background]:
    """Return the application, and the tasks that must run beside it."""
    app = make_application(ROUTES, settings, tokens, GraphCircuit(stores.probes))
    app[docs_page.DOCUMENT] = openapi.rendered(ROUTES, settings)
    background = use_cases.install(app, stores, settings, tokens)

    async def end_streams(_app: web.Application) -> None:
        """End the event streams, which would otherwise delay the shutdown to its time limit."""
        background.feed.close()

    app.on_shutdown.append(end_streams)
    return app, background
