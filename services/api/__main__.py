"""`python -m services.api`: serves HTTP. Ready as soon as the graph answers.

`python -m services.api restore FILE [--tenant T]` reads a backup back instead.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from aiohttp import web

from services.api.app import make_app, run_beside
from services.api.backup import restore
from services.api.http.tenancy import Tokens
from shared.models.cache import CachedEmbedding
from shared.process.admin_server import serve
from shared.process.lifecycle import Process, main
from shared.process.stores import open_stores

# An embedding comes in the query string: 3 072 numbers of 25 characters, and texts beside it.
_LINE_BYTES = 256 * 1024


async def body(process: Process) -> None:
    settings = process.settings
    tokens = Tokens(settings.api, host=settings.process.host)
    cached = partial(CachedEmbedding, queries=settings.embedding.query_cache)
    async with open_stores(process, embeds=True, wrap=cached) as stores:
        process.probe(stores.probes, "graph")
        await _serve(process, make_app(stores, settings, tokens))


async def _serve(process: Process, app: web.Application) -> None:
    """Serve until the process stops, and for the drain delay more, so that balancers notice."""
    settings = process.settings
    runner = await serve(
        app,
        settings.process.host,
        settings.api.port,
        grace_s=settings.process.drain_timeout_s,
        line_bytes=_LINE_BYTES,
    )
    process.begin()
    served = asyncio.Event()
    beside = asyncio.create_task(run_beside(app, served), name="beside")
    stopping = asyncio.create_task(process.stopping.wait(), name="stopping")
    try:
        # Access times, tokens and the feed end only with the process: a bug in one ends it.
        await asyncio.wait({stopping, beside}, return_when=asyncio.FIRST_COMPLETED)
        if process.stopping.is_set():
            await asyncio.sleep(settings.process.drain_delay_s)
    finally:
        stopping.cancel()
        await runner.cleanup()
        served.set()
        await beside


if __name__ == "__main__":
    if sys.argv[1:2] == ["restore"]:
        sys.exit(restore.main(sys.argv[2:]))
    main("api", body)
