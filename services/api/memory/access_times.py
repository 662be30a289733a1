"""The times when memories were last read, collected and written to the graph once a second."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from shared.errors import EunoeError
from shared.graph.store import GraphStore
from shared.telemetry import log
from shared.waiting import wait

_EVERY_S = 1.0
_MOST_ROWS = 5000
_log = log.get_logger(__name__)


class AccessTimes:
    """Collects `last_accessed` times per tenant; a crash loses at most one second's times."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph
        self._unwritten: dict[str, dict[str, int]] = defaultdict(dict)

    def add(self, tenant: str, ids: Iterable[str], at_ms: int) -> None:
        times = dict.fromkeys(ids, at_ms)
        if times and len(self._unwritten[tenant]) < _MOST_ROWS:
            self._unwritten[tenant].update(times)

    async def run(self, stopping: asyncio.Event) -> None:
        while not await wait(stopping, _EVERY_S):
            await self.flush()
        await self.flush()

    async def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, defaultdict(dict)
        for tenant, times in unwritten.items():
            try:
                await self._graph.memories.touch(tenant, list(times), max(times.values()))
            except EunoeError as error:
                _log.warning("touch.dropped", rows=len(times), error=str(error))
