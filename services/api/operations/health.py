"""GET /health: the truth of at most two seconds ago, and never an exception.

degraded means: a store is down, or the oldest unprocessed memory is older than a minute.
A fresh write alone never degrades it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from shared.config import Settings
from shared.domain.memory import iso, now_ms
from shared.errors import EunoeError
from shared.graph.memory.memories import Counts
from shared.graph.store import GraphStore
from shared.process.health import Probes
from shared.streams.job import Stage
from shared.streams.stream import Stream
from shared.streams.transitions import Depth
from shared.vectors import VectorStore
from shared.vectors.active_model import ModelFollower

_T = TypeVar("_T")
_TRUST_S = 1.0
_STALE_S = 60.0
_GRACE_MS = 3_000
_FAR_MS = 1 << 62
_PIPELINE = (Stage.ENRICH, Stage.EMBED, Stage.RELATE)


class HealthReport:
    """Builds the answer; counts of one tenant are read at most once a second."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        streams: Mapping[Stage, Stream],
        probes: Probes,
        settings: Settings,
        serving: ModelFollower,
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._streams = streams
        self._probes = probes
        self._settings = settings
        self._serving = serving
        self._read: dict[str, tuple[float, asyncio.Task[dict[str, Any]]]] = {}

    async def report(self, tenant: str) -> dict[str, Any]:
        """The body for `tenant`; concurrent callers share one reading."""
        at, task = self._read.get(tenant, (-_TRUST_S, None))
        if task is None or (task.done() and time.monotonic() - at > _TRUST_S):
            task = asyncio.create_task(self._build(tenant), name="health")
            self._read[tenant] = (time.monotonic(), task)
        return await asyncio.shield(task)

    async def _build(self, tenant: str) -> dict[str, Any]:
        counts, points, enrich, embed, oldest_age_s = await asyncio.gather(
            _or_none(self._graph.memories.counts(tenant), up=self._probes.up("graph")),
            _or_none(self._vectors.count(tenant), up=self._probes.up("vectors")),
            self._depth(Stage.ENRICH),
            self._depth(Stage.EMBED),
            self._oldest_age_s(),
        )
        stores = {name: self._probes.up(name) for name in ("graph", "vectors", "redis")}
        # What is overdue in the graph lost its job; the relay will find it.
        overdue = counts is not None and (counts.oldest_due_ms or _FAR_MS) < now_ms() - _GRACE_MS
        late = oldest_age_s > _STALE_S or overdue
        return {
            "status": "healthy" if all(stores.values()) and not late else "degraded",
            "falkordb": _connected(stores["graph"]),
            "qdrant": _connected(stores["vectors"]),
            "redis": _connected(stores["redis"]),
            "graph": self._settings.graph.graph,
            "timestamp": iso(now_ms()),
            "memory_count": counts.memories if counts else None,
            "vector_count": points,
            "sync_status": _sync_status(counts, points),
            "vector_dimensions": self._dimensions(),
            "enrichment": _stage(counts, enrich, Stage.ENRICH),
            "embedding": _stage(counts, embed, Stage.EMBED),
        }

    def _dimensions(self) -> dict[str, Any]:
        live = self._serving.live
        effective = live.model.dimension
        return {
            "configured": self._settings.vectors.size or effective,
            "effective": effective,
            "collection": live.generation.dimension if live.generation else effective,
            "mismatch": False,
        }

    async def _depth(self, stage: Stage) -> Depth | None:
        return await _or_none(self._streams[stage].depth(), up=self._probes.up("redis"))

    async def _oldest_age_s(self) -> float:
        """Age of the oldest live job of the pipeline; 0 where nothing waits or nobody knows."""
        up = self._probes.up("redis")
        ages = await asyncio.gather(
            *(_or_none(self._streams[stage].oldest_age_s(), up=up) for stage in _PIPELINE)
        )
        return max((age for age in ages if age is not None), default=0.0)


async def _or_none(reading: Coroutine[Any, Any, _T], *, up: bool) -> _T | None:
    """The reading, or None at once for a store that the last probe found down."""
    if not up:
        reading.close()
        return None
    try:
        async with asyncio.timeout(_TRUST_S):
            return await reading
    except (EunoeError, TimeoutError):
        return None


def _connected(up: bool) -> str:
    return "connected" if up else "disconnected"


def _sync_status(counts: Counts | None, points: int | None) -> str:
    if counts is None or points is None:
        return "unknown"
    if counts.lagging.get(Stage.EMBED, 0):
        return "pending"
    # One that was given up may still have the point of before; more would be orphans.
    fewest = counts.memories - counts.failed.get(Stage.EMBED, 0)
    return "synced" if fewest <= points <= counts.memories else "drift_detected"


def _stage(counts: Counts | None, depth: Depth | None, stage: Stage) -> dict[str, Any]:
    lagging = counts.lagging.get(stage, 0) if counts else None
    failed = counts.failed.get(stage, 0) if counts else None
    return {
        "status": "running" if depth is not None else "unknown",
        "queue_depth": depth.ready + depth.delayed if depth else None,
        "pending": lagging,
        "inflight": depth.pending if depth else None,
        "processed": counts.memories - (lagging or 0) - (failed or 0) if counts else None,
        "failed": failed,
    }
