"""A real vector server for the contract: ours as a subprocess, or the one of QDRANT_URL."""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient

from tests.support.stores.qdrant_server import QdrantProcess, running_qdrant

from .support import create


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant")) as url:
        yield url


@pytest.fixture
def embedded_only() -> None:
    if os.environ.get("QDRANT_URL"):
        pytest.skip("states a choice of the embedded server; QDRANT_URL names another one")


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[QdrantProcess]:
    """A server of this test alone, for being killed."""
    if os.environ.get("QDRANT_URL"):
        pytest.skip("kills its server; the one of QDRANT_URL is not ours to kill")
    server = QdrantProcess(tmp_path)
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
