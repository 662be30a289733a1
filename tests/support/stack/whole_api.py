"""The whole API in this process: the product's own application over real stores.

For what a request is answered with; there are no workers and no vectors behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from services.api.app import make_app, run_beside
from services.api.http.tenancy import Tokens
from shared.config import (
    ApiSettings,
    EmbeddingSettings,
    GraphSettings,
    RedisSettings,
    Settings,
    VectorSettings,
)
from shared.process.admin_server import serve
from shared.process.lifecycle import Process
from shared.process.stores import open_stores
from tests.support.stack.client import Client
from tests.support.stores.redis_server import free_port
from tests.support.waiting.conditions import wait_until

# As `python -m services.api` has it.
_LINE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class WholeApi:
    port: int
    runner: web.AppRunner
    graph: GraphSettings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def client(self, token: str, tenant: str) -> AsyncIterator[Client]:
        """A client whose connections, and so their tasks, have ended with the block."""
        async with Client(self, token=token, tenant=tenant) as client:
            yield client
        await self.left()

    async def left(self) -> None:
        """Return once no connection is open.

        One whose body was left unread is gone before aiohttp's task for it, which reads for 10 s.
        """
        server = self.runner.server
        assert server is not None
        await wait_until(
            lambda: not any(each.transport for each in server.connections),
            "every connection is closed",
        )


@asynccontextmanager
async def whole_api(
    redis: RedisSettings, graph: GraphSettings, tokens: Path
) -> AsyncIterator[WholeApi]:
    """`tokens`: the file that grants tokens their tenants."""
    settings = Settings(
        api=ApiSettings(_env_file=None, EUNOE_TOKENS_FILE=tokens),
        redis=redis,
        graph=graph,
        vectors=VectorSettings(_env_file=None, QDRANT_URL="http://127.0.0.1:1", VECTOR_SIZE=384),
        embedding=EmbeddingSettings(_env_file=None, EMBEDDING_PROVIDER="placeholder"),
    )
    process, served = Process("api", settings), asyncio.Event()
    async with open_stores(process, embeds=True) as stores:
        app = make_app(stores, settings, Tokens(settings.api, host="127.0.0.1"))
        beside = asyncio.create_task(run_beside(app, served), name="beside")
        port = free_port()
        runner = await serve(app, "127.0.0.1", port, grace_s=1.0, line_bytes=_LINE_BYTES)
        try:
            yield WholeApi(port, runner, graph)
        finally:
            process.stopping.set()
            await runner.cleanup()
            served.set()
            await beside
