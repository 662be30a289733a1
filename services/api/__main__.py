"""`python -m services.api`: serves HTTP. Ready as soon as the graph answers."""

from __future__ import annotations

import asyncio

from aiohttp import web

from services.api.admission import Admission
from services.api.analyze import Analysis
from services.api.app import UseCases, make_app
from services.api.associate import Associations
from services.api.batch import Batches
from services.api.by_tag import ByTag
from services.api.health import HealthReport
from services.api.memories import Memories
from services.api.recall.service import Recall
from services.api.related import Related
from services.api.repeats import Repeats
from services.api.startup import Startup
from services.api.touch import Touches
from shared.admin import serve
from shared.job import Stage
from shared.models.cache import CachedEmbedding
from shared.process import Process, main
from shared.stores import open_stores
from shared.tenancy import Tokens


async def body(process: Process) -> None:
    settings = process.settings
    tokens = Tokens(settings.api, host=settings.process.host)
    async with open_stores(process, embeds=True) as stores:
        model = CachedEmbedding(stores.embedding, settings.embedding.query_cache)
        admission = Admission(
            [stores.streams[Stage.ENRICH], stores.streams[Stage.EMBED]],
            high_water=settings.streams.high_water,
        )
        memories = Memories(
            stores.graph,
            stores.outbox,
            admission,
            settings.api,
            dimension=model.dimension,
            model=model.name,
        )
        repeats = Repeats(stores.redis, stores.graph)
        touches = Touches(stores.graph)
        health = HealthReport(
            stores.graph,
            stores.vectors,
            stores.streams,
            stores.probes,
            settings,
            dimension=model.dimension,
        )
        recall = Recall(stores.graph, stores.vectors, model, touches, settings.recall)
        use_cases = UseCases(
            memories=memories,
            batches=Batches(stores.graph, stores.outbox, admission, settings.api),
            by_tag=ByTag(stores.graph, stores.outbox),
            associations=Associations(stores.graph),
            related=Related(stores.graph),
            startup=Startup(stores.graph),
            analysis=Analysis(stores.graph),
            repeats=repeats,
            recall=recall,
            health=health,
            touches=touches,
            tokens=tokens,
        )
        app = make_app(settings, use_cases)
        process.probe(stores.probes, "graph")
        await _serve(process, app, touches)
        await repeats.close()
        await memories.close()


async def _serve(process: Process, app: web.Application, touches: Touches) -> None:
    """Serve until told to stop; then go on for the drain delay, so that balancers notice."""
    settings = process.settings
    runner = await serve(
        app, settings.process.host, settings.api.port, grace_s=settings.process.drain_timeout_s
    )
    flushing = asyncio.Event()
    flusher = asyncio.create_task(touches.run(flushing), name="touches")
    try:
        await process.stopping.wait()
        await asyncio.sleep(settings.process.drain_delay_s)
    finally:
        await runner.cleanup()
        flushing.set()
        await flusher


if __name__ == "__main__":
    main("api", body)
