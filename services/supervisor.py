"""The supervisor: starts, watches, restarts and stops the processes of one stack.

It holds no memory and no job; everything it knows is in stack.json, which it rewrites
whenever a process starts. Children live in sessions of their own, so that a Ctrl-C in the
terminal reaches only the supervisor, which stops them in order; the kernel ends them with
SIGTERM should the supervisor itself be killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from shared.config import ROLES, Settings
from shared.embedded import stores
from shared.process.admin_server import make_admin_app, serve
from shared.process.health import Health
from shared.process.lifecycle import EX_CONFIG
from shared.telemetry import log, metrics
from shared.waiting import backoff_s, wait

_log = log.get_logger(__name__)
_STEADY_AFTER_S = 60.0
# Only tries that were made count, so no process is killed because the machine slept. A process
# that never answered is still starting, so it gets more tries.
_SILENT_TRIES = 6
_SILENT_TRIES_AT_START = 60
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_GOOD = (b"HTTP/1.1 200", b"+PONG")
_STORES = ("qdrant", "redis")


class StackBusy(Exception):
    """Another stack uses this data folder, a port is in use, or the folder is not writable."""


@dataclass(slots=True)
class Child:
    """One supervised role; `ports` are fixed for its life, restarts included."""

    role: str
    argv: Sequence[str]
    ports: dict[str, int]
    log: Path
    stop_s: float = 30.0
    env: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    started: float = 0.0
    has_answered: bool = False
    unanswered: int = 0  # tries in a row

    def entry(self) -> dict[str, object]:
        """Return the entry of stack.json for this process."""
        pid = self.process.pid if self.process else None
        return {"role": self.role, "pid": pid, "ports": self.ports, "log": str(self.log)}

    async def ready(self) -> bool:
        """Return whether it serves; a Redis that still loads its data answers an error."""
        return (await self._ask(b"/readyz", 1.0)).startswith(_GOOD)

    async def alive(self, limit_s: float) -> bool:
        """Return whether a role's /livez answers 200, or a store answers, within `limit_s`."""
        reply = await self._ask(b"/livez", limit_s)
        return bool(reply) if self.role in _STORES else reply.startswith(_GOOD)

    async def _ask(self, path: bytes, limit_s: float) -> bytes:
        """Return the first bytes of its answer (of Redis to PING); empty if none comes in time."""
        port = next(iter(self.ports.values()))
        try:
            async with asyncio.timeout(limit_s):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(b"PING\r\n" if self.role == "redis" else _GET % path)
                    return await reader.read(64)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""

    async def stop(self) -> None:
        """End it with SIGTERM, after `stop_s` with SIGKILL."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(self.stop_s):
                await process.wait()
        except TimeoutError:
            _log.warning("process.killed", process=self.role, after_s=self.stop_s)
            process.kill()
            await process.wait()


class Stack:
    """The stores and the roles of one data folder, started, kept running, stopped.

    A process that answers nothing for `silence_limit_s` is killed and started again.
    """

    def __init__(
        self, settings: Settings, counts: dict[str, int], *, silence_limit_s: float
    ) -> None:
        self._settings = settings
        self._dir = settings.process.data_dir.resolve()
        self._counts = counts
        self._try_s = silence_limit_s / _SILENT_TRIES
        self._stopping = asyncio.Event()
        self._ports: set[int] = set()
        self._children: list[Child] = []
        self._lock: IO[str] | None = None
        self._refused = False
        self._own_port = 0
        self._api_port = 0

    async def run(self) -> int:
        """Start everything, print where it is, and return when it has stopped."""
        self._claim_folder()
        # Claimed before anything starts, so that a taken port is reported in one line.
        wanted = self._settings.api.port
        self._api_port = self._port(wanted)
        if wanted not in (0, self._api_port):
            raise StackBusy(
                f"PORT: {self._settings.process.host}:{wanted} is in use or cannot be bound"
            )
        log.configure(self._settings.process.log_level, role="supervisor")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        began = time.monotonic()
        self._own_port = self._port()
        admin = await serve(
            make_admin_app(Health("supervisor")), "127.0.0.1", self._own_port, grace_s=1.0
        )
        try:
            async with asyncio.TaskGroup() as watchers:
                await self._bring_up(watchers, self._store_children())
                await self._bring_up(watchers, self._role_children())
                if not self._stopping.is_set():
                    self._print_ready(time.monotonic() - began)
                await self._stopping.wait()
                # The API first (nothing new comes in), then the workers, the stores last.
                for group in (("api",), ROLES[1:], _STORES):
                    members = [child for child in self._children if child.role in group]
                    await asyncio.gather(*(child.stop() for child in members))
        finally:
            await admin.cleanup()
            (self._dir / "stack.json").unlink(missing_ok=True)
        return EX_CONFIG if self._refused else 0

    def _claim_folder(self) -> None:
        try:
            (self._dir / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (self._dir / "lock").open("w")
        except OSError as error:
            raise StackBusy(f"EUNOE_DATA_DIR: cannot write {self._dir}: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StackBusy(f"another stack runs on {self._dir} (EUNOE_DATA_DIR)") from error

    def _port(self, wanted: int = 0) -> int:
        """Claim a port of EUNOE_HOST: `wanted` where it is free and not claimed, else any."""
        host = self._settings.process.host
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, wanted))
                port = int(probe.getsockname()[1])
        except OSError as error:
            if wanted == 0:
                raise StackBusy(f"EUNOE_HOST: no port on {host}") from error
            return self._port()
        if port in self._ports:
            return self._port()
        self._ports.add(port)
        return port

    def _store_children(self) -> list[Child]:
        """Describe the embedded stores whose address the environment does not name."""
        settings, children, logs = self._settings, [], self._dir / "logs"
        if settings.redis.url_given is None and settings.graph.url_given is None:
            port = self._port()
            argv = stores.redis_argv(settings.graph, port=port, data_dir=self._dir / "redis")
            children.append(Child("redis", argv, {"redis": port}, logs / "redis.log"))
        if settings.vectors.url_given is None:
            port = self._port()
            argv = [sys.executable, "-m", "shared.embedded.qdrant_server", "--host", "127.0.0.1"]
            argv += ["--port", str(port), "--data", str(self._dir / "qdrant")]
            children.append(Child("qdrant", argv, {"http": port}, logs / "qdrant.log"))
        return children

    def _role_children(self) -> list[Child]:
        env: dict[str, str] = {}
        for child in self._children:
            if child.role == "redis":
                url = f"redis://127.0.0.1:{child.ports['redis']}"
                env |= {"REDIS_URL": f"{url}/0", "FALKORDB_URL": url}
            else:
                env["QDRANT_URL"] = f"http://127.0.0.1:{child.ports['http']}"
        # Nothing routes to this machine, so there is no balancer to wait for.
        env["EUNOE_DRAIN_DELAY_SECONDS"] = os.environ.get("EUNOE_DRAIN_DELAY_SECONDS", "0")
        return [
            self._role_child(role, number, env)
            for role, count in self._counts.items()
            for number in range(1, count + 1)
        ]

    def _role_child(self, role: str, number: int, env: dict[str, str]) -> Child:
        first = self._settings.process.admin_port
        wanted = first + ROLES.index(role) if first else self._settings.admin_port(role)
        ports = {"admin": self._port(wanted if number == 1 else 0)}
        env = env | {"EUNOE_ADMIN_PORT": str(ports["admin"])}
        if role == "api":
            ports["http"] = self._api_port
            env["PORT"] = str(self._api_port)
        process, name = self._settings.process, role if number == 1 else f"{role}-{number}"
        stop_s = process.drain_delay_s + process.drain_timeout_s + 10
        argv = [sys.executable, "-m", f"services.{role}"]
        return Child(role, argv, ports, self._dir / "logs" / f"{name}.log", stop_s, env)

    async def _bring_up(self, watchers: asyncio.TaskGroup, children: list[Child]) -> None:
        """Start `children` together and wait, however long it takes, until each is ready."""
        self._children += children
        for child in children:
            await self._spawn(child)
            watchers.create_task(self._restart_ended(child), name=f"watch-{child.role}")
            watchers.create_task(self._kill_silent(child), name=f"probe-{child.role}")
        while not self._stopping.is_set():
            if all([await child.ready() for child in children]):
                return
            await wait(self._stopping, 0.05)

    async def _spawn(self, child: Child) -> None:
        with child.log.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                *child.argv,
                env=os.environ | child.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        child.started = time.monotonic()
        child.has_answered, child.unanswered = False, 0
        self._write_stack_file()

    def _write_stack_file(self) -> None:
        ports = {"admin": self._own_port}
        own = {"role": "supervisor", "pid": os.getpid(), "ports": ports, "log": ""}
        entries = [own, *(child.entry() for child in self._children)]
        fresh = self._dir / "stack.new"
        fresh.write_text(json.dumps({"processes": entries}, indent=1))
        fresh.replace(self._dir / "stack.json")

    async def _restart_ended(self, child: Child) -> None:
        """Restart `child` whenever it ends; the pause doubles after each run of under a minute."""
        short_lives = 0
        while True:
            code = await child.process.wait() if child.process else None
            if self._stopping.is_set():
                return
            if code == EX_CONFIG:
                self._refuse(child)
                return
            lasted_s = time.monotonic() - child.started
            short_lives = 1 if lasted_s > _STEADY_AFTER_S else short_lives + 1
            metrics.PROCESS_RESTARTS.labels(process=child.role).inc()
            _log.warning("process.died", process=child.role, code=code, lasted_s=round(lasted_s, 1))
            if await wait(self._stopping, backoff_s(short_lives, first_s=0.2, longest_s=30.0)):
                return
            await self._spawn(child)
            if self._stopping.is_set():  # the stop may have looked at the ended process
                await child.stop()
                return

    async def _kill_silent(self, child: Child) -> None:
        """Kill `child` after so many unanswered tries in a row; it is then restarted."""
        while True:
            next_try_at = time.monotonic() + self._try_s
            if await child.alive(self._try_s):
                child.has_answered, child.unanswered = True, 0
            else:
                child.unanswered += 1
            limit = _SILENT_TRIES if child.has_answered else _SILENT_TRIES_AT_START
            if self._stopping.is_set():
                return
            if child.unanswered >= limit and child.process and child.process.returncode is None:
                _log.warning("process.silent", process=child.role, tries=child.unanswered)
                child.process.kill()
                child.unanswered = 0
            if await wait(self._stopping, next_try_at - time.monotonic()):
                return

    def _refuse(self, child: Child) -> None:
        """Stop the stack: a restart would refuse the same settings again."""
        last = child.log.read_text(errors="replace").strip().rpartition("\n")[2]
        print(f"eunoe: {child.role} refused its settings: {last}", file=sys.stderr, flush=True)
        self._refused = True
        self._stopping.set()

    def _print_ready(self, seconds: float) -> None:
        print(f"\nEunoe is ready ({seconds:.1f} s). Data and logs: {self._dir}")
        if "api" in self._counts:
            address = f"http://127.0.0.1:{self._api_port}"
            print(f"  API  {address}")
            print(
                f"  try  curl -s {address}/memory -H 'Content-Type: application/json'"
                """ -d '{"content": "Ada prefers window seats", "tags": ["travel"]}'"""
            )
        print("Ctrl-C stops everything.", flush=True)


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
