"""metadata.enrichment: two stages write it, and a PATCH in flight loses nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.graph.stages.patterns import Typed
from shared.graph.stages.writes import Embedded, Related
from shared.streams.job import Job
from tests.support.stores.graphs import TENANT
from tests.support.workers.enriching import Enriching, Held, enriching, typed_by_rule

TEXT = "Robert Miller decided to use Kafka"


async def _related(work: Enriching, memory: Memory, *near: tuple[str, float]) -> None:
    held = await work.now(memory)
    done = [Embedded(held.id, held.payload_version, "hash", relate=True)]
    await work.graph.work.embedded(TENANT, done)
    row = Related(held.id, "hash", held.payload_version, near, nearest=2)
    assert await work.graph.work.related(TENANT, [row]) == {held.id}


async def test_the_block_is_automems(work: Enriching) -> None:
    older, memory = typed_by_rule("older", timestamp=1_000), typed_by_rule(TEXT, timestamp=2_000)
    await work.store(older, memory)
    await work.enrich(memory)
    block = (await work.now(memory)).enrichment
    assert list(block) == [
        *("last_run", "forced", "temporal_links", "patterns_detected", "semantic_neighbors")
    ]
    assert datetime.fromisoformat(block["last_run"]).tzinfo is not None
    assert (block["forced"], block["temporal_links"]) == (False, 1)
    assert (block["patterns_detected"], block["semantic_neighbors"]) == ([], [])


@pytest.mark.parametrize("first", ["enrich", "relate"])
async def test_neighbours_are_in_it_whichever_stage_comes_first(
    work: Enriching, first: str
) -> None:
    memory, near, far = (typed_by_rule(f"{TEXT} {n}") for n in range(3))
    await work.store(memory, near, far)
    if first == "enrich":
        await work.enrich(memory)
    await _related(work, memory, (near.id, 0.9123456789), (far.id, 0.81), (near.id, 0.5))
    neighbors = [{"id": near.id, "score": 0.912346}, {"id": far.id, "score": 0.81}]
    assert (await work.now(memory)).enrichment["semantic_neighbors"] == neighbors
    await work.enrich(memory, run="again")
    block = (await work.now(memory)).enrichment
    assert block["semantic_neighbors"] == neighbors
    assert (block["forced"], block["last_run"] is None) == (True, False)
    await _related(work, memory, (far.id, 0.95))
    after = (await work.now(memory)).enrichment
    assert after == {**block, "semantic_neighbors": [{"id": far.id, "score": 0.95}]}


async def test_a_block_without_neighbours_takes_them(work: Enriching) -> None:
    """As older versions and backups wrote it; its texts may look like anything."""
    hostile = ',"semantic_neighbors":[]}'
    memory = typed_by_rule(TEXT, enrichment={"last_run": "x", "note": hostile})
    await work.store(memory)
    await _related(work, memory, (memory.id, 0.9))
    assert (await work.now(memory)).enrichment == {
        "last_run": "x",
        "note": hostile,
        "semantic_neighbors": [{"id": memory.id, "score": 0.9}],
    }


async def test_a_patch_while_enriching_keeps_everything_it_wrote(
    clients: Any, make_stream: Any, settings: GraphSettings
) -> None:
    pipe = await asyncio.to_thread(Held)
    async with enriching(clients, make_stream, settings, pipe=pipe) as work:
        memory = typed_by_rule(TEXT, tags=("Old",), metadata={"was": 1})
        await work.store(memory)
        enriching_it = asyncio.create_task(work.enrich(memory))
        await asyncio.to_thread(pipe.began.wait, 10)
        patched = await work.patch(
            memory, tags=["New"], metadata={"now": {"deep": [1, 2]}}, type="Habit", confidence=0.9
        )
        pipe.released.set()
        await enriching_it
        between = await work.now(memory)
        assert (between, between.enriched) == (patched, False)
        await work.enrich(memory)
        after = await work.now(memory)
        assert after.enriched
        assert (after.tags, after.type, after.confidence) == (("New",), "Habit", 0.9)
        assert after.metadata == {"now": {"deep": [1, 2]}}
        assert "entity:people:robert-miller" in after.entity_tags
        assert after.version == patched.version


async def test_a_delete_while_enriching_wins(
    clients: Any, make_stream: Any, settings: GraphSettings
) -> None:
    pipe = await asyncio.to_thread(Held)
    async with enriching(clients, make_stream, settings, pipe=pipe) as work:
        memory = typed_by_rule(TEXT)
        await work.store(memory)
        enriching_it = asyncio.create_task(work.enrich(memory))
        await asyncio.to_thread(pipe.began.wait, 10)
        await work.graph.memories.delete(TENANT, [memory.id])
        pipe.released.set()
        await enriching_it
        assert await work.graph.memories.get(TENANT, [memory.id]) == {}
        assert (await work.stats.read(TENANT))["stats"]["successes"] == 0


async def test_an_answer_of_the_model_is_not_undone_by_a_run_that_began_before(
    clients: Any, make_stream: Any, settings: GraphSettings
) -> None:
    pipe = await asyncio.to_thread(Held)
    async with enriching(clients, make_stream, settings, pipe=pipe) as work:
        memory = typed_by_rule("plain text")
        await work.store(memory)
        enriching_it = asyncio.create_task(work.enrich(memory))
        await asyncio.to_thread(pipe.began.wait, 10)
        typed = Typed(memory.id, memory.version, "Habit", 0.8)
        [again] = await work.graph.patterns.typed(TENANT, [typed])
        assert await work.graph.patterns.typed(TENANT, [typed]) == []
        pipe.released.set()
        await enriching_it
        after = await work.now(memory)
        assert (after.type, after.confidence, after.enriched) == ("Habit", 0.8, False)
        await work.enricher([Job(TENANT, again.id, again.version)])
        assert ((await work.now(memory)).type, (await work.now(memory)).enriched) == ("Habit", True)
