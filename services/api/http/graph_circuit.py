"""GraphCircuit: while the graph is down no request waits for it.

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
        # Tasks inside `protected`, and whether they were cancelled because the graph went down.
        self._waiting: dict[asyncio.Task[object], bool] = {}
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
        self._waiting[task] = False
        try:
            yield
        except asyncio.CancelledError:
            if not self._waiting[task]:
                raise
            task.uncancel()
            raise Unavailable("graph", "went down meanwhile") from None
        finally:
            del self._waiting[task]

    def _cancel_waiting(self) -> None:
        for task in self._waiting:
            self._waiting[task] = True
            task.cancel()
