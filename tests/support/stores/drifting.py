"""A tenant in both stores that a test breaks, and the syncer and embedder that mend it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from qdrant_client import AsyncQdrantClient

from services.embedder.point_writer import whole_hash
from services.embedder.service import Embedder
from services.syncer.drift.audit import TASK, Drift, drift_task
from services.syncer.drift.findings import Audit, DriftGauges
from services.syncer.runs import RunHandler, Task
from shared.config import EmbeddingSettings, GraphSettings, RedisSettings
from shared.domain.memory import Memory
from shared.graph.stages.writes import Embedded
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run
from shared.models.providers.placeholder import PlaceholderEmbedding
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import Stream
from shared.streams.transitions import Done, Outcome
from shared.vectors import Point, VectorStore, point_for
from shared.vectors.active_model import ModelFollower
from shared.vectors.points import Vector
from shared.vectors.sparse import SparseVector, sparse_document
from tests.support.stores.graphs import TENANT, a_memory, opened
from tests.support.stores.vector_stores import DIMENSION, MODEL, change_payloads, having
from tests.support.workers.working import Running, consuming, drained

_SEED_PAGE = 500


@dataclass(slots=True)
class Place:
    """The stores, and `drift` over them; `embedded` is what the embedder has made points of."""

    settings: GraphSettings
    graph: GraphStore
    vectors: VectorStore
    client: AsyncQdrantClient
    clients: RedisClients
    outbox: Outbox
    streams: Mapping[Stage, Stream]
    drift: Drift
    refused: set[str] = field(default_factory=set)
    embedded: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def seed(self, count: int, tenant: str = TENANT, **fields: Any) -> list[Memory]:
        """Memories with their points, as an embedder would have left them."""
        made: list[Memory] = []
        while len(made) < count:
            page = [a_memory(f"note {uuid4()}", **fields) for _ in range(min(_SEED_PAGE, count))]
            page = page[: count - len(made)]
            await self.graph.memories.create_many(tenant, page)
            await self.embed(page, tenant)
            made += page
        return made

    async def embed(self, memories: Sequence[Memory], tenant: str = TENANT) -> None:
        """Leave the memories as an embedder would: with their points, and nothing to relate."""
        await self.vectors.upsert(tenant, [point_of(each, tenant) for each in memories])
        rows = [Embedded(m.id, m.payload_version, whole(m.content), relate=False) for m in memories]
        await self.graph.work.embedded(tenant, rows)

    @asynccontextmanager
    async def embedding(self, *, opened: bool = True) -> AsyncIterator[Running]:
        """The product's embedder at work, once `gate` is open; `refused` ones never come up."""
        settings = EmbeddingSettings(_env_file=None, EMBEDDING_PROVIDER="placeholder")
        serving = ModelFollower(self.vectors, settings, PlaceholderEmbedding(DIMENSION))
        await serving.open()
        embedder = Embedder(self.graph, self.vectors, serving, self.outbox)

        async def handler(jobs: Sequence[Job]) -> list[Outcome]:
            await self.gate.wait()
            willing = [job for job in jobs if job.memory_id not in self.refused]
            await embedder(willing)
            self.embedded += [job.memory_id for job in willing]
            return [Done()] * len(jobs)

        if opened:
            self.gate.set()
        async with consuming(self.streams[Stage.EMBED], handler, batch_size=64) as running:
            yield running
            self.gate.set()
        await drained(self.streams[Stage.RELATE])  # nobody here is an enricher

    async def audit(self) -> Audit:
        audit = Audit()

        async def beat(*, at_once: bool = False) -> None:
            del at_once

        await self.drift(TENANT, audit, beat, repair=False)
        return audit

    def handler(
        self, tasks: Mapping[str, Task] | None = None, stopping: asyncio.Event | None = None
    ) -> RunHandler:
        known: dict[str, Task] = {
            TASK: partial(drift_task, self.drift, DriftGauges()),
            **(tasks or {}),
        }
        return RunHandler(self.graph.runs, known, stopping or asyncio.Event(), max_attempts=3)

    async def run(self, tenant: str = TENANT, /, **request: Any) -> Run:
        """Queue a run as the API does, and take it as the syncer does."""
        run = await self.graph.runs.create(tenant, TASK, request)
        await self.handler()([Job(tenant, run.id, 0)])
        return await self.stored_run(run, tenant)

    async def stored_run(self, run: Run, tenant: str = TENANT) -> Run:
        found = await self.graph.runs.get(tenant, run.id)
        assert found is not None
        return found

    @property
    def collection(self) -> str:
        assert self.vectors.live.generation is not None
        return self.vectors.live.generation.collection

    async def set_payload(self, ids: Sequence[str], **payload: Any) -> None:
        """Change points behind the product's back."""
        await change_payloads(self.client, self.collection, ids, lambda before: before | payload)

    async def drop_keys(self, ids: Sequence[str], *keys: str) -> None:
        """Delete keys of points' payloads behind the product's back."""

        def kept(before: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in before.items() if key not in keys}

        await change_payloads(self.client, self.collection, ids, kept)

    async def drop_points(self, ids: Sequence[str]) -> None:
        await self.client.delete(self.collection, having(ids), wait=True)

    async def add_orphans(self, count: int) -> list[str]:
        made = [a_memory(f"orphan {number}") for number in range(count)]
        await self.vectors.upsert(TENANT, [point_of(each) for each in made])
        return [each.id for each in made]

    async def add_point_of_beta(self) -> None:
        """A point without a memory, of another tenant that has a graph."""
        await self.graph.ensure("beta")
        await self.vectors.upsert("beta", [point_of(a_memory("of beta"), "beta")])

    async def agree(self, tenant: str = TENANT) -> bool:
        """Return whether each memory has exactly the point that it should have."""
        wanted: dict[str, Mapping[str, Any]] = {}
        after = ""
        while page := await self.graph.sweeps.memories_page(tenant, after, 1000):
            wanted |= {row.id: point_of(row.memory, tenant).payload for row in page}
            after = page[-1].id
        stored: dict[str, Mapping[str, Any]] = {}
        async for points in self.vectors.scroll(tenant):
            stored |= {point.id: point.payload for point in points}
        count = await self.vectors.count(tenant)
        return wanted == stored and count == len(stored)


def whole(content: str) -> str:
    """Return the text_hash of a memory without predecessors in its session."""
    return whole_hash(MODEL, content, ())


def point_of(memory: Memory, tenant: str = TENANT) -> Point:
    seed = int.from_bytes(memory.content.encode()[-8:], "little")
    dense = np.random.default_rng(seed).standard_normal(DIMENSION, np.float32)
    vectors: dict[str, Vector | SparseVector] = {
        "dense": dense,
        "context": dense,
        "bm25": sparse_document(memory.content),
    }
    return point_for(tenant, memory, text_hash=whole(memory.content), vectors=vectors)


@asynccontextmanager
async def place(
    settings: GraphSettings,
    vectors: VectorStore,
    clients: RedisClients,
    redis: RedisSettings,
    streams: Mapping[Stage, Stream],
    *,
    page: int = 7,
    wait_s: float = 5.0,
    outbox_delay_s: float = 60.0,
) -> AsyncIterator[Place]:
    """Both stores of a tenant of its own; small pages, so that a few memories are many."""
    outbox = Outbox(clients, streams, delay_s=outbox_delay_s)
    async with opened(settings, outbox_delay_s=outbox_delay_s) as graph:
        drift = Drift(
            graph,
            vectors,
            outbox,
            excluded_types=frozenset({"MetaPattern"}),
            wait_s=wait_s,
            page=page,
        )
        await graph.ensure(TENANT)
        yield Place(settings, graph, vectors, vectors._client, clients, outbox, streams, drift)
