"""`python -m services.embedder`: write the vectors of memories."""

from __future__ import annotations

from functools import partial

from services.embedder.service import Embedder
from shared.models.cache import CachedEmbedding
from shared.process.lifecycle import Process, main
from shared.process.stores import open_stores
from shared.process.worker import consume, consumer_name
from shared.streams.consumer import Consumer
from shared.streams.job import Stage

# While the model works on one batch, the stores are read and written for the other.
_LOCAL_BATCHES = 2


async def body(process: Process) -> None:
    settings = process.settings.embedding
    cached = partial(CachedEmbedding, documents=settings.cache)
    async with open_stores(process, embeds=True, wrap=cached) as stores:
        process.probe(stores.probes, "graph", "redis", "vectors")

        def paid() -> bool:
            return stores.model_follower.live.model.paid

        consumer = Consumer(
            stores.streams[Stage.EMBED],
            Embedder(stores.graph, stores.vectors, stores.model_follower, stores.outbox),
            name=consumer_name(process.role),
            batch_size=settings.batch_size,
            # Evaluated for each batch: after a switch the model may be of the other kind.
            batches=lambda: settings.concurrency if paid() else _LOCAL_BATCHES,
            # Waiting for a full batch saves money, never time, so a local model does not wait.
            linger_s=lambda: settings.batch_timeout_s if paid() else 0.0,
        )
        await consume(process, {Stage.EMBED: consumer})


if __name__ == "__main__":
    main("embedder", body)
