"""A stack's life: ready means ready, Ctrl-C drains, no process stays, nothing is pending."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.bench.notes import notes
from tests.chaos.conftest import StartStack
from tests.chaos.finished import finished
from tests.support.stack.stack import Stack, running
from tests.support.stores.redis_server import EmbeddedServer
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Its supervisor takes eight silent seconds for the end of a process."""
    folder = tmp_path_factory.mktemp("stack")
    async with running(folder, None, "--only", "enricher,syncer", "--silence", "8") as started:
        yield started
        assert await started.stop() == 0


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.long),
    ],
)
async def test_a_stop_in_the_middle_leaves_no_process_and_nothing_pending(
    start: StartStack, tmp_path: Path, number: signal.Signals
) -> None:
    stack = await start({"EUNOE_VISIBILITY_SECONDS": "600"})
    async with stack.client() as client:
        ids = await client.store_all(notes(300), connections=32, persistent=True)
    assert await stack.stop(number) == 0
    assert not (stack.folder / "stack.json").exists()
    assert "Traceback" not in stack.log_tail(lines=10_000)

    # The store alone, on what was left: all that is queued is free to be taken.
    server = EmbeddedServer(tmp_path, data=stack.folder / "redis")
    try:
        await server.start()
        async with Redis.from_url(server.settings.url, decode_responses=True) as redis:
            for stage in ("enrich", "embed", "relate"):
                key = f"eunoe:{{{stage}}}:jobs"
                for group in await redis.xinfo_groups(key) if await redis.exists(key) else []:
                    assert group["pending"] == 0, stage
    finally:
        await server.kill()

    workers = ("--only", "enricher,embedder,syncer")
    again = Stack(stack.folder, {"EUNOE_VISIBILITY_SECONDS": "600"}, *workers)
    try:
        await again.start()
        await finished(again, ids)
    finally:
        await again.destroy()


async def test_a_second_stack_on_the_same_folder_is_refused(stack: Stack) -> None:
    second = Stack(stack.folder)
    second.launch()
    assert second._supervisor is not None
    supervisor = second._supervisor
    await wait_until(lambda: supervisor.poll() is not None, "the second one ended")
    assert supervisor.returncode == 78
    assert all(each.alive for each in stack.processes())


@pytest.mark.long
async def test_nothing_outlives_a_supervisor_that_was_killed(start: StartStack) -> None:
    stack = await start()
    processes = stack.processes()
    stack.kill("supervisor")
    await wait_until(lambda: not any(each.alive for each in processes), "every process ended")
    again = Stack(stack.folder)
    try:
        await again.start()
    finally:
        await again.destroy()


async def test_a_role_that_dies_is_counted_and_replaced(stack: Stack) -> None:
    await stack.killed_and_back("syncer")
    port = stack.one("supervisor").ports["admin"]
    metrics_text = fetched(port, "/metrics")
    assert 'eunoe_process_restarts_total{process="syncer"} 1.0' in metrics_text


async def test_what_answers_nothing_is_killed_and_replaced(stack: Stack) -> None:
    """A frozen process never ends by itself; those that answer are left alone."""
    syncer = stack.one("syncer")
    await stack.killed_and_back("enricher", "qdrant", number=signal.SIGSTOP)
    restarts = fetched(stack.one("supervisor").ports["admin"], "/metrics")
    for role in ("enricher", "qdrant"):
        assert f'eunoe_process_restarts_total{{process="{role}"}}' in restarts
    assert "process.silent" in stack.logs()["supervisor"]
    assert stack.one("syncer").pid == syncer.pid


async def test_a_role_that_says_it_is_ready_is_ready(tmp_path: Path) -> None:
    """The first request after /readyz said yes is served."""
    stack = Stack(tmp_path / "own", None, "--only", "api")
    stack.launch()
    try:
        await wait_until(lambda: is_ready(stack, "api"), "the API says it is ready")
        async with stack.client() as client:
            assert (await client.store("the very first")).status == 201
    finally:
        await stack.destroy()


def fetched(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=limit_s()) as answer:
        return str(answer.read().decode())


def is_ready(stack: Stack, role: str) -> bool:
    try:
        return bool(fetched(stack.one(role).ports["admin"], "/readyz"))
    except (OSError, IndexError):
        return False


async def test_a_role_whose_schedules_are_disabled_stays_and_is_ready(start: StartStack) -> None:
    off = {"CONSOLIDATION_DECAY_INTERVAL_SECONDS": "0"}
    stack = await start(off, "--only", "consolidator")
    first = stack.one("consolidator")
    await stack.killed_and_back("redis")  # gives it the time to end, if that is what it does
    await wait_until(stack.ready, "it is ready again")
    assert stack.one("consolidator").pid == first.pid
