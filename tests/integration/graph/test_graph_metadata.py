"""Metadata of any shape: 100 000 different keys in one graph, and every value comes back."""

from __future__ import annotations

from shared.config import GraphSettings
from shared.graph.store import GraphStore
from tests.support.stores.graphs import TENANT, a_memory, cypher

KEYS = 100_000
_PER_MEMORY = 200


async def test_a_hundred_thousand_keys_keep_their_values(
    store: GraphStore, settings: GraphSettings
) -> None:
    """As properties they would run past 65 536, where FalkorDB mixes values up silently."""
    memories = [
        a_memory(
            f"text {first}",
            metadata={f"key {n}": {"value": n} for n in range(first, first + _PER_MEMORY)},
        )
        for first in range(0, KEYS, _PER_MEMORY)
    ]
    for at in range(0, len(memories), 100):
        await store.memories.create_many(TENANT, memories[at : at + 100])
    found = await store.memories.get(TENANT, [memory.id for memory in memories])
    assert [found[memory.id].metadata for memory in memories] == [
        memory.metadata for memory in memories
    ]
    names = await cypher(settings, "CALL db.propertyKeys() YIELD propertyKey RETURN count(*)")
    assert int(names[0][0]) < 200
