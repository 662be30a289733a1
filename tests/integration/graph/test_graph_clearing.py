"""A write that clears several properties of a node clears these and loses no other.

FalkorDB 4.16.3 mixes up which properties go when one SET clears two or more and one of them is
the node's last (decision 0008), so each property is the last one in one of the memories here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory, next_version, now_ms
from shared.graph.records import CREATED
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, Related
from shared.graph.store import GraphStore
from shared.graph.upkeep.backup import Restored
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, cypher

_STAGES = ("enrich", "ask", "embed", "relate")
# Every property that a memory may lack, with a value as the graph stores it.
_FILLED = {
    "t_valid": "1",
    "t_invalid": "9000000000000",
    "session_id": "'s'",
    "speaker": "'Ada'",
    "metadata": "'{\"a\":1}'",
    "entities": "'{}'",
    "summary": "'short'",
    "enriched_at": "1",
    "enrichment": '\'{"last_run":null,"semantic_neighbors":[]}\'',
    "text_hash": "'h'",
    "relevance_score": "0.5",
    "archived_at": "1",
    "embed_anew": "true",
    "protected_reason": "'r'",
    "embedding": "'AAAAAA=='",
    "embedding_model": "'m'",
    **{f"{stage}_due": "1" for stage in _STAGES},
    **{f"{stage}_waits": "1" for stage in _STAGES},
    **{f"{stage}_failed_version": "1" for stage in _STAGES},
}
# Properties that the writes below give to a memory.
_GIVEN = ("related_at", "embedded_at", "progress")
_LACKING: dict[str, Any] = {
    **dict.fromkeys(("t_valid", "t_invalid", "session_id", "speaker")),
    "metadata": {},
}


@dataclass(frozen=True)
class Change:
    """A write of the store over memories, and the properties that it clears."""

    name: str
    write: Callable[[GraphStore, list[Memory]], Awaitable[object]]
    clears: frozenset[str]


async def _replace(store: GraphStore, memories: list[Memory]) -> None:
    for seen in memories:
        version = next_version(seen.version, now_ms())
        new = replace(seen, content="new", version=version, payload_version=version, **_LACKING)
        assert await store.memories.replace(TENANT, new, seen=seen)


async def _restore(store: GraphStore, memories: list[Memory]) -> None:
    newer = [a_memory(id=memory.id, version=memory.version + 1, **_LACKING) for memory in memories]
    written = await store.restore.memories(
        TENANT, [Restored(memory, memory.version) for memory in newer]
    )
    assert written.updated == len(memories)


async def _enriched(store: GraphStore, memories: list[Memory]) -> None:
    block = {"last_run": "now", "semantic_neighbors": []}
    rows = [Enriched(memory.id, memory.version, (), (), {}, block) for memory in memories]
    assert len(await store.work.enriched(TENANT, rows)) == len(rows)


async def _embedded(store: GraphStore, memories: list[Memory]) -> None:
    rows = [
        Embedded(memory.id, memory.payload_version, "h", relate=True, anew=True)
        for memory in memories
    ]
    assert len((await store.work.embedded(TENANT, rows)).applied) == len(rows)


async def _related(store: GraphStore, memories: list[Memory]) -> None:
    rows = [Related(memory.id, "h", memory.payload_version, ()) for memory in memories]
    assert len(await store.work.related(TENANT, rows)) == len(rows)


async def _chat_answered(store: GraphStore, memories: list[Memory]) -> None:
    await store.work.ask_done(TENANT, [(memory.id, memory.version) for memory in memories])


async def _failed(store: GraphStore, memories: list[Memory]) -> None:
    rows = [(memory.id, memory.payload_version) for memory in memories]
    assert len(await store.work.give_up(TENANT, Stage.EMBED, rows)) == len(rows)


async def _requeued(store: GraphStore, memories: list[Memory]) -> None:
    await store.work.requeue(TENANT, Stage.ENRICH, [memory.id for memory in memories])


_VECTOR = {"embedding", "embedding_model"}
_UNENRICHED = {"entities", "enrichment", "summary", "enriched_at", "text_hash"}
_PROTECTION = {"relevance_score", "archived_at", "protected_reason"}
CHANGES = (
    Change("replace", _replace, frozenset(_LACKING.keys() | _VECTOR)),
    Change(
        "restore",
        _restore,
        frozenset(_LACKING.keys() | _VECTOR | _UNENRICHED | _PROTECTION | {"relate_due"}),
    ),
    Change("enriched", _enriched, frozenset({"entities", "summary", "enrich_due", "ask_due"})),
    Change("embedded", _embedded, frozenset({"embed_due"})),
    Change("related", _related, frozenset({"relate_due"})),
    Change("ask_done", _chat_answered, frozenset({"ask_due"})),
    Change("give_up", _failed, frozenset({"embed_waits"})),
    Change("requeue", _requeued, frozenset()),
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_a_write_loses_no_property_that_it_does_not_clear(
    store: GraphStore, settings: GraphSettings, change: Change
) -> None:
    memories = await _filled(store, settings)
    before = await _properties(settings)
    stored = await store.memories.get(TENANT, [memory.id for memory in memories])
    await change.write(store, [stored[memory.id] for memory in memories])
    after = await _properties(settings)
    for last, memory in zip(_FILLED, memories, strict=True):
        gone = before[memory.id] - after[memory.id]
        assert gone == change.clears, f"{last} was the last property"


async def _filled(store: GraphStore, settings: GraphSettings) -> list[Memory]:
    """Store one memory for each property of _FILLED, which is its last; it has all others."""
    memories = [a_memory(f"{name} is the last") for name in _FILLED]
    await store.memories.create_many(TENANT, memories)
    for name, value in _FILLED.items():
        await cypher(settings, f"MATCH (m:Memory) SET m.{name} = {value}")
    for (name, value), memory in zip(_FILLED.items(), memories, strict=True):
        for each in ("null", value):
            await cypher(settings, f"MATCH (m:Memory {{id: '{memory.id}'}}) SET m.{name} = {each}")
    return memories


async def _properties(settings: GraphSettings) -> dict[str, set[str]]:
    """Return the names of the properties that each memory has, by its id."""
    names = sorted({*CREATED, *_FILLED, *_GIVEN})
    present = ", ".join(f"m.{name} IS NOT NULL" for name in names)
    rows = await cypher(settings, f"MATCH (m:Memory) RETURN m.id, {present}")
    return {
        row[0]: {name for name, has in zip(names, row[1:], strict=True) if has == "true"}
        for row in rows
    }
