"""The API alone, as a real process over a test's own stores; killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.redis_server import free_port
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parent.parent
_START_TIMEOUT_S = 60.0


class ApiProcess:
    """`python -m services.api`; its port stays over restarts, and there is no Qdrant."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "api.log"
        self._environment = os.environ | {
            "PORT": str(self.port),
            "EUNOE_ADMIN_PORT": "0",
            "EUNOE_DRAIN_DELAY_SECONDS": "0",
            "EMBEDDING_PROVIDER": "placeholder",
            "QDRANT_URL": "http://127.0.0.1:1",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.api"],
                cwd=self._log.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        await wait_until(self._answers, f"the API answers; {self._log}", _START_TIMEOUT_S)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/health") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(timeout=20)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self._process.wait(timeout=30)


@asynccontextmanager
async def running_api(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[ApiProcess]:
    """A started API for the block's length."""
    api = ApiProcess(folder, environment)
    try:
        await api.start()
        yield api
    finally:
        api.stop()
