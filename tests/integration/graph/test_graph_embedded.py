"""The embedded server runs with the settings that durability and restarts depend on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from shared.config import GraphSettings
from shared.embedded.stores import FALKORDB_ARGS
from tests.support.stores.redis_server import EmbeddedServer

SETTINGS = GraphSettings(EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS=7)


@pytest.fixture(scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded"), SETTINGS)
    try:
        await server.start()
        yield server.settings.url
    finally:
        await server.kill()


async def test_it_is_durable_evicts_nothing_and_bounds_queries(url: str) -> None:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        durable = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
        assert durable == {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        module = dict(client.execute_command("GRAPH.CONFIG", "GET", "*"))
    given = dict(zip(FALKORDB_ARGS[::2], FALKORDB_ARGS[1::2], strict=True))
    assert given.pop("CMD_INFO") == "no"
    assert module["CMD_INFO"] == 0
    assert {name: str(module[name]) for name in given} == given
    assert (module["TIMEOUT_MAX"], module["TIMEOUT_DEFAULT"]) == (7000, 7000)


async def test_a_graph_leaves_no_key_but_itself(url: str) -> None:
    """By default a stream beside each graph keeps the last queries, for ever."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for _ in range(5):
            client.execute_command("GRAPH.QUERY", "lonely", "CREATE (:X {text: 'canary'})")
        await asyncio.sleep(1)  # the stream is written by a timer of the server
        assert client.keys("*") == ["lonely"]
