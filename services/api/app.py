"""The API as a web application: its routes, and every use case where its handlers find it.

Nothing is started or connected here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from aiohttp import web

from services.api.backup import backup
from services.api.graph import entities, views
from services.api.graph.relations import GRAPH
from services.api.http import docs_page, openapi
from services.api.http.authentication import authenticate, guarded
from services.api.http.graph_circuit import GraphCircuit
from services.api.http.middleware import make_middleware, mark_response
from services.api.http.parameters import SETTINGS
from services.api.http.route import Route
from services.api.http.tenancy import Tokens
from services.api.memory import handlers
from services.api.memory.access_times import AccessTimes
from services.api.memory.admission import Admission
from services.api.memory.idempotency import IDEMPOTENCY, Idempotency
from services.api.memory.service import Memories
from services.api.operations import health
from services.api.operations.dead_letters import DEAD, DeadLetters
from services.api.operations.enrichment import ENRICHMENT, Enrichment
from services.api.operations.event_feed import Feed
from services.api.operations.event_stream import FEED
from services.api.operations.generations import GENERATIONS
from services.api.operations.memory_status import MEMORY_STATUS, MemoryStatus
from services.api.operations.queues import STREAMS
from services.api.operations.runs import RUNS, RunRequests
from services.api.operations.vectors import MODELS, ModelCheck
from services.api.recall.candidate_source import CandidateSource
from services.api.recall.handler import RECALL
from services.api.recall.service import Recall
from services.api.routes import ROUTES
from shared.config import Settings
from shared.events.enrichment_stats import EnrichmentStats
from shared.process.stores import Stores
from shared.streams.job import Stage


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


def make_app(stores: Stores, settings: Settings, tokens: Tokens) -> web.Application:
    """Return the application with all routes; `run_beside` must run beside it."""
    app = make_application(ROUTES, settings, tokens, GraphCircuit(stores.probes))
    app[docs_page.DOCUMENT] = openapi.rendered(ROUTES, settings)
    app[FEED] = Feed(stores.redis, settings.events, block_s=settings.streams.block_s)
    app[health.TOKENS] = tokens
    _install_memories(app, stores, settings)
    _install_recall_and_graph(app, stores, settings)
    _install_operations(app, stores, settings)
    app.on_shutdown.append(app[FEED].close)
    return app


async def run_beside(app: web.Application, stopping: asyncio.Event) -> None:
    """Run what use cases do beside the requests until `stopping`; then write what is buffered."""
    async with asyncio.TaskGroup() as group:
        group.create_task(app[handlers.ACCESS_TIMES].run(stopping), name="access-times")
        group.create_task(app[FEED].run(stopping), name="feed")
        group.create_task(app[health.TOKENS].watch(stopping), name="tokens")
    await app[IDEMPOTENCY].close()
    await app[handlers.MEMORIES].close()


def _install_memories(app: web.Application, stores: Stores, settings: Settings) -> None:
    streams = [stores.streams[Stage.ENRICH], stores.streams[Stage.EMBED]]
    admission = Admission(streams, up=lambda: not stores.probes.known_down("redis"))
    app[handlers.MEMORIES] = Memories(
        stores.graph, stores.outbox, admission, settings.api, stores.model_follower
    )
    app[handlers.ACCESS_TIMES] = AccessTimes(stores.graph)
    app[handlers.EVENTS] = stores.events
    app[IDEMPOTENCY] = Idempotency(stores.redis, stores.graph)


def _install_recall_and_graph(app: web.Application, stores: Stores, settings: Settings) -> None:
    graph = stores.graph
    candidates = CandidateSource(
        graph,
        stores.vectors,
        stores.model_follower,
        settings.recall,
        vectors_up=lambda: not stores.probes.known_down("vectors"),
    )
    app[RECALL] = Recall(graph, candidates, app[handlers.ACCESS_TIMES], settings.recall)
    app[GRAPH] = graph
    app[views.GRAPH_VIEWS] = views.GraphViews(
        graph, stores.vectors, hidden=tuple(settings.recall.hidden_types)
    )
    app[entities.ENTITIES] = entities.Entities(graph, stores.outbox)


def _install_operations(app: web.Application, stores: Stores, settings: Settings) -> None:
    graph, streams, outbox = stores.graph, stores.streams, stores.outbox
    runs = RunRequests(
        graph.runs,
        outbox,
        stores.probes,
        abandon=stores.vectors.generations.abandon,
        longest_wait_s=settings.api.admin_wait_s,
    )
    app[RUNS] = runs
    app.on_shutdown.append(runs.close)
    app[health.HEALTH] = health.HealthReport(
        graph, stores.vectors, streams, stores.probes, settings, stores.model_follower
    )
    app[backup.BACKUP] = backup.Backup(graph.export, stores.vectors)
    app[MODELS] = ModelCheck(settings.embedding, stores.vectors.generations.live)
    app[GENERATIONS] = stores.vectors.generations
    app[DEAD] = DeadLetters(graph, outbox, streams)
    app[STREAMS] = tuple(streams.values())
    app[MEMORY_STATUS] = MemoryStatus(graph, streams)
    stats = EnrichmentStats(stores.redis)
    app[ENRICHMENT] = Enrichment(graph, outbox, streams, stats, settings.enrichment)
