"""The whole product as its users run it: `python -m services` in a folder of its own.

Real processes, found through stack.json and ended by their pid. What the stores hold is
read past the product, so that a test never believes the code it tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from qdrant_client import AsyncQdrantClient, models
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.waiting import wait_until

REPOSITORY = Path(__file__).parent.parent
ROLES = ("api", "enricher", "embedder", "consolidator", "syncer")
STORES = ("redis", "qdrant")
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
# Production's proportions at a fraction of its times.
QUICK: Mapping[str, str] = {
    "PORT": "0",
    "EUNOE_ADMIN_PORT": "0",
    "EUNOE_OUTBOX_DELAY_SECONDS": "2",
    "EUNOE_VISIBILITY_SECONDS": "2",
    "EUNOE_BLOCK_SECONDS": "0.2",
    "EUNOE_PROMOTE_SECONDS": "0.1",
    "EUNOE_RELAY_SECONDS": "0.2",
    "EUNOE_RELAY_ALL_SECONDS": "2",
    "EUNOE_JANITOR_SECONDS": "2",
    "EUNOE_LEASE_TTL_SECONDS": "3",
    "EUNOE_LEASE_RENEW_DEADLINE_SECONDS": "2",
    "EUNOE_LEASE_RETRY_SECONDS": "0.5",
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

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        """Whether the process exists and is no zombie."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `body` is None where it was not JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]
    text: str = ""
    seconds: float = 0.0


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
            await wait_until(self.serving, "the stack is ready", _START_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None
        self._ports = {each.role: port_of(each) for each in self.processes() if each.ports}
        return self

    def launch(self) -> None:
        """Start the supervisor, and return before anything else has started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        search = {"PYTHONPATH": str(REPOSITORY), "EUNOE_DATA_DIR": str(self.folder)}
        with (self.folder / "supervisor.log").open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "services", *self._arguments],
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
        assert self._supervisor.poll() is None, f"the supervisor ended:\n{self.told()}"
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

    async def killed_and_back(self, *roles: str, timeout_s: float = 30.0) -> None:
        """SIGKILL one process of each role and wait until the supervisor replaced them."""
        gone = [self.kill(role) for role in roles]
        await wait_until(
            lambda: all(self._replaced(each) for each in gone), f"{roles} are back", timeout_s
        )

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
                if each.alive:
                    each.signal(signal.SIGCONT)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor; its exit code, once none of its processes is left."""
        assert self._supervisor is not None
        left = self.processes()
        self._supervisor.send_signal(number)
        supervisor = self._supervisor
        await wait_until(
            lambda: supervisor.poll() is not None, "the supervisor ended", _STOP_TIMEOUT_S
        )
        remaining = [f"{each.role} ({each.pid})" for each in left if each.alive]
        assert not remaining, f"left running: {remaining}\n{self.told()}"
        code = supervisor.returncode
        self._supervisor = None
        return int(code)

    async def destroy(self) -> None:
        """Stop it, or end by force what is left of it."""
        if self._supervisor is None:
            return
        left = self.processes()
        for each in left:
            if each.alive:
                each.signal(signal.SIGCONT)
        try:
            await self.stop()
        finally:
            for each in left:
                if each.alive:
                    each.signal(signal.SIGKILL)

    def logs(self) -> dict[str, str]:
        """What every process wrote, by the log's name."""
        paths = [*(self.folder / "logs").glob("*.log"), self.folder / "supervisor.log"]
        return {path.stem: path.read_text(errors="replace") for path in paths if path.exists()}

    def told(self, lines: int = 15) -> str:
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

    def stores(self, tenant: str = "default") -> StoreView:
        return StoreView(self, tenant)


class Client:
    """HTTP in the words of the API; every verb answers, whatever the status."""

    def __init__(self, stack: Stack, *, token: str | None, tenant: str | None) -> None:
        self._stack = stack
        self._headers = {
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"X-Tenant-Id": tenant} if tenant else {}),
        }
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=60),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Any request; `path` begins with a slash and is sent as it is."""
        from yarl import URL

        assert self._session is not None
        began = time.monotonic()
        url = URL(self._stack.url + path, encoded=True)
        async with self._session.request(method, url, **options) as response:
            raw = await response.read()
            text = raw.decode(errors="replace")
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        return Answer(response.status, body, response.headers, text, time.monotonic() - began)

    async def store(self, content: str, **fields: Any) -> Answer:
        return await self.ask("POST", "/memory", json={"content": content, **fields})

    async def stored(self, content: str, **fields: Any) -> str:
        """The id of a memory that was acknowledged."""
        answer = await self.store(content, **fields)
        assert answer.status == 201, answer
        return str(answer.body["memory_id"])

    async def get(self, memory_id: str) -> Answer:
        return await self.ask("GET", f"/memory/{memory_id}")

    async def memory(self, memory_id: str) -> dict[str, Any]:
        answer = await self.get(memory_id)
        assert answer.status == 200, answer
        return dict(answer.body["memory"])

    async def patch(self, memory_id: str, **fields: Any) -> Answer:
        return await self.ask("PATCH", f"/memory/{memory_id}", json=fields)

    async def delete(self, memory_id: str) -> Answer:
        return await self.ask("DELETE", f"/memory/{memory_id}")

    async def recall(self, query: str = "", **params: Any) -> Answer:
        from urllib.parse import urlencode

        given = {name: value for name, value in params.items() if value is not None}
        text = urlencode({"query": query, **given}, doseq=True)
        return await self.ask("GET", f"/recall?{text}")

    async def recalled(self, query: str = "", **params: Any) -> list[str]:
        """The ids found, best first."""
        answer = await self.recall(query, **params)
        assert answer.status == 200, answer
        return [row["id"] for row in answer.body["results"]]

    async def health(self) -> dict[str, Any]:
        answer = await self.ask("GET", "/health")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def store_all(
        self, contents: Sequence[str], *, connections: int = 16, persistent: bool = False
    ) -> list[str]:
        """Ids of those acknowledged; `persistent`: a refused one is sent again until it is."""
        waiting, ids = list(reversed(contents)), list[str]()

        async def worker() -> None:
            while waiting:
                content = waiting.pop()
                while (answer := await self._store_once(content, persistent)) is None:
                    await asyncio.sleep(0.05)
                ids.append(answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(worker())
        return ids

    async def _store_once(self, content: str, persistent: bool) -> str | None:
        if not persistent:
            return await self.stored(content)
        try:
            answer = await self.store(content)
        except (aiohttp.ClientError, OSError, IndexError):
            return None
        return str(answer.body["memory_id"]) if answer.status == 201 else None


_STATE = (
    "MATCH (m:Memory) RETURN count(m),"
    " sum(CASE WHEN m.enriched_version >= m.version AND m.enrich_due IS NULL THEN 1 ELSE 0 END),"
    " sum(CASE WHEN m.embedded_version >= m.payload_version AND m.embed_due IS NULL"
    " THEN 1 ELSE 0 END),"
    " sum(CASE WHEN m.related_version > 0 AND m.relate_due IS NULL THEN 1 ELSE 0 END)"
)


@dataclass(frozen=True, slots=True)
class State:
    """How many memories there are, and how many finished each stage."""

    memories: int
    enriched: int
    embedded: int
    related: int

    @property
    def done(self) -> bool:
        return self.memories == self.enriched == self.embedded == self.related


@dataclass(slots=True)
class StoreView:
    """One tenant's part of the stores, as a test reads it; opens a connection per call."""

    stack: Stack
    tenant: str
    _graph: str = field(init=False)

    def __post_init__(self) -> None:
        self._graph = "memories" if self.tenant == "default" else f"memories:{self.tenant}"

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(
            self.stack.redis_url,
            decode_responses=True,
            protocol=2,
            socket_timeout=30,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def rows(self, cypher: str) -> list[list[Any]]:
        """The rows of a query; floats come as text, as FalkorDB's verbose form has them."""
        async with self.redis() as redis:
            answer: Any = await redis.execute_command(  # type: ignore[no-untyped-call]
                "GRAPH.QUERY", self._graph, cypher
            )
        return list(answer[1]) if len(answer) == 3 else []

    async def number(self, cypher: str) -> int:
        rows = await self.rows(cypher)
        return int(rows[0][0]) if rows else 0

    async def state(self) -> State:
        [row] = await self.rows(_STATE)
        return State(*(int(cell or 0) for cell in row))

    async def all_done(self, memories: int, *, timeout_s: float = 60.0) -> None:
        """Wait until there are at least `memories`, each enriched, embedded and related."""
        last: list[State | None] = [None]

        async def done() -> bool:
            try:
                last[0] = await self.state()
            except RedisError:  # killed, or loading what it kept
                return False
            return last[0].done and last[0].memories >= memories

        try:
            await wait_until(done, "all is enriched, embedded and related", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {last[0]}\n{self.stack.told()}") from None

    async def points(self, *, vectors: bool = False) -> dict[str, models.Record]:
        """Every point of the tenant, by id."""
        client = AsyncQdrantClient(url=self.stack.qdrant_url, check_compatibility=False, timeout=30)
        wanted = models.Filter(
            must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=self.tenant))]
        )
        found: dict[str, models.Record] = {}
        offset: Any = None
        try:
            while True:
                page, offset = await client.scroll(
                    "memories",
                    scroll_filter=wanted,
                    limit=500,
                    offset=offset,
                    with_payload=True,
                    with_vectors=["dense"] if vectors else False,
                )
                found |= {str(each.id): each for each in page}
                if offset is None:
                    return found
        finally:
            await client.close()

    async def duplicates(self) -> list[str]:
        """One sentence per thing that exists twice: nodes, edges, tags."""
        found = []
        for label, key in (("Memory", "id"), ("Entity", "id"), ("Fence", "name"), ("Run", "id")):
            twice = await self.rows(
                f"MATCH (n:{label}) WITH n.{key} AS k, count(n) AS c WHERE c > 1 RETURN k, c"
            )
            found += [f"{label} {key} {row[0]}: {row[1]} nodes" for row in twice]
        twice = await self.rows(
            "MATCH (a)-[r]->(b) WITH ID(a) AS x, ID(b) AS y, type(r) AS t, count(r) AS c"
            " WHERE c > 1 RETURN t, c, x, y"
        )
        found += [f"{row[1]} edges {row[0]} from {row[2]} to {row[3]}" for row in twice]
        for memory_id, tags in await self._tags():
            if len(tags) != len(set(tags)):
                found.append(f"tags of {memory_id}: {tags}")
        return found

    async def _tags(self) -> list[tuple[str, list[str]]]:
        rows = await self.rows("MATCH (m:Memory) RETURN m.id, m.tags, m.entity_tags, m.tag_keys")
        found = []
        for memory_id, *lists in rows:
            found += [(memory_id, list_of(each)) for each in lists if each]
        return found

    async def one_sided(self) -> int:
        """SIMILAR_TO edges that lack their other direction."""
        return await self.number(
            "MATCH (a:Memory)-[r:SIMILAR_TO]->(b:Memory) WHERE NOT (b)-[:SIMILAR_TO]->(a)"
            " RETURN count(r)"
        )

    async def work(self) -> dict[str, int]:
        """Entries per stage's stream; what is delayed counts too."""
        found = {}
        async with self.redis() as redis:
            for stage in ("enrich", "embed", "relate"):
                found[stage] = await redis.xlen(f"eunoe:{{{stage}}}:jobs")
                found[stage] += await redis.zcard(f"eunoe:{{{stage}}}:delayed")
        return found


def list_of(cell: Any) -> list[str]:
    """A list of the verbose form, which writes it as text: `[a, b]`."""
    if isinstance(cell, list):
        return [str(each) for each in cell]
    text = str(cell).removeprefix("[").removesuffix("]")
    return text.split(", ") if text else []


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


def refused(answer: Answer, status: int) -> str:
    """The reason of an error answer, whose body has the one shape of all errors."""
    assert answer.status == status, answer
    body = answer.body
    assert body["status"] == "error"
    assert body["code"] == status
    assert body["error"] == body["message"] == body["detail"] != ""
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return str(body["error"])


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
