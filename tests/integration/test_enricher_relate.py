"""SIMILAR_TO: complete, whatever the order in which single stores are embedded and related."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray

from services.enricher.stages.relate import Relater
from shared.config import EnrichmentSettings, GraphSettings
from shared.domain.memory import Memory
from shared.graph.stages.writes import Embedded
from shared.graph.store import GraphStore
from shared.streams.job import Job
from shared.telemetry.metrics import STORE_DURATION
from shared.vectors import VectorStore
from tests.support.stores.graphs import TENANT, a_memory, cypher
from tests.support.stores.vector_stores import new_store, point
from tests.support.stores.vector_stores import settings as vector_settings

COUNT = 1000
_DIMENSION = 48
_EDGES = "MATCH (a)-[x:SIMILAR_TO]->(b) RETURN a.id, b.id, x.score"
# The server counts in 32-bit floats.
_TOLERANCE = 1e-4
# Groups from one to many more than a memory's own nearest, of very different density.
_SIZES = (1, 2, 3, 5, 6, 8, 13, 40, 90, 160)

Vectors = NDArray[np.float32]


@pytest.fixture
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(vector_settings(qdrant_url), opened=False) as store:
        await store.live.open("model", _DIMENSION)
        yield store


def _texts_of_many_topics(count: int) -> Vectors:
    seeded = np.random.default_rng(7)
    topics: list[Vectors] = []
    while sum(map(len, topics)) < count:
        size = int(seeded.choice(_SIZES))
        # Some lie nearer to the middle than others: they are everybody's nearest.
        spread = seeded.uniform(0.05, 0.75) * seeded.uniform(0.3, 1.2, size=(size, 1))
        around = seeded.normal(size=(size, _DIMENSION)) * spread
        topics.append((seeded.normal(size=_DIMENSION) + around).astype(np.float32))
    found: Vectors = np.concatenate(topics)[:count]
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


class Stored:
    """Single stores: each memory gets its vector and is related at some time of its own."""

    def __init__(self, graph: GraphStore, vectors: VectorStore) -> None:
        self.graph = graph
        self.vectors = vectors
        self.relater = Relater(graph, vectors, EnrichmentSettings(_env_file=None))

    async def embed(self, memories: list[Memory], dense: list[Vectors]) -> None:
        points = [
            point(TENANT, memory, row, text_hash="h")
            for memory, row in zip(memories, dense, strict=True)
        ]
        await self.vectors.upsert(TENANT, points)
        done = [Embedded(each.id, each.payload_version, "h", relate=True) for each in memories]
        assert len((await self.graph.work.embedded(TENANT, done)).applied) == len(memories)

    async def relate(self, memories: list[Memory]) -> None:
        await self.relater([Job(TENANT, each.id, each.payload_version) for each in memories])


async def test_every_close_pair_is_linked_after_a_thousand_single_stores(
    store: GraphStore, vectors: VectorStore, settings: GraphSettings
) -> None:
    dense = _texts_of_many_topics(COUNT)
    memories = [a_memory(f"text {n}") for n in range(COUNT)]
    await store.memories.create_many(TENANT, memories)
    order = list(range(COUNT))
    random.Random(3).shuffle(order)
    stored = Stored(store, vectors)

    async def lane(indexes: list[int]) -> None:
        """One embedder's and one enricher's turn after the other, in batches of a few."""
        at = 0
        while at < len(indexes):
            batch = indexes[at : (at := at + 1 + at % 7)]
            await stored.embed([memories[n] for n in batch], [dense[n] for n in batch])
            await stored.relate([memories[n] for n in batch])

    await asyncio.gather(*(lane(order[first::3]) for first in range(3)))
    missing, linked = await _missing(settings, memories, dense)
    assert linked > COUNT
    assert missing == []
    again = [stored.relate(memories[at : at + 64]) for at in range(0, COUNT, 64)]
    for relating in again:
        await relating
    # Twice is once: what is only in the other's list stays, though it may be its last.
    assert (await _missing(settings, memories, dense))[0] == []


async def test_a_large_batch_is_related_with_a_fixed_number_of_calls(
    store: GraphStore, vectors: VectorStore
) -> None:
    """200 memories that are all alike, in one batch."""
    seeded = np.random.default_rng(1)
    noise = seeded.normal(size=(200, _DIMENSION)) * 0.05
    dense = (seeded.normal(size=_DIMENSION) + noise).astype(np.float32)
    memories = [a_memory(f"text {n}") for n in range(200)]
    await store.memories.create_many(TENANT, memories)
    stored = Stored(store, vectors)
    await stored.embed(memories, list(dense))
    before = _calls()
    await stored.relate(memories)
    # get, settled, strongest, edges, related in the graph; two looks, their vectors, the alias
    assert _calls() - before <= 12


def _calls() -> float:
    return sum(
        sample.value
        for metric in STORE_DURATION.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    )


async def _missing(
    settings: GraphSettings, memories: list[Memory], dense: Vectors
) -> tuple[list[tuple[int, int, float]], int]:
    """Pairs that brute force finds and the graph lacks, in either direction; and the edges."""
    likeness = dense @ dense.T
    np.fill_diagonal(likeness, -1)
    fifth = np.sort(likeness, axis=1)[:, -5]
    at = {memory.id: n for n, memory in enumerate(memories)}
    edges = {(at[a], at[b]): float(score) for a, b, score in await cypher(settings, _EDGES)}
    for (a, b), score in edges.items():
        assert score == pytest.approx(float(likeness[a, b]), abs=1e-3)
    missing = [
        (a, b, float(likeness[a, b]))
        for a, b in zip(*np.nonzero(likeness >= 0.8 + _TOLERANCE), strict=True)
        if likeness[a, b] > min(fifth[a], fifth[b]) + _TOLERANCE
        and ((a, b) not in edges or (b, a) not in edges)
    ]
    return missing, len(edges)
