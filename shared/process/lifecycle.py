"""One role as a process: settings, logs, signals, admin server, body, drain, exit code.

The first SIGTERM or SIGINT makes it not ready and sets `stopping`; the body drains and returns.
A second one ends the process at once with 1. The admin server stops last, so that draining can
be watched. Exit codes: 0 drained, 1 crashed or interrupted twice, 78 settings refused.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from shared import __version__, config
from shared.config import Settings
from shared.errors import ConfigError, Unavailable
from shared.process.admin_server import make_admin_app, probe_self, serve
from shared.process.health import Health, Probes
from shared.telemetry import log, metrics
from shared.waiting import backoff_s, wait

EX_CONFIG = 78
_T = TypeVar("_T")
_log = log.get_logger(__name__)


class Process:
    """What a role's body gets: its settings, its health, and the event that ends it."""

    def __init__(self, role: str, settings: Settings) -> None:
        self.role = role
        self.settings = settings
        self.stopping = asyncio.Event()
        # Set by the body once all its checks are named and it serves: not ready before.
        self.started = asyncio.Event()
        self.health = Health(role)
        self.health.alive["loop"] = lambda: True
        self.health.ready["started"] = self.started.is_set
        self.health.ready["not_draining"] = lambda: not self.stopping.is_set()

    def begin(self) -> None:
        """Report ready, and exempt what exists by now from garbage collection.

        Modules and models are half a million objects: each full collection visited them all
        and stopped the process for 80 ms.
        """
        gc.collect()
        gc.freeze()
        self.started.set()

    async def until_open(self, what: str, open_it: Callable[[], Awaitable[_T]]) -> _T:
        """Call `open_it` until its store answers; a process may start before its stores.

        Raises: asyncio.CancelledError when the process is stopped meanwhile.
        """
        for failures in itertools.count(1):
            try:
                return await open_it()
            except Unavailable as error:
                _log.warning("store.awaited", store=what, error=str(error))
            if await wait(self.stopping, backoff_s(failures, first_s=0.1, longest_s=2.0)):
                break
        raise asyncio.CancelledError

    def probe(self, probes: Probes, *needed: str) -> None:
        """Make readiness depend on the last probe of each needed dependency."""
        for name in needed:
            self.health.ready[name] = partial(probes.up, name)


Body = Callable[[Process], Awaitable[None]]


def main(role: str, body: Body) -> None:
    """Run `python -m services.<role>`; `--health` only asks the running one for /readyz."""
    try:
        settings = config.load()
    except ConfigError as error:
        sys.stderr.write(f"eunoe {role}: {error}\n")
        sys.exit(EX_CONFIG)
    if "--health" in sys.argv[1:]:
        sys.exit(probe_self(settings.admin_port(role)))
    log.configure(settings.process.log_level, role=role)
    python = platform.python_version()
    metrics.BUILD_INFO.labels(version=__version__, role=role, python=python).set(1)
    sys.exit(run(role, settings, body))


def run(role: str, settings: Settings, body: Body) -> int:
    import uvloop

    try:
        return uvloop.run(_run(Process(role, settings), body))
    except* ConfigError as refused:
        _log.error("settings.refused", error="; ".join(map(str, refused.exceptions)))
    return EX_CONFIG


async def _run(process: Process, body: Body) -> int:
    _install_signals(process.stopping)
    host, port = process.settings.process.host, process.settings.admin_port(process.role)
    admin = await serve(make_admin_app(process.health), host, port, grace_s=1.0)
    _log.info("process.started", pid=os.getpid())
    try:
        await body(process)
    except asyncio.CancelledError:
        if not process.stopping.is_set():
            raise
    finally:
        await admin.cleanup()
    _log.info("process.stopped")
    return 0


def _install_signals(stopping: asyncio.Event) -> None:
    def on_signal() -> None:
        if stopping.is_set():
            os._exit(1)  # the second signal: its sender does not want to wait
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
