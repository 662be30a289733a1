"""The operators' routes over real stores, in this process; the test plays the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.api.http.graph_circuit import GraphCircuit
from services.api.http.tenancy import Access, digest_of
from services.api.operations import dead_letters, enrichment, memory_status, queues, vectors
from services.api.operations import generations as admin_generations
from services.api.operations import runs as admin_runs
from shared.config import EmbeddingSettings, EnrichmentSettings
from shared.events.enrichment_stats import EnrichmentStats
from shared.graph.store import GraphStore
from shared.process.health import Probes
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import DeadLetter, Settlement
from shared.vectors.generation import Generations
from tests.support.stack.in_process import ADMIN, API, Client, make_app, probes, served, tokens
from tests.support.workers.working import delivered

ROUTES = (
    *memory_status.ROUTES,
    *enrichment.ROUTES,
    *vectors.ROUTES,
    *admin_runs.ROUTES,
    *admin_generations.ROUTES,
    *dead_letters.ROUTES,
    *queues.ROUTES,
)
OTHER = "other"
OTHERS_TOKEN = {"Authorization": "Bearer others-token"}


@dataclass(slots=True)
class Operations:
    """One API with the stores behind it; `asks` as the default tenant's admin."""

    client: Client
    graph: GraphStore
    streams: Mapping[Stage, Stream]
    outbox: Outbox
    probes: Probes
    stats: EnrichmentStats
    answers: list[Any] = field(default_factory=list)

    async def asks(
        self, method: str, path: str, status: int = 200, /, *, headers: Any = None, **options: Any
    ) -> Any:
        """The body of the answer, which must have that status."""
        async with self.client.request(
            method, path, headers={**API, **ADMIN, **(headers or {})}, **options
        ) as answer:
            body = await answer.json()
            assert answer.status == status, body
            self.answers.append(answer)
            return body

    async def dead_lettered(
        self, stage: Stage, jobs: Sequence[Job], reason: str = "permanent", error: str = "no"
    ) -> list[str]:
        """Dead entries of `jobs`, oldest first."""
        stream = self.streams[stage]
        await stream.publish(jobs, exempt=True)
        held = await delivered(stream, "gravedigger", len(jobs))
        await stream.settle(
            "gravedigger", [Settlement(each, DeadLetter(reason, error)) for each in held]
        )
        await stream.hand_back("gravedigger")
        return [each.entry_id for each in await stream.dead(limit=len(jobs))][::-1]


async def _none() -> None:
    """No generation serves."""


async def _nothing_to_abandon(_collection: str) -> bool:
    return False


@asynccontextmanager
async def operated(
    clients: RedisClients,
    graph: GraphStore,
    streams: Mapping[Stage, Stream],
    *,
    generations: Generations | None = None,
    seen: Probes | None = None,
    longest_wait_s: float = 20.0,
) -> AsyncIterator[Operations]:
    known, seen = tokens(), seen or probes()
    known._listed = [Access(name="other", tenants=(OTHER,), digest=digest_of("others-token"))]
    app = make_app(ROUTES, known, GraphCircuit(seen))
    outbox = Outbox(clients, streams, delay_s=60.0)
    stats = EnrichmentStats(clients)
    runs = admin_runs.RunRequests(
        graph.runs,
        outbox,
        seen,
        abandon=generations.abandon if generations else _nothing_to_abandon,
        longest_wait_s=longest_wait_s,
    )
    app[admin_runs.RUNS] = runs
    app.on_shutdown.append(runs.close)
    app[vectors.MODELS] = vectors.ModelCheck(
        EmbeddingSettings(_env_file=None, EMBEDDING_PROVIDER="placeholder"),
        generations.live if generations else _none,
    )
    if generations is not None:
        app[admin_generations.GENERATIONS] = generations
    app[dead_letters.DEAD] = dead_letters.DeadLetters(graph, outbox, streams)
    app[queues.STREAMS] = tuple(streams.values())
    app[memory_status.MEMORY_STATUS] = memory_status.MemoryStatus(graph, streams)
    app[enrichment.ENRICHMENT] = enrichment.Enrichment(
        graph, outbox, streams, stats, EnrichmentSettings(_env_file=None)
    )
    async with served(app, **{"X-Nobody": "1"}) as client:
        yield Operations(client, graph, streams, outbox, seen, stats)
