"""The API as a web application; nothing is started or connected here."""

from __future__ import annotations

from aiohttp import web

from services.api.http.authentication import audit_refused, needs_api_token
from services.api.http.middleware import make_middleware, mark_response
from services.api.routes import add_routes
from services.api.use_cases import UseCases
from shared.config import Settings


def make_app(settings: Settings, use_cases: UseCases) -> web.Application:
    app = web.Application(
        middlewares=[
            make_middleware(
                use_cases.tokens,
                use_cases.outage,
                needs_token=needs_api_token,
                refused=audit_refused,
            )
        ],
        client_max_size=settings.api.body_bytes,
    )
    use_cases.install(app)
    add_routes(app, use_cases.tokens)
    app.on_response_prepare.append(mark_response(settings.api.cors_origins))

    async def end_streams(_app: web.Application) -> None:
        """Watchers would hold up the drain until its very end."""
        use_cases.feed.close()

    app.on_shutdown.append(end_streams)
    return app
