"""The enricher: its consumers of the enrich, relate and ask streams.

`python -m services.enricher` runs it.
"""

from __future__ import annotations

import asyncio
from functools import partial

from services.enricher.entities import nlp
from services.enricher.entities.reader import EntityReader
from services.enricher.stages.ask import ChatClassifier
from services.enricher.stages.enrich import Enricher
from services.enricher.stages.relate import Relater
from shared.events.enrichment_stats import EnrichmentStats
from shared.models.chat import ChatModel, open_chat
from shared.process.lifecycle import Process, main
from shared.process.stores import Stores, open_stores
from shared.process.worker import consume, consumer_name
from shared.streams.consumer import Consumer
from shared.streams.job import Stage

# While spaCy works on one batch, the stores are read and written for the other.
_BATCHES = 2


async def body(process: Process) -> None:
    pipeline = await asyncio.to_thread(nlp.load, process.settings.enrichment.spacy_model)
    reader = EntityReader(pipeline)
    process.health.detail["spacy_model"] = lambda: pipeline.name
    process.health.alive["entities"] = reader.is_alive
    chat = await open_chat(process.settings.chat, process.settings.embedding)
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        await consume(process, _consumers(process, stores, reader, chat))
    if chat is not None:
        await chat.close()


def _consumers(
    process: Process, stores: Stores, reader: EntityReader, chat: ChatModel | None
) -> dict[Stage, Consumer]:
    settings, graph = process.settings.enrichment, stores.graph
    stats = EnrichmentStats(stores.redis)
    ask = ChatClassifier(graph, stores.outbox, stats, chat, process.settings.api)
    enrich = Enricher(graph, stores.outbox, stores.events, stats, reader, settings, ask.wants)
    relate = Relater(graph, stores.vectors, settings)
    consumer = partial(Consumer, name=consumer_name(process.role))
    batches = partial(consumer, batch_size=settings.batch_size, batches=_BATCHES)
    return {
        Stage.ENRICH: batches(stores.streams[Stage.ENRICH], enrich, on_failures=enrich.failed),
        Stage.RELATE: batches(stores.streams[Stage.RELATE], relate),
        Stage.ASK: consumer(
            stores.streams[Stage.ASK], ask, batch_size=process.settings.chat.concurrency
        ),
    }


if __name__ == "__main__":
    main("enricher", body)
