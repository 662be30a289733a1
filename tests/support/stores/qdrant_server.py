"""The embedded Qdrant server as a process that a test may start, kill and start again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import started
from tests.support.waiting.conditions import wait_for
from tests.support.waiting.pace import limit_s


class QdrantProcess:
    """One server over the data folder in `folder`; its port stays over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        self._starts += 1
        log = self._folder / f"qdrant-{self._starts}.log"
        command = [sys.executable, "-m", "shared.embedded.qdrant_server"]
        command += ["--port", str(self._port), "--data", str(self.data)]
        with log.open("wb") as output:
            process = self._process = started(command, stdout=output, stderr=output)

        def listening() -> bool:
            assert process.poll() is None, log.read_text()
            found = re.search(r"listening on (\S+)\s", log.read_text())
            self.url = found[1] if found else ""
            return bool(found)

        wait_for(listening, f"the vector server listens: {log}")
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=limit_s())

    @property
    def data(self) -> Path:
        return self._folder / "data"


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
        assert server.stop() == 0
