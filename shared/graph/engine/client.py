"""The connection to FalkorDB: a graph per tenant, values as Cypher text, errors as ours.

The `falkordb` package is the client; its parameter text and its parsing of nodes are slow
(1 210 creates/s instead of 2 900, 12 ms for 50 nodes instead of 0.6), so queries here carry
their own parameter header and return columns, never nodes. Nothing is retried.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from falkordb.asyncio import FalkorDB
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry as BlockingRetry

from shared.compact_json import compact_json
from shared.config import GraphSettings
from shared.domain.tenant import _TENANT, DEFAULT_TENANT, check_tenant
from shared.errors import Conflict, EunoeError, InvalidInput, PermanentError, Unavailable
from shared.telemetry.metrics import STORE_DURATION, STORE_ERRORS
from shared.waiting import cancellation_kept

PING_TIMEOUT_S = 1.0

# JSON has control characters as \uXXXX, which FalkorDB does not decode; it keeps raw ones. The
# first branch matches escaped backslashes, so that a stored `\u0041` stays as it is.
_ESCAPE = re.compile(r"\\\\|\\u(00[01][0-9a-f])")
_MISSING_GRAPH = "empty key"
# Errors that end by themselves: a failover, full memory or disk, the queue or time limit.
_PASSING_ERRORS = (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError)
_PASSING = ("timed out", "max pending queries", "misconf", "loading", "masterdown", "noreplicas")
_VIOLATION = re.compile(r"unique constraint violation,? on node of type (\w+)", re.IGNORECASE)
_SERVER_TIME = "Query internal execution time: "

# Column → value: a column's alias, or of `m.name` the part after the dot.
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query, and how long the server worked on it (without queueing)."""

    rows: list[Row]
    server_ms: float


def literal(value: object) -> str:
    """Return a Cypher literal of lists, strings, finite numbers, booleans and None.

    Raises: InvalidInput for NaN and infinities (maps have no literal here: use lists).
    """
    try:
        text = compact_json(value, allow_nan=False)
    except ValueError as error:
        raise InvalidInput("numbers must be finite") from error
    return _ESCAPE.sub(_unescape, text) if "\\u00" in text else text


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code, 16)) if code else match.group(0)


@lru_cache(maxsize=1024)
def _column_names(header: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(column.rpartition(".")[2] for column in header)
    if len(set(names)) < len(names):
        raise PermanentError(f"graph: a query returns two columns of one name: {names}")
    return names


def _value(cell: list[Any]) -> Any:
    """Decode a cell of the compact form, `[type, value]`: 4 boolean, 5 double, 6 list, 10 map."""
    kind, value = cell
    if kind <= 3:
        return value
    if kind == 5:
        return float(value)
    if kind == 4:
        return value == "true"
    if kind == 6:
        return [_value(each) for each in value]
    if kind == 10:
        return {value[at]: _value(value[at + 1]) for at in range(0, len(value), 2)}
    raise PermanentError(f"graph: a query returned a cell of type {kind}, which is not decoded")


def _answer(reply: list[Any]) -> Answer:
    rows = []
    if len(reply) == 3:
        header, cells, _ = reply
        names = _column_names(tuple(name for _, name in header))
        # Most cells are plain; a call for each would take half of the decoding.
        rows = [
            {name: c[1] if c[0] <= 3 else _value(c) for name, c in zip(names, row, strict=True)}
            for row in cells
        ]
    timing = next((line for line in reply[-1] if line.startswith(_SERVER_TIME)), None)
    ms = float(timing.removeprefix(_SERVER_TIME).split()[0]) if timing else 0.0
    return Answer(rows, ms)


def _translated(error: RedisError | OSError) -> EunoeError:
    """Return our error for the library's; its text ends before `errCtx`, which quotes the query."""
    text = str(error).partition("errCtx")[0].strip()[:300]
    if not isinstance(error, ResponseError):
        return Unavailable("graph", f"{type(error).__name__}: {text}")
    if isinstance(error, _PASSING_ERRORS) or any(sign in text.lower() for sign in _PASSING):
        return Unavailable("graph", text)
    violated = _VIOLATION.search(text)
    if violated:
        return Conflict(f"{violated.group(1)} exists already")
    return PermanentError(f"graph: {text}")


@dataclass(eq=False)
class GraphClient:
    """Queries of one tenant's graph; `open()` before, `close()` after."""

    _settings: GraphSettings
    _db: FalkorDB | None = field(default=None, init=False)

    async def open(self) -> None:
        """Connect. Raises: Unavailable while the server is down; open again later."""
        with _observed("open"):
            # The constructor sends INFO and blocks, so it must not run on the loop.
            self._db = await asyncio.to_thread(self._connected)

    def _connected(self) -> FalkorDB:
        pool = BlockingConnectionPool.from_url(
            re.sub("^falkor(s?)://", r"redis\1://", self._settings.url),
            max_connections=self._settings.connections,
            timeout=self._settings.timeout_s,
            socket_timeout=self._settings.timeout_s,
            socket_connect_timeout=min(3.0, self._settings.timeout_s),
            retry=BlockingRetry(NoBackoff(), 0),
            driver_info=None,  # or every new connection reads the package's metadata from disk
            decode_responses=True,
            protocol=2,
        )
        db = FalkorDB(connection_pool=pool)
        # The constructor used the pool's arguments for a blocking client; the pool itself
        # needs the other kind of retry.
        pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
        return db

    async def close(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            await db.aclose()
            await db.connection.connection_pool.disconnect()

    async def ping(self) -> None:
        """Raises: Unavailable unless the server answers within a second."""
        with _observed("ping"):
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._execute("PING")

    def graph(self, tenant: str) -> str:
        base = self._settings.graph
        return base if check_tenant(tenant) == DEFAULT_TENANT else f"{base}:{tenant}"

    async def tenants(self) -> list[str]:
        """Return the tenants that have a graph, sorted; no other name is a tenant yet."""
        base = self._settings.graph
        with _observed("tenants"):
            graphs = await self._execute("GRAPH.LIST")
        others = {name.removeprefix(f"{base}:") for name in graphs if name.startswith(f"{base}:")}
        found = set(filter(_TENANT.fullmatch, others)) - {DEFAULT_TENANT}
        return sorted(found | {DEFAULT_TENANT} if base in graphs else found)

    async def query(self, tenant: str, operation: str, cypher: str, **params: object) -> list[Row]:
        """Return rows of a read-only query; none where the tenant has no graph (none is made)."""
        with _observed(operation):
            try:
                return (await self._query("GRAPH.RO_QUERY", tenant, cypher, params)).rows
            except ResponseError as error:
                if _MISSING_GRAPH in str(error):
                    return []
                raise

    async def write(self, tenant: str, operation: str, cypher: str, **params: object) -> Answer:
        """Run a query that writes all or nothing, and makes the graph's key if it is missing."""
        with _observed(operation):
            return await self._query("GRAPH.QUERY", tenant, cypher, params)

    async def pipeline(
        self, operation: str, commands: Sequence[Sequence[object]], *, alone: bool = False
    ) -> list[Any]:
        """Return answers in order; an error of the server is in its place, not raised.

        With `alone` they are one transaction: the server plans and runs nothing beside them.
        """
        with _observed(operation):
            async with self._open_db().connection.pipeline(transaction=alone) as pipe:
                for words in commands:
                    pipe.execute_command(*words)
                return list(await pipe.execute(raise_on_error=False))

    async def _query(
        self, command: str, tenant: str, cypher: str, params: dict[str, object]
    ) -> Answer:
        header = " ".join(f"{name}={literal(value)}" for name, value in params.items())
        text = f"CYPHER {header} {cypher}" if header else cypher
        return _answer(await self._execute(command, self.graph(tenant), text, "--compact"))

    async def _execute(self, *words: object) -> Any:
        return await self._open_db().connection.execute_command(*words)

    def _open_db(self) -> FalkorDB:
        if self._db is None:
            raise Unavailable("graph", "not open")
        return self._db


@contextmanager
def _observed(operation: str) -> Iterator[None]:
    """Time the call, count its failure and translate it."""
    started = time.perf_counter()
    try:
        with cancellation_kept():
            yield
    except (RedisError, OSError) as error:  # asyncio's timeout is an OSError too
        translated = _translated(error)
        kind = "transient" if isinstance(translated, Unavailable) else "permanent"
        STORE_ERRORS.labels("graph", operation, kind).inc()
        # `from None`: the library's text may quote the query and with it a memory.
        raise translated from None
    finally:
        STORE_DURATION.labels("graph", operation).observe(time.perf_counter() - started)
