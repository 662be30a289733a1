"""While the graph is down no request waits for it.

A graph that does not answer would hold each request for the whole timeout of its client. The
probes notice that within about a second. From then on requests are refused at once, and those
that wait are cancelled and answered with the same error. The graph may have stored a cancelled
write all the same; the repeat of its client is recognised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Unavailable
from shared.process.health import Probes

# These routes need no graph, or report by themselves that it is down.
_INDEPENDENT = frozenset({"/health", "/stream", "/stream/status", "/openapi.json", "/docs"})


class GraphCircuit:
    """Refuses requests while the graph is down, and cancels those that wait as it goes down."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._waiting: set[asyncio.Task[object]] = set()
        self._cancelled: set[asyncio.Task[object]] = set()
        probes.when_down("graph", self._cancel_waiting)

    @contextmanager
    def protected(self, path: str) -> Iterator[None]:
        """Raises: Unavailable("graph") at once, or as soon as the graph goes down inside."""
        task = asyncio.current_task()
        if task is None or path in _INDEPENDENT or path.startswith("/docs/"):
            yield
            return
        if self._probes.known_down("graph"):
            raise Unavailable("graph", "down")
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cancelled:
                raise
            task.uncancel()
            raise Unavailable("graph", "went down meanwhile") from None
        finally:
            self._waiting.discard(task)
            self._cancelled.discard(task)

    def _cancel_waiting(self) -> None:
        for task in self._waiting:
            self._cancelled.add(task)
            task.cancel()
