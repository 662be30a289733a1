"""A run of pytest that is interrupted leaves no server and no stack behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import started
from tests.support.stack.stack import REPOSITORY, is_alive
from tests.support.waiting.conditions import wait_until

# Starts one of each kind of process that tests start, and waits to be interrupted.
_TEST = """
import time
from pathlib import Path

from tests.support.stack.stack import Stack
from tests.support.stores.qdrant_server import QdrantProcess
from tests.support.stores.redis_server import RedisServer
from tests.support.waiting.conditions import wait_for

HERE = Path(__file__).parent


def test_that_waits() -> None:
    stack = Stack(HERE / "stack", None, "--only", "consolidator")
    stack.launch()
    redis, qdrant = RedisServer(HERE, graph=False), QdrantProcess(HERE)
    redis.start()
    qdrant.start()
    wait_for(stack.ready, "the stack is ready")
    pids = [redis._process.pid, qdrant._process.pid, *(each.pid for each in stack.processes())]
    (HERE / "made").write_text(" ".join(map(str, pids)))
    (HERE / "made").rename(HERE / "pids")
    time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_an_interrupted_run_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_waits.py").write_text(_TEST)
    pids = tmp_path / "pids"
    command = [sys.executable, "-m", "pytest", "-n", "1", "-p", "tests.conftest"]
    with (tmp_path / "log").open("wb") as log:
        run = started(
            [
                *command,
                "-c",
                str(REPOSITORY / "pyproject.toml"),
                "--rootdir",
                str(tmp_path),
                str(tmp_path),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=log,
            stderr=log,
        )

    def begun() -> bool:
        assert run.poll() is None, (tmp_path / "log").read_text()
        return pids.exists()

    await wait_until(begun, "the run has started its processes")
    children = [int(pid) for pid in pids.read_text().split()]
    assert len(children) >= 5
    assert all(is_alive(pid) for pid in children)
    run.send_signal(number)
    await wait_until(lambda: run.poll() is not None, "the run ended")
    await wait_until(lambda: not any(map(is_alive, children)), "every process ended")
