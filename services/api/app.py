"""The API as a web application: use cases wired to their stores, nothing started here."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from services.api import handlers
from services.api.health import HealthReport
from services.api.memories import Memories
from services.api.middleware import make_middleware
from services.api.recall.service import Recall
from services.api.routes import add_routes
from services.api.touch import Touches
from shared.config import Settings
from shared.tenancy import Tokens


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything the handlers call."""

    memories: Memories
    recall: Recall
    health: HealthReport
    touches: Touches
    tokens: Tokens


def make_app(settings: Settings, use_cases: UseCases) -> web.Application:
    """Pure: binds no port and opens no connection."""
    app = web.Application(
        middlewares=[
            make_middleware(use_cases.tokens, cors_origins=settings.api.cors_origins)  # type: ignore[list-item]
        ],
        client_max_size=settings.api.body_bytes,
    )
    app[handlers.MEMORIES] = use_cases.memories
    app[handlers.RECALL] = use_cases.recall
    app[handlers.HEALTH] = use_cases.health
    app[handlers.TOUCHES] = use_cases.touches
    app[handlers.TOKENS] = use_cases.tokens
    app[handlers.RECALL_SETTINGS] = settings.recall
    add_routes(app)
    return app
