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
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from shared.config import ADMIN_PORTS, Settings
from shared.embedded import stores
from shared.process.admin_server import make_admin_app, serve
from shared.process.health import Health
from shared.process.lifecycle import EX_CONFIG
from shared.telemetry import log, metrics
from shared.waiting import wait

_log = log.get_logger(__name__)
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 30.0
_STEADY_AFTER_S = 60.0
_STORE_STOP_S = 30.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class StackBusy(Exception):
    """Another stack runs on this data folder."""


@dataclass(slots=True)
class Child:
    """One supervised process; `ports` are fixed for its life, restarts included."""

    role: str
    argv: Sequence[str]
    env: dict[str, str]
    ports: dict[str, int]
    log: Path
    ready: Callable[[], bool]
    stop_s: float
    process: asyncio.subprocess.Process | None = None
    started: float = field(default=0.0)

    def entry(self) -> dict[str, object]:
        pid = self.process.pid if self.process else None
        return {"role": self.role, "pid": pid, "ports": self.ports, "log": str(self.log)}


class Stack:
    """The stores and the roles of one data folder, started, kept running, stopped."""

    def __init__(self, settings: Settings, counts: dict[str, int]) -> None:
        self._settings = settings
        self._dir = settings.process.data_dir.resolve()
        self._counts = counts
        self._stopping = asyncio.Event()
        self._ports: set[int] = set()
        self._children: list[Child] = []
        self._lock: IO[str] | None = None
        self._refused = False
        self._own_port = 0
        self._api_port = 0

    async def run(self) -> int:
        """Start everything, print where it is, and stay until told to stop."""
        self._claim_folder()
        # Claimed before anything starts, so that a taken port is told in one line.
        self._api_port = self._port("api", self._settings.api.port)
        log.configure(self._settings.process.log_level, role="supervisor")
        self._install_signals()
        began = time.monotonic()
        self._own_port = self._port("admin")
        admin = await serve(
            make_admin_app(Health("supervisor")), "127.0.0.1", self._own_port, grace_s=1.0
        )
        try:
            async with asyncio.TaskGroup() as watchers:
                await self._bring_up(watchers, self._store_children())
                await self._bring_up(watchers, self._role_children())
                if not self._stopping.is_set():
                    self._say_ready(time.monotonic() - began)
                await self._stopping.wait()
                await self._stop_in_order()
        finally:
            await admin.cleanup()
            (self._dir / "stack.json").unlink(missing_ok=True)
        return EX_CONFIG if self._refused else 0

    # -- starting ---------------------------------------------------------------------

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

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)

    def _port(self, what: str, wanted: int = 0) -> int:
        """A loopback port for `what`: `wanted` where it is free and ours, else any."""
        for port in (wanted, 0):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self._settings.process.host, port))
                except OSError:
                    if what == "api":
                        raise StackBusy(
                            f"PORT: {self._settings.process.host}:{port} cannot be had"
                        ) from None
                    if port == 0:
                        raise StackBusy(
                            f"EUNOE_HOST: no port on {self._settings.process.host}"
                        ) from None
                    continue
                found = int(probe.getsockname()[1])
            if found not in self._ports:
                self._ports.add(found)
                return found
        return self._port(what)

    def _store_children(self) -> list[Child]:
        """The embedded stores; one whose address the environment names is not started."""
        settings, found = self._settings, []
        if settings.redis.url_given is None and settings.graph.url_given is None:
            port = self._port("redis")
            folder = self._folder("redis")
            found.append(
                self._child(
                    "redis",
                    stores.redis_argv(settings.graph, port=port, data_dir=folder),
                    {"redis": port},
                    ready=partial(_redis_answers, port),
                )
            )
        if settings.vectors.url_given is None:
            port = self._port("qdrant")
            argv = [sys.executable, "-m", "shared.embedded.qdrant_server"]
            argv += [
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--data",
                str(self._folder("qdrant")),
            ]
            found.append(
                self._child(
                    "qdrant", argv, {"http": port}, ready=partial(_answers, port, "/readyz")
                )
            )
        return found

    def _folder(self, name: str) -> Path:
        folder = self._dir / name
        folder.mkdir(exist_ok=True)
        return folder

    def _role_children(self) -> list[Child]:
        store_env = self._store_env()
        return [
            self._role_child(role, number, store_env)
            for role, count in self._counts.items()
            for number in range(1, count + 1)
        ]

    def _store_env(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for child in self._children:
            if child.role == "redis":
                url = f"redis://127.0.0.1:{child.ports['redis']}"
                found |= {"REDIS_URL": f"{url}/0", "FALKORDB_URL": url}
            if child.role == "qdrant":
                found["QDRANT_URL"] = f"http://127.0.0.1:{child.ports['http']}"
        return found

    def _role_child(self, role: str, number: int, store_env: dict[str, str]) -> Child:
        wanted = self._admin_port(role) if number == 1 else 0
        ports = {"admin": self._port("admin", wanted)}
        env = store_env | {"EUNOE_ADMIN_PORT": str(ports["admin"])}
        # Nothing routes to this machine, so there is no balancer to wait for.
        env.setdefault(
            "EUNOE_DRAIN_DELAY_SECONDS", os.environ.get("EUNOE_DRAIN_DELAY_SECONDS", "0")
        )
        if role == "api":
            ports["http"] = self._api_port
            env["PORT"] = str(ports["http"])
        name = role if number == 1 else f"{role}-{number}"
        return self._child(
            role,
            [sys.executable, "-m", f"services.{role}"],
            ports,
            env=env,
            name=name,
            ready=partial(_answers, ports["admin"], "/readyz"),
        )

    def _admin_port(self, role: str) -> int:
        given = self._settings.process.admin_port
        if given is None:
            return ADMIN_PORTS[role]
        return given + list(ADMIN_PORTS).index(role) if given else 0

    def _child(
        self,
        role: str,
        argv: Sequence[str],
        ports: dict[str, int],
        *,
        ready: Callable[[], bool],
        env: dict[str, str] | None = None,
        name: str | None = None,
    ) -> Child:
        drain = self._settings.process
        stop_s = _STORE_STOP_S if env is None else drain.drain_delay_s + drain.drain_timeout_s + 10
        child = Child(
            role=role,
            argv=argv,
            env=env or {},
            ports=ports,
            log=self._dir / "logs" / f"{name or role}.log",
            ready=ready,
            stop_s=stop_s,
        )
        self._children.append(child)
        return child

    async def _bring_up(self, watchers: asyncio.TaskGroup, children: list[Child]) -> None:
        """Start `children` together and wait until each is ready; fails nobody who is slow."""
        for child in children:
            await self._spawn(child)
            watchers.create_task(self._watch(child), name=f"watch-{child.role}")
        while not self._stopping.is_set():
            if all([await asyncio.to_thread(child.ready) for child in children]):
                return
            await wait(self._stopping, 0.05)

    async def _spawn(self, child: Child) -> None:
        with child.log.open("ab") as out:
            child.process = await asyncio.create_subprocess_exec(
                *child.argv,
                env=os.environ | child.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        child.started = time.monotonic()
        self._write_stack_file()

    def _write_stack_file(self) -> None:
        path = self._dir / "stack.json"
        fresh = path.with_suffix(".new")
        own = {
            "role": "supervisor",
            "pid": os.getpid(),
            "ports": {"admin": self._own_port},
            "log": "",
        }
        entries = [own, *(child.entry() for child in self._children)]
        fresh.write_text(json.dumps({"processes": entries}, indent=1))
        fresh.replace(path)

    # -- watching ---------------------------------------------------------------------

    async def _watch(self, child: Child) -> None:
        """Restart `child` whenever it ends, with doubling waits while it does not last."""
        delay_s = _FIRST_WAIT_S
        while True:
            code = await child.process.wait() if child.process else None
            if self._stopping.is_set():
                return
            if code == EX_CONFIG:
                self._refuse(child)
                return
            lasted_s = time.monotonic() - child.started
            delay_s = _FIRST_WAIT_S if lasted_s > _STEADY_AFTER_S else delay_s
            metrics.PROCESS_RESTARTS.labels(process=child.role).inc()
            _log.warning("process.died", process=child.role, code=code, lasted_s=round(lasted_s, 1))
            if await wait(self._stopping, delay_s):
                return
            delay_s = min(_LONGEST_WAIT_S, delay_s * 2)
            await self._spawn(child)
            if self._stopping.is_set():  # the stop may have looked at the dead process
                await _stop(child)
                return

    def _refuse(self, child: Child) -> None:
        """Settings that one role cannot serve are the stack's: starting again mends nothing."""
        last = child.log.read_text(errors="replace").strip().rpartition("\n")[2]
        print(f"eunoe: {child.role} refused its settings: {last}", file=sys.stderr, flush=True)
        self._refused = True
        self._stopping.set()

    # -- stopping ---------------------------------------------------------------------

    async def _stop_in_order(self) -> None:
        """The API first (nothing new comes in), then the workers, the stores last."""
        workers = ("enricher", "embedder", "consolidator", "syncer")
        for group in (("api",), workers, ("qdrant", "redis")):
            members = [child for child in self._children if child.role in group]
            await asyncio.gather(*(_stop(child) for child in members))

    def _say_ready(self, seconds: float) -> None:
        api = next((child for child in self._children if child.role == "api"), None)
        print(f"\nEunoe is ready ({seconds:.1f} s). Data and logs: {self._dir}")
        if api is not None:
            address = f"http://127.0.0.1:{api.ports['http']}"
            print(f"  API  {address}")
            print(
                f"  try  curl -s {address}/memory -H 'Content-Type: application/json'"
                """ -d '{"content": "Ada prefers window seats", "tags": ["travel"]}'"""
            )
        print("Ctrl-C stops everything.", flush=True)


async def _stop(child: Child) -> None:
    process = child.process
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(child.stop_s):
            await process.wait()
    except TimeoutError:
        _log.warning("process.killed", process=child.role, after_s=child.stop_s)
        process.kill()
        await process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _redis_answers(port: int) -> bool:
    """Whether the server has loaded its data: a loading one answers PING with -LOADING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
            return int(answer.status) == 200
    except (OSError, urllib.error.URLError):
        return False
