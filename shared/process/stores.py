"""Stores: what a role opens at its start and closes at its end, in order.

A role may start before its stores: it waits for the graph, and opens the vectors in the
background, so that recall and health answer (degraded) meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.config import Settings
from shared.errors import Unavailable
from shared.events.emitter import Events
from shared.graph.store import GraphStore
from shared.models.open import open_embedding
from shared.models.types import EmbeddingModel
from shared.process.health import Probes
from shared.process.lifecycle import Process
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.vectors import VectorStore
from shared.vectors.active_model import ModelFollower, Wrap


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one process; `following` is None for a role that embeds nothing."""

    redis: RedisClients
    graph: GraphStore
    vectors: VectorStore
    streams: Mapping[Stage, Stream]
    outbox: Outbox
    probes: Probes
    events: Events
    following: ModelFollower | None

    @property
    def model_follower(self) -> ModelFollower:
        """Return the model and generation in use; read them per request: a switch changes both."""
        if self.following is None:
            raise RuntimeError("this role opened its stores without a model")
        return self.following


@asynccontextmanager
async def open_stores(
    process: Process, *, embeds: bool, wrap: Wrap = lambda model: model
) -> AsyncIterator[Stores]:
    """Open everything, probe it twice a second, and close it in reverse order.

    `embeds`: load the embedding model and open (or make) its vector generation; without it
    the vectors are used as the embedding roles left them. `wrap` goes around every model.

    Raises: ConfigError for a provider, model or server version that cannot serve.
    """
    settings = process.settings
    redis = RedisClients.open(settings.redis, settings.streams)
    delay_s = settings.streams.outbox_delay_s
    graph = GraphStore(settings.graph, outbox_delay_s=delay_s)
    # Its client reads package metadata and certificates when it is built.
    vectors = await asyncio.to_thread(VectorStore, settings.vectors)
    following = None
    if embeds:
        model = await _open_model(settings, vectors)
        following = ModelFollower(vectors, settings.embedding, model, wrap=wrap)
        process.health.detail["embedding"] = following.report
    streams = {stage: Stream(redis, policy_for(stage, settings)) for stage in Stage}
    probes = Probes({"graph": graph.ping, "vectors": vectors.ping, "redis": redis.ping})
    outbox = Outbox(redis, streams, delay_s=delay_s, up=lambda: not probes.known_down("redis"))
    events = Events(redis, settings.events)
    stores = Stores(redis, graph, vectors, streams, outbox, probes, events, following)
    try:
        async with _background(process, stores):
            yield stores
    finally:
        await vectors.close()
        await graph.close()
        await redis.close()
        if following is not None:
            await following.close()


@asynccontextmanager
async def _background(process: Process, stores: Stores) -> AsyncIterator[None]:
    """Wait for the graph; meanwhile and for the block send events and open the vectors."""
    closing = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stores.events.run(closing), name="events")
        tasks.create_task(_follow(process, stores, closing), name="vectors")
        await process.until_open("graph", stores.graph.open)
        # Not before: a probe of a store that is still being opened calls it down.
        tasks.create_task(stores.probes.run(closing), name="probes")
        yield
        closing.set()


async def _open_model(settings: Settings, vectors: VectorStore) -> EmbeddingModel:
    """Open the configured model, at the live generation's dimension where it can choose."""
    adopted = None
    if settings.vectors.size_autodetect and settings.vectors.size is None:
        try:
            live = await vectors.generations.live()
        except Unavailable:
            live = None
        adopted = live.dimension if live else None
    return await open_embedding(settings.embedding, settings.vectors.size, preferred=adopted)


async def _follow(process: Process, stores: Stores, closing: asyncio.Event) -> None:
    if stores.following is None:
        await process.until_open("vectors", stores.vectors.live.attach)
    else:
        await process.until_open("vectors", stores.following.open)
        await stores.following.run(closing)
