"""Every use case of the API, wired to the stores; and the keys handlers find them by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from services.api.backup import backup
from services.api.graph import entities, views
from services.api.graph.analyze import ANALYTICS
from services.api.graph.related import LINKS
from services.api.http.access import Tokens
from services.api.http.graph_outage import GraphCircuit
from services.api.memory import handlers
from services.api.memory.access_times import AccessTimes
from services.api.memory.admission import Admission
from services.api.memory.batch import BATCHES, Batches
from services.api.memory.by_tag import BY_TAG, ByTag
from services.api.memory.idempotency import Idempotency
from services.api.memory.service import Memories
from services.api.operations import event_stream
from services.api.operations.dead_letters import DEAD, DeadLetters
from services.api.operations.enrichment import ENRICHMENT, Enrichment
from services.api.operations.event_feed import Feed
from services.api.operations.generations import GENERATIONS
from services.api.operations.health import HealthReport
from services.api.operations.memory_status import MEMORY_STATUS, MemoryStatus
from services.api.operations.queues import STREAMS
from services.api.operations.reembed import MODELS, ModelCheck
from services.api.operations.runs import RUNS, RunRequests
from services.api.recall.service import Recall
from services.api.recall.startup import STARTUP, Startup
from services.api.repeatable import REPEATS
from shared.config import Settings
from shared.events.emitter import Events
from shared.events.enrichment_stats import EnrichmentStats
from shared.process.stores import Stores
from shared.streams.job import Stage


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the handlers call, and what runs beside them."""

    memories: Memories
    repeats: Idempotency
    touches: AccessTimes
    tokens: Tokens
    events: Events
    feed: Feed
    recall: Recall
    health: HealthReport
    circuit: GraphCircuit
    stores: Stores
    settings: Settings

    @classmethod
    def build(cls, stores: Stores, settings: Settings, tokens: Tokens) -> UseCases:
        serving = stores.serving
        touches = AccessTimes(stores.graph)
        return cls(
            memories=Memories(
                stores.graph,
                stores.outbox,
                _admission(stores),
                settings.api,
                serving,
            ),
            repeats=Idempotency(stores.redis, stores.graph),
            touches=touches,
            tokens=tokens,
            events=stores.events,
            feed=Feed(stores.redis, settings.events, block_s=settings.streams.block_s),
            recall=Recall(
                stores.graph,
                stores.vectors,
                serving,
                touches,
                settings.recall,
                vectors_up=lambda: not stores.probes.known_down("vectors"),
            ),
            health=HealthReport(
                stores.graph,
                stores.vectors,
                stores.streams,
                stores.probes,
                settings,
                serving,
            ),
            circuit=GraphCircuit(stores.probes),
            stores=stores,
            settings=settings,
        )

    def install(self, app: web.Application) -> None:
        """Put everything where the handlers look for it."""
        stores, settings, graph = self.stores, self.settings, self.stores.graph
        app[handlers.MEMORIES] = self.memories
        app[handlers.RECALL] = self.recall
        app[handlers.RECALL_SETTINGS] = settings.recall
        app[handlers.HEALTH] = self.health
        app[handlers.TOUCHES] = self.touches
        app[handlers.TOKENS] = self.tokens
        app[handlers.EVENTS] = self.events
        app[REPEATS] = self.repeats
        app[BATCHES] = Batches(graph, stores.outbox, _admission(stores), settings.api)
        app[BY_TAG] = ByTag(graph, stores.outbox)
        app[LINKS] = graph.links
        app[STARTUP] = Startup(graph)
        app[ANALYTICS] = graph.analytics
        app[views.GRAPH_VIEWS] = views.GraphViews(
            graph, stores.vectors, hidden=settings.recall.hidden_types
        )
        app[entities.ENTITIES] = entities.Entities(graph, stores.outbox)
        app[backup.BACKUP] = backup.Backup(graph.export, stores.vectors)
        self._install_operations(app)
        app[event_stream.WATCHING] = event_stream.Watching(self.feed, settings.events.keepalive_s)

    def _install_operations(self, app: web.Application) -> None:
        stores, settings, graph = self.stores, self.settings, self.stores.graph
        streams, outbox = stores.streams, stores.outbox
        stats = EnrichmentStats(stores.redis)
        runs = RunRequests(
            graph.runs,
            outbox,
            stores.probes,
            abandon=stores.vectors.generations.abandon,
            longest_wait_s=settings.api.admin_wait_s,
        )
        app[RUNS] = runs
        app.on_shutdown.append(runs.close)
        app[MODELS] = ModelCheck(settings.embedding, stores.vectors.generations.live)
        app[GENERATIONS] = stores.vectors.generations
        app[DEAD] = DeadLetters(graph, outbox, streams)
        app[STREAMS] = tuple(streams.values())
        app[MEMORY_STATUS] = MemoryStatus(graph, streams)
        app[ENRICHMENT] = Enrichment(graph, outbox, streams, stats, settings.enrichment)

    async def run(self, stopping: asyncio.Event) -> None:
        """What goes on beside the requests, until `stopping`; then nothing is left unwritten."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.touches.run(stopping), name="touches")
            group.create_task(self.feed.run(stopping), name="feed")
            group.create_task(self.tokens.watch(stopping), name="tokens")
        await self.repeats.close()
        await self.memories.close()


def _admission(stores: Stores) -> Admission:
    streams = [stores.streams[Stage.ENRICH], stores.streams[Stage.EMBED]]
    return Admission(streams, up=lambda: not stores.probes.known_down("redis"))
