"""The API alone, as a real process over a test's own stores; killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from shared.config import GraphSettings
from tests.support.processes import started
from tests.support.stack.client import Answer, Client
from tests.support.stack.stack import REPOSITORY
from tests.support.stores.graphs import cypher, drop
from tests.support.stores.redis_server import free_port
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s


class ApiProcess:
    """`python -m services.api`: its port stays over restarts, and there is no Qdrant.

    `through`: the address that it gets instead of the graph's own, such as a proxy.
    """

    def __init__(
        self, folder: Path, redis_url: str, graph_url: str, *, through: str = "", **environment: str
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.prefix = f"t{uuid4().hex[:12]}"
        self.redis_url = redis_url
        self.graph = GraphSettings(FALKORDB_URL=graph_url, FALKORDB_GRAPH=f"g{uuid4().hex[:12]}")
        self._log = folder / f"api-{self.port}.log"
        self._environment = os.environ | {
            "PORT": str(self.port),
            "REDIS_URL": redis_url,
            "EUNOE_REDIS_PREFIX": self.prefix,
            "FALKORDB_URL": through or graph_url,
            "FALKORDB_GRAPH": self.graph.graph,
            "EUNOE_ADMIN_PORT": "0",
            "EUNOE_DRAIN_DELAY_SECONDS": "0",
            "EMBEDDING_PROVIDER": "placeholder",
            "QDRANT_URL": "http://127.0.0.1:1",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def beside(self, folder: Path) -> ApiProcess:
        """Another process of the same API, not started yet."""
        other = ApiProcess(folder, self.redis_url, self.graph.url)
        other._environment |= {
            "EUNOE_REDIS_PREFIX": self.prefix,
            "FALKORDB_GRAPH": self.graph.graph,
        }
        return other

    async def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = started(
                [sys.executable, "-m", "services.api"],
                cwd=self._log.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        await wait_until(self._answers, f"the API answers; {self._log}")

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return (await self.ask("GET", "/health")).status == 200
        except aiohttp.ClientError:
            return False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP the process for the block: what is sent to it meanwhile arrives at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=limit_s())

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=limit_s())

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Any request, on a connection of its own; `path` is sent as it is."""
        async with Client(self) as client:
            return await client.ask(method, path, **options)

    async def stored(self, content: str, **fields: Any) -> str:
        """The id of a memory that was acknowledged."""
        async with Client(self) as client:
            return await client.stored(content, **fields)

    async def ids(self, content: str) -> list[str]:
        """Whatever the graph holds with this content, read past the API."""
        rows = await cypher(
            self.graph, f"MATCH (m:Memory) WHERE m.content = {json.dumps(content)} RETURN m.id"
        )
        return [row[0] for row in rows]

    async def forget(self) -> None:
        """Delete everything it stored."""
        await drop(self.graph)
        async with Redis.from_url(self.redis_url) as redis:
            if keys := [key async for key in redis.scan_iter(f"{self.prefix}:*", count=1000)]:
                await redis.unlink(*keys)


@asynccontextmanager
async def running_api(api: ApiProcess) -> AsyncIterator[ApiProcess]:
    """`api`, started for the block's length; what it stored is deleted after it."""
    try:
        await api.start()
        yield api
    finally:
        api.stop()
        await api.forget()
