"""The enricher's handlers over real stores, driven batch by batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from services.api.memory.requests import MemoryPatch
from services.api.memory.service import changed
from services.enricher.entities import nlp
from services.enricher.entities.nlp import Annotated, Pipeline
from services.enricher.entities.reader import EntityReader
from services.enricher.stages.ask import ChatClassifier
from services.enricher.stages.enrich import Enricher
from shared.config import ApiSettings, EnrichmentSettings, EventSettings, GraphSettings
from shared.domain.memory import Memory
from shared.domain.memory_type import classify
from shared.events.emitter import FIELD, Events, feed_key
from shared.events.enrichment_stats import EnrichmentStats
from shared.graph.store import GraphStore
from shared.models.chat import ChatModel
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import Outcome
from tests.support.stores.graphs import TENANT, a_memory, opened
from tests.support.workers.working import drained


@cache
def pipeline() -> Pipeline:
    return nlp.load("en_core_web_sm")


class Held(Pipeline):
    """A pipe that says when it works, and waits to be let go."""

    def __init__(self) -> None:
        held = pipeline()
        super().__init__(held._nlp, held.name)
        self.began = threading.Event()
        self.released = threading.Event()

    def annotate(self, texts: Sequence[str]) -> list[Annotated]:
        self.began.set()
        self.released.wait(10)
        return super().annotate(texts)


@dataclass
class Enriching:
    graph: GraphStore
    clients: RedisClients
    streams: dict[Stage, Stream]
    stats: EnrichmentStats
    events: Events
    enricher: Enricher
    classifier: ChatClassifier

    async def store(self, *memories: Memory, tenant: str = TENANT) -> None:
        await self.graph.memories.create_many(tenant, memories)

    async def now(self, memory: Memory, tenant: str = TENANT) -> Memory:
        return (await self.graph.memories.get(tenant, [memory.id]))[memory.id]

    async def enrich(self, *memories: Memory, run: str = "", tenant: str = TENANT) -> None:
        """One batch with all of them, at the versions they have now."""
        held = await self.graph.memories.get(tenant, [memory.id for memory in memories])
        jobs = [Job(tenant, each.id, each.version, run) for each in held.values()]
        await self.enricher(jobs)

    async def ask(self) -> Sequence[Outcome]:
        """Hand every ask job that was published to the classifier, as one batch."""
        return await self.classifier(await drained(self.streams[Stage.ASK]))

    async def patch(self, memory: Memory, **fields: Any) -> Memory:
        """As PATCH /memory does it, without announcing."""
        seen = await self.now(memory)
        new = changed(seen, MemoryPatch(**fields))
        assert await self.graph.memories.replace(TENANT, new, seen=seen)
        return new

    async def event_texts(self, tenant: str = TENANT) -> list[str]:
        """The events that were emitted, as JSON, oldest first."""
        await self.events.flush()
        redis: Any = self.clients.command
        rows = await redis.xrange(feed_key(self.clients.prefix, tenant))
        return [fields[FIELD] for _, fields in rows]


@asynccontextmanager
async def enriching(
    clients: RedisClients,
    make_stream: Callable[..., Stream],
    settings: GraphSettings,
    *,
    chat: ChatModel | None = None,
    pipe: Pipeline | None = None,
    api: ApiSettings | None = None,
) -> AsyncIterator[Enriching]:
    """Handlers of the enrich and ask stages; what they published is drained at the end."""
    streams = {stage: make_stream(stage) for stage in Stage}
    outbox = Outbox(clients, streams, delay_s=60)
    stats = EnrichmentStats(clients)
    events = Events(clients, EventSettings())
    loaded: Pipeline = pipe if pipe is not None else await asyncio.to_thread(pipeline)
    async with opened(settings) as graph:
        classifier = ChatClassifier(graph, outbox, stats, chat, api or ApiSettings(_env_file=None))
        enricher = Enricher(
            graph,
            outbox,
            events,
            stats,
            EntityReader(loaded),
            EnrichmentSettings(_env_file=None),
            classifier.wants,
        )
        try:
            yield Enriching(graph, clients, streams, stats, events, enricher, classifier)
        finally:
            for stream in streams.values():
                await drained(stream)


def typed_by_rule(content: str, **fields: Any) -> Memory:
    """A new memory whose client gave no type."""
    kind, confidence = classify(content)
    return replace(a_memory(content, **fields), type=kind, confidence=confidence)
