"""Fixtures of every test: one real redis-server per xdist worker, and checks for leaks.

Tests share the server and differ by their keys' prefix, so REDIS_URL may name a server that
others use, and nothing is flushed. After each test: no key, no task, no blocking call left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from blockbuster import blockbuster_ctx
from redis.asyncio import Redis
from xdist.scheduler import LoadScopeScheduling

from shared.config import EnrichmentSettings, RedisSettings, Settings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from tests.support.processes import end_with_parent, started
from tests.support.stores.leaks import leaks
from tests.support.stores.redis_server import RedisServer
from tests.support.waiting.pace import limit_s, measure

MakeStream = Callable[..., Stream]
# One for each test of a session that asks a stack, with some to spare.
TENANTS = tuple(f"t{number}" for number in range(500))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaves_work: ends with live jobs on purpose, says why")
    if hasattr(config, "workerinput"):
        end_with_parent()  # a worker of pytest-xdist
    else:
        measure()


# Modules of a group share a process that takes seconds to start, so one worker runs them all.
_BROKEN_STACK = ("tests/chaos/test_kills", "tests/chaos/test_stores_down")
_SHARED_STACK = tuple(
    f"tests/integration/test_{name}" for name in ("docs_page", "recall_", "reembed_", "stack_")
)
_SHARED_API = ("tests/integration/api/",)
_GROUPS = (_BROKEN_STACK, _SHARED_STACK, _SHARED_API)
# What takes long begins first: a worker that has nothing left to do waits for the other. The
# shared stack ends as soon as another folder begins.
_IN_ORDER = (
    ("tests/chaos/",),
    _SHARED_STACK,
    ("tests/contract/",),
    ("tests/integration/",),
    ("tests/unit/",),
)


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not item.nodeid.startswith(each) for each in _IN_ORDER])


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A module's tests, or those of a group's modules, go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        grouped = (group[0] for group in _GROUPS if nodeid.startswith(group))
        return next(grouped, nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """REDIS_URL, else a server of this worker's own, FalkorDB included."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def falkordb_url(redis_url: str) -> str:
    return os.environ.get("FALKORDB_URL") or redis_url


@pytest.fixture
def redis_settings(redis_url: str) -> RedisSettings:
    """Keys of this test alone; they are checked for leaks and deleted after it."""
    return RedisSettings(
        REDIS_URL=redis_url,
        EUNOE_REDIS_PREFIX=f"t{uuid4().hex[:12]}",
        EUNOE_REDIS_TIMEOUT_SECONDS=30,
    )


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Short waits; but what a consumer holds is its own even when it is frozen for seconds.

    `silence` makes an entry look as if its holder had been silent for the visibility.
    """
    return StreamSettings(
        EUNOE_VISIBILITY_SECONDS=10,
        EUNOE_BLOCK_SECONDS=0.05,
        EUNOE_PROMOTE_SECONDS=0.02,
        EUNOE_EMBED_BACKOFF_SECONDS=0.02,
        EUNOE_EMBED_BACKOFF_MAX_SECONDS=0.1,
    )


@pytest.fixture
async def clients(
    redis_settings: RedisSettings, stream_settings: StreamSettings
) -> AsyncIterator[RedisClients]:
    opened = RedisClients.open(redis_settings, stream_settings)
    yield opened
    await opened.close()


@pytest.fixture
def make_stream(clients: RedisClients, stream_settings: StreamSettings) -> MakeStream:
    """`make_stream(stage, EUNOE_HIGH_WATER=10)`: a new Stream object over this test's keys."""

    def make(stage: Stage = Stage.ENRICH, /, **variables: Any) -> Stream:
        given = stream_settings.model_dump()
        named = {
            str(field.validation_alias.choices[0]): given[name]  # type: ignore[union-attr]
            for name, field in StreamSettings.model_fields.items()
        }
        enrichment = EnrichmentSettings(ENRICHMENT_FAILURE_BACKOFF_SECONDS=0.02)
        settings = Settings(streams=StreamSettings(**(named | variables)), enrichment=enrichment)
        return Stream(clients, policy_for(stage, settings))

    return make


@pytest.fixture
def enrich(make_stream: MakeStream) -> Stream:
    return make_stream(Stage.ENRICH)


@pytest.fixture
def spawn(
    redis_settings: RedisSettings, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `python -m module args…` over this test's keys; killed with the test."""
    spawned: list[subprocess.Popen[bytes]] = []
    environment = os.environ | {
        "REDIS_URL": redis_settings.url,
        "EUNOE_REDIS_PREFIX": redis_settings.prefix,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def start(module: str, *args: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "spawned.log").open("ab") as output:
            process = started(
                [sys.executable, "-m", module, *args], env=environment, stdout=output, stderr=output
            )
        spawned.append(process)
        return process

    yield start
    for process in spawned:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=limit_s())


@pytest.fixture(scope="session")
def tenants() -> Iterator[str]:
    return iter(TENANTS)


@pytest.fixture
def tenant(tenants: Iterator[str]) -> str:
    """A tenant of a stack that no test has used before."""
    return next(tenants)


@pytest.fixture(autouse=True)
async def nothing_left_in_redis(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """For every test with keys: nothing is pending, only dead jobs and no other key are left."""
    if "redis_settings" not in request.fixturenames:
        yield
        return
    settings: RedisSettings = request.getfixturevalue("redis_settings")
    yield
    async with Redis.from_url(settings.url, decode_responses=True) as redis:
        found = await leaks(redis, settings.prefix)
        keys = [key async for key in redis.scan_iter(f"{settings.prefix}:*", count=1000)]
        if keys:
            await redis.unlink(*keys)
    if found and not request.node.get_closest_marker("leaves_work"):
        pytest.fail(f"{len(found)} things left in Redis: {'; '.join(found[:10])}")


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """Every task has an owner that waits for it."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    left.discard(asyncio.current_task())
    if left:
        pytest.fail(f"tasks left running: {sorted(task.get_name() for task in left)}")


@pytest.fixture(autouse=True)
def no_blocking_call() -> Iterator[None]:
    """A blocking call of ours in the event loop fails the test."""
    with blockbuster_ctx(["shared", "services"]):
        yield
