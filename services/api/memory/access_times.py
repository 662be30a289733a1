"""Access times: a read is not a write, so bumps are gathered and written once a second."""

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
    """Gathers `last_accessed` bumps per tenant; what a crash loses is at most a second."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph
        self._gathered: dict[str, dict[str, int]] = defaultdict(dict)

    def add(self, tenant: str, ids: Iterable[str], at_ms: int) -> None:
        fresh = dict.fromkeys(ids, at_ms)
        if fresh and len(self._gathered[tenant]) < _MOST_ROWS:
            self._gathered[tenant].update(fresh)

    async def run(self, stopping: asyncio.Event) -> None:
        while not await wait(stopping, _EVERY_S):
            await self.flush()
        await self.flush()

    async def flush(self) -> None:
        gathered, self._gathered = self._gathered, defaultdict(dict)
        for tenant, rows in gathered.items():
            if not rows:
                continue
            try:
                await self._graph.memories.touch(tenant, list(rows), max(rows.values()))
            except EunoeError as error:
                _log.warning("touch.dropped", rows=len(rows), error=str(error))
