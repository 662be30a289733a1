"""GET /recall of a mix at 10 000 memories, against the bare sum of what it cannot do without.

`EUNOE_BENCH_MEMORIES=100000` measures a larger store. Memories are written past the API with
seeded vectors, so that filling takes seconds; words are real, and the query is embedded by
the local model on both sides.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import aiohttp
import numpy as np

from shared.config import VectorSettings
from shared.domain.memory import Memory, now_ms
from shared.domain.scope import Scope
from shared.graph.store import GraphStore
from shared.models.providers.local import LocalEmbedding
from shared.vectors import VectorQuery, VectorStore, point_for
from shared.vectors.sparse import sparse_document, sparse_query
from tests.bench.figures import Table, latencies, median
from tests.bench.filled import opened
from tests.bench.notes import notes
from tests.support.stack.stack import Stack, running
from tests.support.waiting.conditions import wait_until

COUNT = int(os.environ.get("EUNOE_BENCH_MEMORIES", "10000"))
ROUNDS = 3
_SECONDS = 8.0
_CONNECTIONS = 16
_CHUNK = 500
_DAY_MS = 86_400_000
_MIX: tuple[str, ...] = ("semantic",) * 50 + ("keyword",) * 15 + ("tagged",) * 15 + ("time",) * 5
_MIX += ("tag_only",) * 5 + ("expand",) * 10


@dataclass(frozen=True, slots=True)
class Filled:
    """The stores as the stack has them, and what was put into them."""

    graph: GraphStore
    vectors: VectorStore
    model: LocalEmbedding
    memories: list[Memory]


async def run(folder: Path) -> Table:
    table = Table()
    async with running(folder, None, "--only", "api") as stack:
        filled = await fill(stack)
        indexed_s = await indexed(stack, filled)
        gc.freeze()  # what the measuring process holds is not to be counted as waiting
        rounds = [await one_round(stack, filled, seed) for seed in range(ROUNDS)]
        for what in ("bare sum", "/recall, 1 connection", f"/recall, {_CONNECTIONS} connections"):
            rows = [each[what] for each in rounds]
            table.add(what, **{name: median([row[name] for row in rows]) for name in rows[0]})
        await filled.graph.close()
        await filled.vectors.close()
    bare, one, many = table.rows
    table.facts["memories"] = COUNT
    table.facts["indexed s after filling"] = indexed_s
    table.facts["p50 over the bare sum"] = one["p50 ms"] / bare["p50 ms"]
    table.facts["p99 over p50"] = one["p99 ms"] / one["p50 ms"]
    table.facts["throughput, 16 over 1"] = many["per s"] / one["per s"]
    return table


async def fill(stack: Stack) -> Filled:
    graph, model = await opened(stack), await LocalEmbedding.load(threads=1)
    vectors = await asyncio.to_thread(VectorStore, VectorSettings(QDRANT_URL=stack.qdrant_url))
    await vectors.live.open(model.name, model.dimension)
    rng, texts, memories = random.Random(11), notes(min(COUNT, 12_000), seed=11), list[Memory]()
    noise = np.random.default_rng(11)
    for _ in range(0, COUNT, _CHUNK):
        chunk = [_memory(rng, rng.choice(texts)) for _ in range(_CHUNK)]
        await graph.memories.create_many("default", chunk)
        dense = noise.standard_normal((_CHUNK, model.dimension)).astype(np.float32)
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)
        points = [
            point_for(
                "default",
                memory,
                text_hash="seeded",
                vectors={"dense": row, "context": row, "bm25": sparse_document(memory.content)},
            )
            for memory, row in zip(chunk, dense, strict=True)
        ]
        await vectors.upsert("default", points)
        memories += chunk
    # Nothing waits for a worker: the memories are as if all had been done.
    await stack.stores().rows(
        "MATCH (m:Memory) SET m.embed_due = null, m.enrich_due = null,"
        " m.enriched_version = m.version, m.embedded_version = m.payload_version RETURN count(m)"
    )
    return Filled(graph, vectors, model, memories)


async def indexed(stack: Stack, filled: Filled) -> float:
    """Wait until every vector is in its index, as in a store of that size; the seconds."""
    live = filled.vectors.live.generation
    assert live is not None
    began = time.perf_counter()
    async with aiohttp.ClientSession(stack.qdrant_url) as http:

        async def green() -> bool:
            async with http.get(f"/collections/{live.collection}") as answer:
                return bool((await answer.json())["result"]["status"] == "green")

        await wait_until(green, "every vector is indexed", 600.0)
    return round(time.perf_counter() - began, 1)


def _memory(rng: random.Random, text: str) -> Memory:
    at = now_ms() - rng.randrange(365 * _DAY_MS)
    return Memory(
        id=str(UUID(int=rng.getrandbits(128), version=4)),
        version=at,
        payload_version=at,
        content=text,
        importance=rng.random(),
        confidence=rng.random(),
        tags=(f"project:{rng.randrange(20)}", f"person:{rng.randrange(20)}", "bench"),
        timestamp=at,
        updated_at=at,
        last_accessed=at,
        t_valid=at,
    )


async def one_round(stack: Stack, filled: Filled, seed: int) -> dict[str, dict[str, float]]:
    rng = random.Random(seed)
    found = {"bare sum": _figures(await bare(filled, rng), _SECONDS)}
    async with aiohttp.ClientSession(stack.url) as http:
        for connections in (1, _CONNECTIONS):
            name = f"/recall, {connections} connection{'s' * (connections > 1)}"
            seconds = await load(http, filled, rng, connections)
            found[name] = _figures(seconds, _SECONDS)
    return found


def _figures(seconds: Sequence[float], lasted_s: float) -> dict[str, float]:
    return {"per s": len(seconds) / lasted_s, **latencies(seconds)}


async def bare(filled: Filled, rng: random.Random) -> list[float]:
    """One embedding, one dense query, one sparse query, one read of fifty ids: their sums."""
    until, sums = time.perf_counter() + _SECONDS, list[float]()
    everything = Scope()
    while time.perf_counter() < until:
        text = _query(rng, filled)
        ids = [memory.id for memory in rng.sample(filled.memories, 50)]
        began = time.perf_counter()
        vector = await filled.model.embed_query(text)
        dense = VectorQuery("dense", vector, 50, everything)
        await filled.vectors.search("default", [dense])
        words = VectorQuery("bm25", sparse_query(text), 50, everything)
        await filled.vectors.search("default", [words])
        await filled.graph.memories.get("default", ids)
        sums.append(time.perf_counter() - began)
    return sums


async def load(
    http: aiohttp.ClientSession, filled: Filled, rng: random.Random, connections: int
) -> list[float]:
    until, seconds = time.perf_counter() + _SECONDS, list[float]()

    async def worker() -> None:
        while time.perf_counter() < until:
            params = _params(rng, filled)
            began = time.perf_counter()
            async with http.get("/recall", params=params) as answer:
                body = await answer.json()
                assert answer.status == 200, body
            seconds.append(time.perf_counter() - began)

    work: list[Awaitable[None]] = [worker() for _ in range(connections)]
    await asyncio.gather(*work)
    return seconds


def _query(rng: random.Random, filled: Filled) -> str:
    """Seven words of some memory; a number keeps the query's vector out of the cache."""
    words = rng.choice(filled.memories).content.split()
    at = rng.randrange(max(1, len(words) - 7))
    return f"{' '.join(words[at : at + 7])} {rng.randrange(10**6)}"


def _params(rng: random.Random, filled: Filled) -> list[tuple[str, str]]:
    kind, memory = rng.choice(_MIX), rng.choice(filled.memories)
    params = [("limit", "10")]
    extra: dict[str, Callable[[], tuple[str, str]]] = {
        "tagged": lambda: ("tags", memory.tags[0]),
        "tag_only": lambda: ("tags", memory.tags[0]),
        "time": lambda: ("time_query", "last 30 days"),
        "expand": lambda: ("expand_relations", "true"),
    }
    if kind == "keyword":
        params.append(("query", " ".join(rng.sample(memory.content.split(), 3))))
    elif kind != "tag_only":
        params.append(("query", _query(rng, filled)))
    return params + ([extra[kind]()] if kind in extra else [])
