"""The API as a web application; nothing is started or connected here."""

from __future__ import annotations

from aiohttp import web

from services.api.http import docs_page, openapi
from services.api.http.application import make_application
from services.api.routes import ROUTES
from services.api.use_cases import UseCases
from shared.config import Settings


def make_app(settings: Settings, use_cases: UseCases) -> web.Application:
    app = make_application(ROUTES, settings, use_cases.tokens, use_cases.circuit)
    use_cases.install(app)
    app[docs_page.DOCUMENT] = openapi.rendered(ROUTES, settings)

    async def end_streams(_app: web.Application) -> None:
        """Open event streams would hold up the drain until its very end."""
        use_cases.feed.close()

    app.on_shutdown.append(end_streams)
    return app
