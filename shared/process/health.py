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
    """When one dependency last answered (monotonic), and the failed probes since then."""

    answered_at: float = float("-inf")
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
        seen = self.seen[name]
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._pings[name]()
        except (TransientError, TimeoutError):
            # One failure changes nothing but the count: the store may merely be slow.
            seen.failures += 1
            if seen.failures == _FAILURES_OF_A_STORE_DOWN:
                for listener in self._listeners[name]:
                    listener()
        else:
            seen.answered_at, seen.failures = time.monotonic(), 0

    def known_down(self, name: str) -> bool:
        """Return whether `name` failed twice in a row; False before the first probe."""
        return self.seen[name].failures >= _FAILURES_OF_A_STORE_DOWN

    def up(self, name: str) -> bool:
        """Return whether `name` answered within the last 10 s, and has not failed twice since."""
        is_recent = time.monotonic() - self.seen[name].answered_at < _TRUSTED_FOR_S
        return is_recent and not self.known_down(name)


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
