"""The API as a web application: use cases wired to their stores, nothing started here."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from services.api import handlers
from services.api.analyze import ANALYSIS, Analysis
from services.api.associate import ASSOCIATIONS, Associations
from services.api.batch import BATCHES, Batches
from services.api.body import BATCH_BODY_BYTES, BODY_BYTES
from services.api.by_tag import BY_TAG, ByTag
from services.api.health import HealthReport
from services.api.memories import Memories
from services.api.middleware import make_middleware
from services.api.recall.service import Recall
from services.api.related import RELATED, Related
from services.api.repeatable import REPEATS
from services.api.repeats import Repeats
from services.api.routes import add_routes
from services.api.startup import STARTUP, Startup
from services.api.touch import Touches
from shared.config import Settings
from shared.tenancy import Tokens


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything the handlers call."""

    memories: Memories
    batches: Batches
    by_tag: ByTag
    associations: Associations
    related: Related
    startup: Startup
    analysis: Analysis
    repeats: Repeats
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
    app[BODY_BYTES] = settings.api.body_bytes
    app[BATCH_BODY_BYTES] = settings.api.batch_body_bytes
    app[handlers.MEMORIES] = use_cases.memories
    app[BATCHES] = use_cases.batches
    app[BY_TAG] = use_cases.by_tag
    app[ASSOCIATIONS] = use_cases.associations
    app[RELATED] = use_cases.related
    app[STARTUP] = use_cases.startup
    app[ANALYSIS] = use_cases.analysis
    app[REPEATS] = use_cases.repeats
    app[handlers.RECALL] = use_cases.recall
    app[handlers.HEALTH] = use_cases.health
    app[handlers.TOUCHES] = use_cases.touches
    app[handlers.TOKENS] = use_cases.tokens
    app[handlers.RECALL_SETTINGS] = settings.recall
    add_routes(app)
    return app
