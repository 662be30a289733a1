"""`python -m services.enricher`: entities, order, patterns; relations once vectors stand.

What only the chat model can tell is asked in a stage of its own.
"""

from __future__ import annotations

import asyncio
from functools import partial

from services.enricher.entities import nlp
from services.enricher.stages.ask import ChatClassifier
from services.enricher.stages.enrich import Enricher
from services.enricher.stages.relate import Relater
from shared.events.enrichment_stats import EnrichmentStats
from shared.models.chat import open_chat
from shared.process.lifecycle import Process, main
from shared.process.stores import open_stores
from shared.process.worker import consume, consumer_name
from shared.streams.consumer import Consumer
from shared.streams.job import Stage

# The stores are read and written for one batch while the pipe works on another.
_BATCHES = 2


async def body(process: Process) -> None:
    settings = process.settings.enrichment
    pipeline = await asyncio.to_thread(nlp.load, settings.spacy_model)
    process.health.detail["spacy_model"] = lambda: pipeline.name
    chat = await open_chat(process.settings.chat, process.settings.embedding)
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        stats = EnrichmentStats(stores.redis)
        asker = ChatClassifier(stores.graph, stores.outbox, stats, chat, process.settings.api)
        enricher = Enricher(
            stores.graph,
            stores.outbox,
            stores.events,
            stats,
            pipeline=pipeline,
            settings=settings,
            asks=asker.wants,
        )
        relater = Relater(stores.graph, stores.vectors, settings)
        consumer = partial(Consumer, name=consumer_name(process.role))
        size, streams = settings.batch_size, stores.streams
        consumers = {
            Stage.ENRICH: consumer(
                streams[Stage.ENRICH],
                enricher,
                batch_size=size,
                batches=_BATCHES,
                on_failures=enricher.failed,
            ),
            Stage.RELATE: consumer(
                streams[Stage.RELATE], relater, batch_size=size, batches=_BATCHES
            ),
            Stage.ASK: consumer(
                streams[Stage.ASK], asker, batch_size=process.settings.chat.concurrency
            ),
        }
        await consume(process, consumers)
    if chat is not None:
        await chat.close()


if __name__ == "__main__":
    main("enricher", body)
