"""Real stores for tests: processes that a test may start, kill and start again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

_START_TIMEOUT_S = 30.0


class QdrantProcess:
    """The embedded Qdrant server over one data folder; its port stays over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        self._starts += 1
        log = self._folder / f"qdrant-{self._starts}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shared.embedded.qdrant_server", *self._arguments()],
                stdout=output,
                stderr=output,
            )
        self.url = _listening(log, self._process)
        self._port = int(self.url.rpartition(":")[2])

    def _arguments(self) -> list[str]:
        return ["--port", str(self._port), "--data", str(self._folder / "data")]

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=20)


@contextmanager
def running_qdrant(folder: Path) -> Iterator[str]:
    """The URL of a vector server: QDRANT_URL's, else an embedded one for the block's length."""
    if given := os.environ.get("QDRANT_URL"):
        yield given
        return
    server = QdrantProcess(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def _listening(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = monotonic() + _START_TIMEOUT_S
    while monotonic() < deadline:
        if found := re.search(r"listening on (\S+)", log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
    raise AssertionError(f"the server did not listen in time: {log.read_text()}")
