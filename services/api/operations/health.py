"""GET /health: the state of the stores and the pipeline, at most two seconds old.

`degraded` means that a store is down, or that the oldest unprocessed memory is older than a
minute; a fresh write alone does not degrade it. The route never fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiohttp import web

from services.api.http.answers import Answer, Time, json_answer
from services.api.http.authentication import identify
from services.api.http.middleware import TENANT
from services.api.http.route import Routes
from services.api.http.tenancy import Forbidden, Tokens, Unauthorized
from shared.config import Settings
from shared.domain.memory import now_ms
from shared.domain.tenant import DEFAULT_TENANT
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


class HealthAnswer(Answer):
    """Always 200; `status` says how it is."""

    status: Literal["healthy", "degraded"]
    falkordb: str
    qdrant: str
    redis: str
    graph: str
    timestamp: Time
    memory_count: int | None
    vector_count: int | None
    sync_status: str
    vector_dimensions: dict[str, Any]
    enrichment: dict[str, Any]
    embedding: dict[str, Any]


@dataclass(slots=True)
class HealthReport:
    """Builds the answer; counts of one tenant are read at most once a second."""

    graph: GraphStore
    vectors: VectorStore
    streams: Mapping[Stage, Stream]
    probes: Probes
    settings: Settings
    follower: ModelFollower
    # Tenant → when the reading of its answer began, and the reading.
    _readings: dict[str, tuple[float, asyncio.Task[HealthAnswer]]] = field(default_factory=dict)

    async def report(self, tenant: str) -> HealthAnswer:
        """Return the answer for `tenant`; concurrent callers share one reading."""
        at, task = self._readings.get(tenant, (-_TRUST_S, None))
        if task is None or (task.done() and time.monotonic() - at > _TRUST_S):
            task = asyncio.create_task(self._build(tenant), name="health")
            self._readings[tenant] = (time.monotonic(), task)
        return await asyncio.shield(task)

    async def _build(self, tenant: str) -> HealthAnswer:
        depth_reads = [self.streams[stage].depth() for stage in _PIPELINE]
        counts, points, depths = await asyncio.gather(
            self._or_none("graph", self.graph.memories.counts(tenant)),
            self._or_none("vectors", self.vectors.count(tenant)),
            asyncio.gather(*(self._or_none("redis", reading) for reading in depth_reads)),
        )
        enrich, embed, _ = depths
        oldest_age_s = max((depth.oldest_age_s or 0.0 for depth in depths if depth), default=0.0)
        up = {name: self.probes.up(name) for name in ("graph", "vectors", "redis")}
        connected = {name: "connected" if up[name] else "disconnected" for name in up}
        # A memory that is overdue in the graph lost its job; the relay will publish it again.
        overdue = counts is not None and (counts.oldest_due_ms or _FAR_MS) < now_ms() - _GRACE_MS
        late = oldest_age_s > _STALE_S or overdue
        return HealthAnswer(
            status="healthy" if all(up.values()) and not late else "degraded",
            falkordb=connected["graph"],
            qdrant=connected["vectors"],
            redis=connected["redis"],
            graph=self.settings.graph.graph,
            timestamp=now_ms(),
            memory_count=counts.memories if counts else None,
            vector_count=points,
            sync_status=_sync_status(counts, points),
            vector_dimensions=self._dimensions(),
            enrichment=_stage(counts, enrich, Stage.ENRICH),
            embedding=_stage(counts, embed, Stage.EMBED),
        )

    def _dimensions(self) -> dict[str, Any]:
        live = self.follower.live
        effective = live.model.dimension
        return {
            "configured": self.settings.vectors.size or effective,
            "effective": effective,
            "collection": live.generation.dimension if live.generation else effective,
            "mismatch": False,
        }

    async def _or_none(self, store: str, reading: Coroutine[Any, Any, _T]) -> _T | None:
        """Await the reading; None at once for a store that the last probe found down."""
        if not self.probes.up(store):
            reading.close()
            return None
        try:
            async with asyncio.timeout(_TRUST_S):
                return await reading
        except (EunoeError, TimeoutError):
            return None


def _sync_status(counts: Counts | None, points: int | None) -> str:
    if counts is None or points is None:
        return "unknown"
    if counts.lagging.get(Stage.EMBED, 0):
        return "pending"
    # A memory that was given up may still have an earlier point; more points are orphans.
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


HEALTH: web.AppKey[HealthReport] = web.AppKey("health", HealthReport)
TOKENS: web.AppKey[Tokens] = web.AppKey("tokens", Tokens)
ROUTES = Routes(scope="open", group="operations")


@ROUTES.add("GET", "/health", "State of the stores and the pipeline", returns=HealthAnswer)
async def get_health(request: web.Request) -> web.Response:
    """Always 200 and open; a valid token shows its own tenant's counts."""
    try:
        identify(request, request.app[TOKENS])
        tenant = request[TENANT]
    except (Unauthorized, Forbidden):
        tenant = DEFAULT_TENANT
    return json_answer(await request.app[HEALTH].report(tenant))
