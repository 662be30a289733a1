"""Outage: while the graph is down nobody waits for it.

A store that is silent (frozen, unreachable) would hold each request for the client's whole
timeout. The probes learn of it within about a second: from then on requests are refused at
once, and those that were waiting are cut loose with the same answer. A write that was cut
may have happened; its answer says unavailable, and a repeat is recognised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Unavailable
from shared.process.health import Probes

# They need no graph, or say by themselves that it is down.
INDEPENDENT = frozenset({"/health", "/stream", "/stream/status", "/openapi.json", "/docs"})


class GraphCircuit:
    """Knows the requests that wait, and ends them when the graph goes down."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._waiting: set[asyncio.Task[object]] = set()
        self._cut: set[asyncio.Task[object]] = set()
        probes.when_down("graph", self._cut_loose)

    @contextmanager
    def endured(self, path: str) -> Iterator[None]:
        """Raises: Unavailable("graph") at once, or as soon as the graph goes down inside."""
        task = asyncio.current_task()
        if task is None or path in INDEPENDENT or path.startswith("/docs/"):
            yield
            return
        if self._probes.known_down("graph"):
            raise Unavailable("graph", "down")
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            task.uncancel()
            raise Unavailable("graph", "went down meanwhile") from None
        finally:
            self._waiting.discard(task)
            self._cut.discard(task)

    def _cut_loose(self) -> None:
        for task in self._waiting:
            self._cut.add(task)
            task.cancel()
