"""The whole product as its users run it: `python -m services` in a folder of its own.

Real processes, found through stack.json and ended by their pid.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.config import GraphSettings, RedisSettings, VectorSettings
from tests.support.processes import started
from tests.support.stack.client import Answer, Client, refused
from tests.support.stack.store_view import StoreView
from tests.support.stores.leaks import leaks
from tests.support.waiting.conditions import wait_until

__all__ = ["Answer", "Client", "Running", "Stack", "StoreView", "refused", "running"]

REPOSITORY = Path(__file__).parents[3]
ROLES = ("api", "enricher", "embedder", "consolidator", "syncer")
STORES = ("redis", "qdrant")
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
# Production's proportions at a fraction of its times.
QUICK: Mapping[str, str] = {
    "PORT": "0",
    "EUNOE_ADMIN_PORT": "0",
    "EUNOE_OUTBOX_DELAY_SECONDS": "2",
    # What a process holds or leads is its own even when it is frozen for seconds.
    "EUNOE_VISIBILITY_SECONDS": "6",
    "EUNOE_LEASE_TTL_SECONDS": "6",
    "EUNOE_LEASE_RENEW_DEADLINE_SECONDS": "4",
    "EUNOE_LEASE_RETRY_SECONDS": "1",
    # A query that is slow on a busy machine is no failure.
    "EUNOE_GRAPH_TIMEOUT_SECONDS": "60",
    "EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS": "50",
    # A published job wakes its consumer, so only what is delayed or lost waits for these. A
    # relay that visited every tenant each second would keep a core busy.
    "EUNOE_BLOCK_SECONDS": "1",
    "EUNOE_PROMOTE_SECONDS": "0.2",
    "EUNOE_RELAY_SECONDS": "0.5",
    "EUNOE_RELAY_ALL_SECONDS": "300",
    "EUNOE_JANITOR_SECONDS": "10",
    "ENRICHMENT_FAILURE_BACKOFF_SECONDS": "0.2",
    "EUNOE_EMBED_BACKOFF_SECONDS": "0.2",
    "EUNOE_EMBED_BACKOFF_MAX_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Running:
    """One process as stack.json tells it."""

    role: str
    pid: int
    ports: Mapping[str, int]
    log: Path

    def signal_if_there(self, number: signal.Signals) -> None:
        """Send it; a process that has ended meanwhile, as a killed one does, needs none."""
        with suppress(ProcessLookupError):
            self.signal(number)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        return is_alive(self.pid)


class Stack:
    """The supervisor and its processes over one folder; the same folder starts again."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, *arguments: str
    ) -> None:
        self.folder = folder
        self._environment = {**QUICK, **(environment or {})}
        self._arguments = arguments
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    # -- its processes ------------------------------------------------------------------

    async def start(self) -> Self:
        self.launch()
        try:
            await wait_until(self.serving, "the stack is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        self._ports = {each.role: port_of(each) for each in self.processes() if each.ports}
        return self

    def launch(self) -> None:
        """Start the supervisor, and return before anything else has started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        search = {"PYTHONPATH": str(REPOSITORY), "EUNOE_DATA_DIR": str(self.folder)}
        with (self.folder / "supervisor.log").open("ab") as output:
            self._supervisor = started(
                # Tests stop processes for longer than the supervisor would wait for them.
                [sys.executable, "-m", "services", "--silence", "600", *self._arguments],
                cwd=self.folder,
                env=kept | self._environment | search,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Every role that was asked for answers /readyz."""
        assert self._supervisor is not None
        assert self._supervisor.poll() is None, f"the supervisor ended:\n{self.log_tail()}"
        found = self.processes()
        roles = self._wanted_roles()
        if not {*roles, *STORES} <= {each.role for each in found}:
            return False
        return all(_is_ready(each.ports["admin"]) for each in found if each.role in roles)

    def serving(self) -> bool:
        """Ready, and the API's port is open."""
        return self.ready() and all(_listens(each.ports["http"]) for each in self.processes("api"))

    def _wanted_roles(self) -> tuple[str, ...]:
        if "--only" not in self._arguments:
            return ROLES
        return tuple(self._arguments[self._arguments.index("--only") + 1].split(","))

    def processes(self, role: str | None = None) -> list[Running]:
        """Those of `role`, else all, that have a pid; none before stack.json exists."""
        try:
            entries = json.loads((self.folder / "stack.json").read_text())["processes"]
        except FileNotFoundError:
            return []
        return [
            Running(each["role"], each["pid"], each["ports"], Path(each["log"]))
            for each in entries
            if each["pid"] and role in (None, each["role"])
        ]

    def one(self, role: str) -> Running:
        return self.processes(role)[0]

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> Running:
        """Send `number` to the first process of `role`; which one it was."""
        found = self.one(role)
        found.signal(number)
        return found

    async def killed_and_back(self, *roles: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal one process of each role and wait until the supervisor replaced them."""
        await self.back([self.kill(role, number) for role in roles])

    async def back(self, gone: Sequence[Running]) -> None:
        """Wait until the supervisor has replaced the processes."""
        roles = [each.role for each in gone]
        await wait_until(lambda: all(self._replaced(each) for each in gone), f"{roles} are back")

    def _replaced(self, gone: Running) -> bool:
        """Whether another process answers on the port of the one that is gone."""
        found = self.processes(gone.role)
        return (
            bool(found)
            and gone.pid not in {each.pid for each in found}
            and all(_listens(port_of(each)) for each in found)
        )

    @asynccontextmanager
    async def frozen(self, *roles: str) -> AsyncIterator[list[Running]]:
        """SIGSTOP all processes of the roles for the block's length."""
        stopped = [each for role in roles for each in self.processes(role)]
        for each in stopped:
            each.signal(signal.SIGSTOP)
        try:
            yield stopped
        finally:
            for each in stopped:
                each.signal_if_there(signal.SIGCONT)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor; its exit code, once none of its processes is left."""
        assert self._supervisor is not None
        left = self.processes()
        self._supervisor.send_signal(number)
        supervisor = self._supervisor
        await wait_until(lambda: supervisor.poll() is not None, "the supervisor ended")
        remaining = [f"{each.role} ({each.pid})" for each in left if each.alive]
        assert not remaining, f"left running: {remaining}\n{self.log_tail()}"
        code = supervisor.returncode
        self._supervisor = None
        return int(code)

    async def destroy(self) -> None:
        """Stop the stack, and kill the processes that do not end."""
        if self._supervisor is None:
            return
        left = self.processes()
        for each in left:
            each.signal_if_there(signal.SIGCONT)
        try:
            await self.stop()
        finally:
            for each in left:
                each.signal_if_there(signal.SIGKILL)

    def logs(self) -> dict[str, str]:
        """What every process wrote, by the log's name."""
        paths = [*(self.folder / "logs").glob("*.log"), self.folder / "supervisor.log"]
        return {path.stem: path.read_text(errors="replace") for path in paths if path.exists()}

    def log_tail(self, lines: int = 15) -> str:
        """The end of every log, for the message of a failure."""
        return "\n".join(
            f"--- {name}\n" + "\n".join(text.splitlines()[-lines:])
            for name, text in sorted(self.logs().items())
        )

    # -- where it is --------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.one('api').ports['http']}"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self._ports['redis']}/0"

    @property
    def qdrant_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['qdrant']}"

    def client(self, token: str | None = None, tenant: str | None = None) -> Client:
        return Client(self, token=token, tenant=tenant)

    def store_settings(self) -> tuple[RedisSettings, GraphSettings, VectorSettings]:
        """Settings for using the stack's stores in this process, with time for a busy machine."""
        url, patience_s = self.redis_url, 60
        return (
            RedisSettings(REDIS_URL=url, EUNOE_REDIS_TIMEOUT_SECONDS=patience_s),
            GraphSettings(
                FALKORDB_URL=url,
                EUNOE_GRAPH_TIMEOUT_SECONDS=patience_s,
                EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS=patience_s - 10,
            ),
            VectorSettings(
                _env_file=None, QDRANT_URL=self.qdrant_url, QDRANT_TIMEOUT_SECONDS=patience_s
            ),
        )

    def stores(self, tenant: str = "default") -> StoreView:
        return StoreView(self, tenant)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def port_of(process: Running) -> int:
    return next(process.ports[name] for name in ("redis", "http", "admin") if name in process.ports)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def write_tokens(file: Path, tokens: Mapping[str, Sequence[str]]) -> Path:
    """A token file that grants each token its tenants."""
    entries = [
        {
            "digest": hashlib.sha256(token.encode()).hexdigest(),
            "name": f"token-{number}",
            "tenants": list(tenants),
        }
        for number, (token, tenants) in enumerate(tokens.items())
    ]
    file.write_text(json.dumps(entries))
    return file


@asynccontextmanager
async def running(
    folder: Path, environment: Mapping[str, str] | None = None, *arguments: str
) -> AsyncIterator[Stack]:
    """A started stack for the block's length; whatever happens, nothing of it stays."""
    stack = Stack(folder, environment, *arguments)
    try:
        yield await stack.start()
    finally:
        await stack.destroy()


async def quiet(stack: Stack) -> None:
    """Nothing is pending or queued, the ledgers hold only dead jobs, and no other key is left."""
    last: list[str] = []

    async def clean() -> bool:
        async with stack.stores().redis() as redis:
            last[:] = await leaks(redis, "eunoe")
        return not last

    try:
        await wait_until(clean, "the streams are empty")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}\n{stack.log_tail()}") from None
