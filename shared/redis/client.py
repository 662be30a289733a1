"""The three Redis clients, and the boundary where redis-py's exceptions become ours.

Who retries: `command` retries a lost connection (scripts are idempotent, so a repeat is
harmless) but never a timeout; `blocking` and `lease` retry nothing, their loops do. A
blocked read outlasts redis-py 8's default timeout and would be sent again ten times
(redis-py defaults: 5 s, 10 retries), hence its own client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff

from shared.config import RedisSettings, StreamSettings
from shared.errors import PermanentError, Unavailable
from shared.telemetry import metrics
from shared.waiting import cancellation_kept

# Errors of a server that works but cannot serve now: waiting helps, changing the call does not.
_NOT_NOW = ("OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "BUSY", "TRYAGAIN", "UNBLOCKED")
_DOWN = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    OSError,
)
_COMMAND_CONNECTIONS = 64
_BLOCKING_CONNECTIONS = 32
_LEASE_TIMEOUT_S = 3.0


@contextmanager
def translated() -> Iterator[None]:
    """Translate redis-py's exceptions to `Unavailable("redis")` or `PermanentError`."""
    try:
        with cancellation_kept():
            yield
    except _DOWN as error:
        raise Unavailable("redis", f"{type(error).__name__}: {error}") from error
    except redis_errors.ResponseError as error:
        if str(error).startswith(_NOT_NOW):
            raise Unavailable("redis", str(error)) from error
        raise PermanentError(f"redis refused: {error}") from error
    except redis_errors.RedisError as error:
        raise PermanentError(f"redis: {type(error).__name__}: {error}") from error


def scripts_beside(module_file: str) -> dict[str, str]:
    """Return the Lua scripts in the folder `scripts` beside a module, by name."""
    folder = Path(module_file).parent / "scripts"
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.lua")}


class Script:
    """One atomic transition in Lua, sent by its hash; several texts are joined in that order."""

    def __init__(self, client: Redis, *texts: str) -> None:
        self._script = client.register_script("\n".join(texts))

    async def __call__(self, keys: Sequence[str], args: Iterable[str | int | float]) -> Any:
        """Run it once, with the keys and arguments that its first lines name.

        Raises: Unavailable when Redis does not answer; it may have run all the same.
        """
        with translated():
            return await self._script(keys=keys, args=args)


@dataclass(frozen=True, slots=True)
class RedisClients:
    """`command` for everything short, `blocking` for XREADGROUP, `lease` for elections."""

    command: Redis
    blocking: Redis
    lease: Redis
    prefix: str

    @classmethod
    def open(cls, settings: RedisSettings, streams: StreamSettings) -> Self:
        """Build the clients; nothing connects until the first command, so Redis may be down."""
        thrice = Retry(ExponentialBackoff(cap=0.4, base=0.05), 3, (redis_errors.ConnectionError,))
        never = Retry(NoBackoff(), 0)
        blocked_s = streams.block_s + settings.timeout_s
        return cls(
            _client("command", settings, settings.timeout_s, thrice, _COMMAND_CONNECTIONS),
            _client("blocking", settings, blocked_s, never, _BLOCKING_CONNECTIONS),
            _client("lease", settings, min(_LEASE_TIMEOUT_S, settings.timeout_s), never, 8),
            settings.prefix,
        )

    def key(self, tag: str, name: str) -> str:
        """`<prefix>:{tag}:name`; keys with one tag live on one node of a cluster."""
        return f"{self.prefix}:{{{tag}}}:{name}"

    async def ping(self) -> None:
        """Raises: Unavailable when Redis does not answer a command."""
        with translated():
            await self.command.ping()

    async def close(self) -> None:
        for client in (self.command, self.blocking, self.lease):
            await client.aclose()


def _client(
    name: str, settings: RedisSettings, timeout_s: float, retry: Retry, connections: int
) -> Redis:
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=connections,
        timeout=settings.timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=retry,
        protocol=2,
        decode_responses=True,
        # An entry added by hand may hold any bytes; reading it must not end the reader.
        encoding_errors="backslashreplace",
        # Else each new connection reads the package's metadata from disk, in the event loop.
        driver_info=None,
        redis_connect_func=_counting_reconnects(name),
    )
    return Redis.from_pool(pool)


def _counting_reconnects(name: str) -> Callable[[Any], Awaitable[None]]:
    seen: WeakSet[Any] = WeakSet()
    counter = metrics.REDIS_RECONNECTS.labels(client=name)

    async def connected(connection: Any) -> None:
        await connection.on_connect()
        if connection in seen:
            counter.inc()
        seen.add(connection)

    return connected
