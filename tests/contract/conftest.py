"""A real vector server for the contract: ours as a subprocess, or the one of QDRANT_URL."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient

from .support import create

_START_TIMEOUT_S = 30.0


class EmbeddedServer:
    """The embedded server as a process that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        self._starts += 1
        log = self._folder / f"server-{self._starts}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shared.embedded.qdrant_server"]  # noqa: RUF005
                + ["--port", "0", "--data", str(self.data)],
                stderr=output,
                stdout=output,
            )
        self.url = _url_in(log, self._process)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=20)

    @property
    def data(self) -> Path:
        return self._folder / "data"


def _url_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline_s = monotonic() + _START_TIMEOUT_S
    while monotonic() < deadline_s:
        found = re.search(r"listening on (\S+)", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
    raise AssertionError(f"the server did not listen in time: {log.read_text()}")


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("QDRANT_URL")
    if given:
        yield given
        return
    server = EmbeddedServer(tmp_path_factory.mktemp("qdrant"))
    server.start()
    yield server.url
    assert server.stop(signal.SIGTERM) == 0


@pytest.fixture
def embedded_only() -> None:
    if os.environ.get("QDRANT_URL"):
        pytest.skip("states a choice of the embedded server; QDRANT_URL names another one")


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test alone, for being killed."""
    if os.environ.get("QDRANT_URL"):
        pytest.skip("kills its server; the one of QDRANT_URL is not ours to kill")
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
async def client(qdrant_url: str) -> AsyncIterator[AsyncQdrantClient]:
    connected = AsyncQdrantClient(url=qdrant_url, timeout=30)
    yield connected
    await connected.close()


@pytest.fixture
async def name(client: AsyncQdrantClient) -> AsyncIterator[str]:
    """A collection name of this test alone; removed afterwards."""
    chosen = f"contract-{uuid4().hex}"
    yield chosen
    await client.delete_collection(chosen)


@pytest.fixture
async def points(client: AsyncQdrantClient, name: str) -> str:
    """A collection with the vectors that Eunoe uses, and no points."""
    await create(client, name)
    return name


class Raw(Protocol):
    """Sends one request and returns the status and the decoded body."""

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, Any]: ...


@pytest.fixture
async def raw(qdrant_url: str) -> AsyncIterator[Raw]:
    """Requests that the stock client would not send; a string goes as it stands."""
    async with aiohttp.ClientSession() as http:

        async def send(method: str, path: str, body: object = None) -> tuple[int, Any]:
            data = body if isinstance(body, str) else json.dumps(body)
            sent = None if body is None else data
            headers = {"Content-Type": "application/json"}
            async with http.request(method, qdrant_url + path, data=sent, headers=headers) as got:
                return got.status, await got.json()

        yield send


Condition = Callable[[], Awaitable[bool]]


async def wait_until(condition: Condition, description: str, timeout_s: float = 30.0) -> None:
    """Ask again and again; each question is a request, so it needs no sleep between."""
    deadline_s = monotonic() + timeout_s
    while not await condition():
        assert monotonic() < deadline_s, f"never happened: {description}"
