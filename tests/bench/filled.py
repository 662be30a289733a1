"""A graph with many memories, written without the API, whose speed is not measured."""

from __future__ import annotations

import random
from uuid import UUID

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.graph.store import GraphStore
from tests.bench.notes import notes
from tests.support.stack.stack import Stack

_DAY_MS = 86_400_000
_CHUNK = 500


async def opened(stack: Stack) -> GraphStore:
    settings = GraphSettings(FALKORDB_URL=stack.redis_url.removesuffix("/0"))
    # Due far in the future: the relay is to leave them alone.
    return await GraphStore(settings, outbox_delay_s=10 * 86_400).open()


async def fill(store: GraphStore, count: int, *, seed: int = 5) -> list[str]:
    """`count` memories of the last two years, a quarter of them with relations; their ids."""
    rng = random.Random(seed)
    texts = notes(2000, seed=seed)
    now, ids = now_ms(), list[str]()
    for _ in range(0, count, _CHUNK):
        chunk = []
        for _ in range(_CHUNK):
            at = now - rng.randrange(730 * _DAY_MS)
            memory_id = str(UUID(int=rng.getrandbits(128), version=4))
            chunk.append(
                Memory(
                    id=memory_id,
                    version=at,
                    payload_version=at,
                    content=rng.choice(texts),
                    importance=rng.random(),
                    confidence=rng.random(),
                    tags=("filled",),
                    timestamp=at,
                    updated_at=at,
                    last_accessed=at,
                    t_valid=at,
                )
            )
        await store.memories.create_many("default", chunk)
        ids += [memory.id for memory in chunk]
    return ids


async def connect(stack: Stack, ids: list[str], edges: int, *, seed: int = 6) -> None:
    """SIMILAR_TO edges between random pairs."""
    rng = random.Random(seed)
    for at in range(0, edges, 2000):
        pairs = [[rng.choice(ids), rng.choice(ids)] for _ in range(min(2000, edges - at))]
        text = str(pairs).replace("'", '"')
        await stack.stores().rows(
            f"UNWIND {text} AS p MATCH (a:Memory {{id: p[0]}}), (b:Memory {{id: p[1]}})"
            " CREATE (a)-[:SIMILAR_TO {score: 0.9}]->(b)"
        )
