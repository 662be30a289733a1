"""`python -m services.enricher`: entities, order, summaries; relations once vectors stand."""

from __future__ import annotations

import asyncio

from services.enricher import nlp
from services.enricher.relate import Relater
from services.enricher.service import Enricher
from shared.consumer import Consumer
from shared.job import Stage
from shared.process import Process, main
from shared.stores import open_stores
from shared.worker import consume, consumer_name

# The stores are read and written for one batch while the pipe works on another.
_BATCHES = 2


async def body(process: Process) -> None:
    settings = process.settings.enrichment
    pipeline = await asyncio.to_thread(nlp.load, settings.spacy_model)
    process.health.detail["spacy_model"] = lambda: pipeline.name
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        enricher = Enricher(stores.graph, stores.outbox, stores.events, pipeline, settings)
        name = consumer_name(process.role)
        relater = Relater(stores.graph, stores.vectors, settings)
        consumers = {
            stage: Consumer(
                stores.streams[stage],
                handler,
                name=name,
                batch_size=settings.batch_size,
                batches=_BATCHES,
            )
            for stage, handler in ((Stage.ENRICH, enricher), (Stage.RELATE, relater))
        }
        await consume(process, consumers)
        enricher.close()


if __name__ == "__main__":
    main("enricher", body)
