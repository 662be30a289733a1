"""A client that got no answer sends its write again, without a key: one memory.

AutoMem's client repeats any POST after a timeout, a lost connection or a 5xx; ids minted
per request made duplicates of every write that was slow to answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from tests.support.stack.api_process import ApiProcess, running_api
from tests.support.stores.proxy import Proxy
from tests.support.stores.redis_server import RedisServer
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

WRITES = ("/memory", "/memory/batch")


def a_write(path: str) -> tuple[list[str], dict[str, Any]]:
    """Contents nobody else stores, and the body that stores them at `path`."""
    if path == "/memory":
        content = f"The key is under the mat {uuid4()}"
        return [content], {"content": content}
    contents = [f"The key is under mat {at} {uuid4()}" for at in range(3)]
    return contents, {"memories": [{"content": content} for content in contents]}


def ids_in(body: dict[str, Any]) -> list[str]:
    return body["memory_ids"] if "memory_ids" in body else [body["memory_id"]]


async def ids_of(api: ApiProcess, contents: list[str]) -> list[str]:
    return [each for content in contents for each in await api.ids(content)]


async def in_the_graph(api: ApiProcess, contents: list[str]) -> None:
    async def all_are() -> bool:
        return len(await ids_of(api, contents)) == len(contents)

    await wait_until(all_are, "the write reached the graph")


async def same_ids_again(
    api: ApiProcess, path: str, body: dict[str, Any], contents: list[str]
) -> None:
    """The repeat succeeds, and names the memories that are there."""
    again = await api.ask("POST", path, json=body)
    assert again.status == 201
    assert ids_in(again.body) == await ids_of(api, contents)


@pytest.fixture(autouse=True)
def no_task_left() -> None:
    """Not looked for: the proxy beside the tests has a task for each connection of the API."""


@pytest.fixture(scope="module")
async def proxy(falkordb_url: str) -> AsyncIterator[Proxy]:
    opened = Proxy(falkordb_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def held(
    proxy: Proxy, redis_url: str, falkordb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    """An API whose graph's answers the proxy may hold back; its graph exists."""
    folder = tmp_path_factory.mktemp("held")
    given = ApiProcess(folder, redis_url, falkordb_url, through=proxy.url)
    async with running_api(given) as api:
        await api.stored("The graph is made by its first write")
        yield api


async def send(api: ApiProcess, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
    """A request on a bare connection, which is returned without waiting for an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: eunoe\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("path", WRITES)
async def test_a_write_whose_client_hung_up_is_not_stored_again(
    held: ApiProcess, proxy: Proxy, path: str
) -> None:
    """The connection is cut between the write and its answer; the repeat gets the same ids."""
    contents, body = a_write(path)
    proxy.hold()
    reader, writer = await send(held, path, body)
    await in_the_graph(held, contents)
    writer.write_eof()
    assert await reader.read() == b""  # the API has noticed, and has nothing to say yet
    writer.close()
    proxy.release()
    await same_ids_again(held, path, body, contents)


@pytest.mark.parametrize("path", WRITES)
async def test_a_write_whose_api_was_killed_before_answering_is_not_stored_again(
    held: ApiProcess, proxy: Proxy, path: str
) -> None:
    """SIGKILL between the write and its answer; the next process knows the id all the same."""
    contents, body = a_write(path)
    proxy.hold()
    call = asyncio.create_task(held.ask("POST", path, json=body))
    await in_the_graph(held, contents)
    held.kill()
    with pytest.raises(aiohttp.ClientError):
        await call
    proxy.release()
    await held.start()
    await same_ids_again(held, path, body, contents)


@pytest.mark.parametrize("path", WRITES)
async def test_a_write_whose_outcome_was_unknown_is_not_stored_again(
    held: ApiProcess, proxy: Proxy, path: str
) -> None:
    """The graph stored it and the connection broke: 503, and the repeat gets the same ids."""
    contents, body = a_write(path)
    proxy.cut_after_request(b"CREATE (m:Memory")
    failed = await held.ask("POST", path, json=body)
    assert failed.status == 503
    await in_the_graph(held, contents)
    await same_ids_again(held, path, body, contents)


async def test_what_was_answered_may_be_stored_again(api: ApiProcess) -> None:
    """Saying the same twice on purpose makes two memories, however quickly."""
    content = f"Buy milk {uuid4()}"
    ids = [await api.stored(content) for _ in range(20)]
    assert sorted(ids) == sorted(await api.ids(content))
    assert len(set(ids)) == 20


async def test_a_batch_that_was_answered_may_be_stored_again(api: ApiProcess) -> None:
    contents, body = a_write("/memory/batch")
    for _ in range(2):
        assert (await api.ask("POST", "/memory/batch", json=body)).status == 201
    assert len(set(await ids_of(api, contents))) == 2 * len(contents)


async def test_answered_writes_leave_nothing_in_redis(api: ApiProcess) -> None:
    """Fingerprints are kept for writes without an answer only, and those have an end."""
    await asyncio.gather(*(api.stored(f"Fleeting {uuid4()}") for _ in range(20)))
    async with Redis.from_url(api.redis_url, decode_responses=True) as redis:

        async def forgotten() -> bool:
            keys = redis.scan_iter(f"{api.prefix}:{{writes}}:*", count=1000)
            return [key async for key in keys] == []

        await wait_until(forgotten, "no fingerprint is left")


async def test_without_redis_writes_are_stored(
    tmp_path: Path, redis_url: str, falkordb_url: str
) -> None:
    """Neither a Redis that hangs nor one that is gone keeps a write waiting for long."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, graph=False)
    server.start()
    try:
        given = {"REDIS_URL": server.url, "EUNOE_REDIS_TIMEOUT_SECONDS": str(limit_s(1))}
        async with running_api(ApiProcess(tmp_path, redis_url, falkordb_url, **given)) as api:
            server.freeze()
            frozen = await api.ask("POST", "/memory", json={"content": "Redis hangs"})
            server.thaw()
            server.kill()
            gone = await api.ask("POST", "/memory", json={"content": "Redis is gone"})
            assert (frozen.status, gone.status) == (201, 201)
            assert await api.ids("Redis hangs") == [frozen.body["memory_id"]]
            assert await api.ids("Redis is gone") == [gone.body["memory_id"]]
            assert gone.body["enrichment_queued"] is False
    finally:
        server.stop()
