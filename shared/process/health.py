"""Health: what /livez and /readyz report, and the probes of the stores behind it.

/livez never asks a dependency: a store that is down must not restart the process.
/readyz reads what the probes last saw; it is false from the first SIGTERM on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from shared.errors import TransientError
from shared.waiting import wait

Ping = Callable[[], Awaitable[None]]
_PROBE_EVERY_S = 0.5
_PROBE_TIMEOUT_S = 0.6
_TRUSTED_FOR_S = 10.0
_FAILURES_OF_A_STORE_DOWN = 2


@dataclass(slots=True)
class Seen:
    """What the last probe of one dependency found; `at` is monotonic."""

    ok: bool = False
    at: float = 0.0
    error: str = "not probed yet"
    failures: int = 0


class Probes:
    """Pings every dependency twice a second, so that a request need not wait for a ping."""

    def __init__(self, pings: dict[str, Ping]) -> None:
        self._pings = pings
        self.seen = {name: Seen() for name in pings}
        self._listeners: dict[str, list[Callable[[], None]]] = {name: [] for name in pings}

    def when_down(self, name: str, listener: Callable[[], None]) -> None:
        """Call `listener` each time `name` stops answering."""
        self._listeners[name].append(listener)

    async def run(self, stopping: asyncio.Event) -> None:
        """Probe until `stopping`; each at its own pace, so that a silent one delays no other."""
        await asyncio.gather(*(self._probe_forever(name, stopping) for name in self._pings))

    async def _probe_forever(self, name: str, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self._probe(name)
            # A first failure may be one slow answer: the second probe follows at once.
            if self.seen[name].failures != 1:
                await wait(stopping, _PROBE_EVERY_S)

    async def _probe(self, name: str) -> None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._pings[name]()
        except (TransientError, TimeoutError) as error:
            failures = self.seen[name].failures + 1
            # One failure changes nothing but the count: the store may merely be slow.
            ok = self.seen[name].ok and failures < _FAILURES_OF_A_STORE_DOWN
            self.seen[name] = Seen(ok, time.monotonic(), str(error) or "timeout", failures)
            if failures == _FAILURES_OF_A_STORE_DOWN:
                for listener in self._listeners[name]:
                    listener()
        else:
            self.seen[name] = Seen(ok=True, at=time.monotonic(), error="")

    def known_down(self, name: str) -> bool:
        """Return whether `name` failed twice in a row; False before the first probe."""
        return self.seen[name].failures >= _FAILURES_OF_A_STORE_DOWN

    def up(self, name: str) -> bool:
        """Return whether `name` answered its last probe within the last 10 s."""
        seen = self.seen[name]
        return seen.ok and time.monotonic() - seen.at < _TRUSTED_FOR_S


Check = Callable[[], bool]


@dataclass(slots=True)
class Health:
    """The process's own state: named checks, all of which must be true."""

    role: str
    alive: dict[str, Check] = field(default_factory=dict)
    ready: dict[str, Check] = field(default_factory=dict)
    detail: dict[str, Callable[[], object]] = field(default_factory=dict)

    def report(self, checks: dict[str, Check]) -> tuple[bool, dict[str, object]]:
        results = {name: check() for name, check in checks.items()}
        extra = {name: show() for name, show in self.detail.items()}
        return all(results.values()), {"role": self.role, "checks": results, **extra}
