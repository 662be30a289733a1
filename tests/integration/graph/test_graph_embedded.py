"""The embedded server runs with the settings that durability and restarts depend on."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.config import GraphSettings
from shared.embedded.stores import FALKORDB_ARGS, redis_argv, wait_ready
from shared.errors import Unavailable
from tests.redis_server import RedisServer, free_port

SETTINGS = GraphSettings(EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS=7)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("embedded"), free_port()
    argv = redis_argv(SETTINGS, port=port, data_dir=folder / "made" / "here")
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stdout=log) as process:
        yield f"redis://127.0.0.1:{port}"
        process.kill()


async def test_it_is_durable_evicts_nothing_and_bounds_queries(url: str) -> None:
    await wait_ready(url, timeout_s=20)
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
    await wait_ready(url, timeout_s=20)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for _ in range(5):
            client.execute_command("GRAPH.QUERY", "lonely", "CREATE (:X {text: 'canary'})")
        await asyncio.sleep(1)  # the stream is written by a timer of the server
        assert client.keys("*") == ["lonely"]


async def test_waiting_for_a_server_that_never_comes_ends(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await wait_ready(f"redis://127.0.0.1:{free_port()}", timeout_s=0.1)
    assert time.monotonic() - started < 3


async def test_a_redis_without_the_module_is_told_at_once(tmp_path: Path) -> None:
    plain = RedisServer(tmp_path, graph=False)
    await asyncio.to_thread(plain.start)
    try:
        with pytest.raises(Unavailable, match="no graph module"):
            await wait_ready(plain.url, timeout_s=20)
    finally:
        await asyncio.to_thread(plain.stop)
