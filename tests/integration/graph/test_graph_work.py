"""A worker's write twice has one effect, and a PATCH or DELETE in between wins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory, next_version, now_ms
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, EmbeddedResult, EnrichedResult, Related
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, cypher

ADA = ("people", "ada", "Ada")
KAFKA = ("tools", "kafka", "Kafka")
EDGES = "MATCH (a)-[x]->(b) RETURN type(x), a.id, b.id, x.score, x.count, x.updated_at"


@pytest.fixture
async def memory(store: GraphStore) -> Memory:
    memory = a_memory(tags=("Team",), session_id="s")
    await store.memories.create(TENANT, memory)
    return memory


@pytest.fixture
async def others(store: GraphStore) -> list[Memory]:
    memories = [a_memory(f"other {n}") for n in range(4)]
    await store.memories.create_many(TENANT, memories)
    return memories


async def _now(store: GraphStore, memory: Memory) -> Memory:
    return (await store.memories.get(TENANT, [memory.id]))[memory.id]


async def _patch(store: GraphStore, memory: Memory) -> Memory:
    seen = await _now(store, memory)
    version = next_version(seen.version, now_ms())
    changed = replace(seen, content="patched", version=version, payload_version=version)
    assert await store.memories.replace(TENANT, changed, seen=seen)
    return changed


def _found(
    memory: Memory, *entities: tuple[str, str, str], previous: tuple[str, ...] = ()
) -> Enriched:
    return Enriched(
        memory.id,
        memory.version,
        memory.tags,
        tuple(f"entity:{category}:{slug}" for category, slug, _ in entities),
        {category: [name] for category, _, name in entities},
        {"last_run": "2026-01-01T00:00:00+00:00", "semantic_neighbors": []},
        summary="short",
        entity_nodes=entities,
        previous_ids=previous,
    )


async def _edges(settings: GraphSettings) -> list[list[object]]:
    return sorted(await cypher(settings, EDGES), key=repr)


async def test_who_did_not_see_the_wish_for_new_vectors_leaves_it(store: GraphStore) -> None:
    memory = a_memory()
    await store.memories.create(TENANT, memory)
    await store.work.requeue(TENANT, Stage.EMBED, [memory.id], anew=True)
    late = Embedded(memory.id, memory.payload_version, "h", relate=False)
    result = await store.work.embedded(TENANT, [late])
    assert not result.absent | result.applied
    assert (await store.memories.get(TENANT, [memory.id]))[memory.id].embed_anew
    assert (await store.work.embedded(TENANT, [late._replace(anew=True)])).applied == {memory.id}
    assert not (await store.memories.get(TENANT, [memory.id]))[memory.id].embed_anew


async def test_enriching_writes_tags_entities_and_what_came_before(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    row = _found(memory, ADA, KAFKA, previous=(others[0].id, "absent", memory.id))
    results = await store.work.enriched(TENANT, [row])
    after = await _now(store, memory)
    assert results == {memory.id: EnrichedResult(after.payload_version, payload_changed=True)}
    assert after.payload_version > memory.payload_version
    assert after.enriched
    assert after.version == memory.version
    assert after.entity_tags == ("entity:people:ada", "entity:tools:kafka")
    assert after.entities == {"people": ["Ada"], "tools": ["Kafka"]}
    assert after.enrichment == row.enrichment
    assert (after.summary, after.type) == ("short", memory.type)
    assert (await store.memories.counts(TENANT)).lagging[Stage.ENRICH] == len(others)
    assert await store.memories.by_tags(TENANT, ["entity:people:ada"], 5) == [after]
    assert await store.memories.by_tags(TENANT, ["team"], 5) == [after]
    assert {(edge[0], edge[1], edge[2]) for edge in await _edges(settings)} == {
        ("PRECEDED_BY", memory.id, others[0].id),
        ("REFERENCED_IN", "entity:people:ada", memory.id),
        ("REFERENCED_IN", "entity:tools:kafka", memory.id),
    }


async def test_enriching_twice_is_enriching_once(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    row = _found(memory, ADA, previous=(others[0].id, others[1].id))
    await store.work.enriched(TENANT, [row])
    once, edges = await _now(store, memory), await _edges(settings)
    results = await store.work.enriched(TENANT, [row])
    assert results == {memory.id: EnrichedResult(once.payload_version, payload_changed=False)}
    assert replace(await _now(store, memory), enriched_at=once.enriched_at) == once
    assert await _edges(settings) == edges
    assert [edge[4] for edge in edges if edge[0] == "PRECEDED_BY"] == [1, 1]


async def test_what_no_longer_holds_is_taken_away(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    first = _found(memory, ADA, KAFKA, previous=(others[0].id, others[1].id))
    await store.work.enriched(TENANT, [first])
    await store.work.enriched(TENANT, [_found(memory, KAFKA, previous=(others[1].id,))])
    assert {(edge[0], edge[1], edge[2]) for edge in await _edges(settings)} == {
        ("PRECEDED_BY", memory.id, others[1].id),
        ("REFERENCED_IN", "entity:tools:kafka", memory.id),
    }
    await store.work.enriched(TENANT, [_found(memory)])
    assert await _edges(settings) == []
    assert (await _now(store, memory)).entity_tags == ()


async def test_who_is_not_later_any_more_is_not_preceded(
    store: GraphStore, memory: Memory, settings: GraphSettings
) -> None:
    days = {"twin": 0, "day": 1, "week": 7, "fortnight": 14}
    late = {
        name: a_memory(name, timestamp=memory.timestamp + n * 86_400_000)
        for name, n in days.items()
    }
    await store.memories.create_many(TENANT, list(late.values()))
    rows = [_found(each, previous=(memory.id,)) for each in late.values()]
    await store.work.enriched(TENANT, rows)
    await store.work.enriched(TENANT, [_found(memory)])
    left = {late["day"].id, late["week"].id}
    assert {edge[1] for edge in await _edges(settings)} == left


async def test_a_patch_between_reading_and_writing_wins(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    patched = await _patch(store, memory)
    other = _found(others[0], ADA)
    results = await store.work.enriched(TENANT, [_found(memory, KAFKA), other])
    assert list(results) == [others[0].id]
    late = Embedded(memory.id, memory.payload_version, "old", relate=True)
    embedded = await store.work.embedded(TENANT, [late])
    assert embedded == EmbeddedResult(frozenset(), frozenset())
    row = Related(memory.id, "old", memory.payload_version, ((others[1].id, 0.9),))
    assert await store.work.related(TENANT, [row]) == set()
    assert await store.work.give_up(TENANT, Stage.ENRICH, [(memory.id, memory.version)]) == set()
    assert await _now(store, memory) == patched
    assert [edge[2] for edge in await _edges(settings)] == [others[0].id]


async def test_a_deleted_memory_is_absent_and_does_not_come_back(
    store: GraphStore, memory: Memory, others: list[Memory]
) -> None:
    await store.memories.delete(TENANT, [memory.id])
    assert await store.work.enriched(TENANT, [_found(memory, ADA)]) == {}
    rows = [
        Embedded(memory.id, memory.payload_version, "h", relate=True),
        Embedded(others[0].id, others[0].payload_version, "h", relate=True),
    ]
    result = await store.work.embedded(TENANT, rows)
    assert result == EmbeddedResult(frozenset({memory.id}), frozenset({others[0].id}))
    near = Related(others[0].id, "h", others[0].payload_version, ((memory.id, 0.9),))
    assert await store.work.related(TENANT, [near]) == {others[0].id}
    assert await store.memories.get(TENANT, [memory.id]) == {}


async def test_a_new_classification_moves_the_point_too(store: GraphStore, memory: Memory) -> None:
    row = replace(_found(memory), type="Insight", confidence=0.7)
    result = (await store.work.enriched(TENANT, [row]))[memory.id]
    assert result.payload_changed
    after = await _now(store, memory)
    assert (after.type, after.confidence) == ("Insight", 0.7)
    assert after.payload_version == result.payload_version > memory.payload_version


async def test_unchanged_tags_make_no_new_embedding_due(store: GraphStore, memory: Memory) -> None:
    await store.work.embedded(
        TENANT, [Embedded(memory.id, memory.payload_version, "h", relate=False)]
    )
    result = (await store.work.enriched(TENANT, [_found(memory)]))[memory.id]
    assert result == EnrichedResult(memory.payload_version, payload_changed=False)
    assert await store.work.next_due(TENANT) is None
    result = (await store.work.enriched(TENANT, [_found(memory, ADA)]))[memory.id]
    assert result.payload_changed
    assert (await store.memories.counts(TENANT)).lagging[Stage.EMBED] == 1


async def test_a_batch_may_share_entities_and_predecessors(
    store: GraphStore, others: list[Memory], settings: GraphSettings
) -> None:
    rows = [_found(other, ADA, previous=(others[0].id,)) for other in others]
    assert len(await store.work.enriched(TENANT, rows)) == 4
    assert await cypher(settings, "MATCH (e:Entity) RETURN e.id, e.name") == [
        ["entity:people:ada", "Ada"]
    ]
    assert len(await _edges(settings)) == 4 + 3


async def test_an_entity_remembers_its_latest_reference(
    store: GraphStore, settings: GraphSettings
) -> None:
    new, old = a_memory(timestamp=2000), a_memory(timestamp=1000)
    await store.memories.create_many(TENANT, [new, old])
    for memory in (new, old):
        await store.work.enriched(TENANT, [_found(memory, ADA)])
    assert await cypher(settings, "MATCH (e:Entity) RETURN e.last_referenced_at") == [[2000]]


async def test_embedding_settles_the_memory_and_makes_relating_due(
    store: GraphStore, memory: Memory
) -> None:
    row = Embedded(memory.id, memory.payload_version, "h", relate=True)
    for _ in range(2):
        assert (await store.work.embedded(TENANT, [row])).applied == {memory.id}
    counts = await store.memories.counts(TENANT)
    assert counts.lagging == {Stage.ENRICH: 1, Stage.EMBED: 0, Stage.RELATE: 1}
    after = await _now(store, memory)
    assert (after.embedded_version, after.text_hash) == (memory.payload_version, "h")
    await store.work.related(TENANT, [Related(memory.id, "h", memory.payload_version, ())])
    assert (await store.memories.counts(TENANT)).lagging[Stage.RELATE] == 0
    only_payload = row._replace(relate=False)
    assert (await store.work.embedded(TENANT, [only_payload])).applied == {memory.id}
    assert (await store.memories.counts(TENANT)).lagging[Stage.RELATE] == 0


async def test_neighbours_are_linked_both_ways_once(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    await store.work.embedded(
        TENANT, [Embedded(memory.id, memory.payload_version, "h", relate=True)]
    )
    near = ((others[0].id, 0.9), (others[1].id, 0.8), ("absent", 0.99), (memory.id, 1.0))
    row = Related(memory.id, "h", memory.payload_version, near)
    assert await store.work.related(TENANT, [row]) == {memory.id}
    edges = await _edges(settings)
    assert {(edge[1], edge[2], edge[3]) for edge in edges} == {
        (memory.id, others[0].id, "0.9"),
        (others[0].id, memory.id, "0.9"),
        (memory.id, others[1].id, "0.8"),
        (others[1].id, memory.id, "0.8"),
    }
    assert await store.work.related(TENANT, [row]) == {memory.id}
    assert await _edges(settings) == edges
    after = await _now(store, memory)
    assert after.related_version == memory.payload_version
    scores = {memory.id: 0.85, others[0].id: 0.5, others[3].id: 0.9, "absent": 0.9}
    assert await store.work.strongest(TENANT, scores, 1) == {
        memory.id: [(others[0].id, 0.9), (others[1].id, 0.8)],
        others[0].id: [(memory.id, 0.9)],
        others[3].id: [],
    }
    assert memory.id not in await store.work.strongest(TENANT, {memory.id: 0.8}, 1)


async def test_after_new_content_old_neighbours_are_let_go(
    store: GraphStore, memory: Memory, others: list[Memory], settings: GraphSettings
) -> None:
    version = memory.payload_version
    await store.work.embedded(TENANT, [Embedded(memory.id, version, "h", relate=True)])
    first = Related(memory.id, "h", version, ((others[0].id, 0.9), (others[1].id, 0.8)))
    await store.work.related(TENANT, [first])
    added = Related(memory.id, "h", version, ((others[2].id, 0.7),))
    await store.work.related(TENANT, [added])
    assert len(await _edges(settings)) == 6
    anew = Related(memory.id, "h", version, ((others[1].id, 0.85),), replace=True)
    await store.work.related(TENANT, [anew])
    assert [(edge[3], others[1].id in edge) for edge in await _edges(settings)] == [
        ("0.85", True)
    ] * 2


async def test_empty_batches_write_nothing(store: GraphStore, memory: Memory) -> None:
    assert await store.work.enriched(TENANT, []) == {}
    assert await store.work.related(TENANT, []) == set()
    assert (await store.work.embedded(TENANT, [])).applied == set()
    assert await store.work.previous(TENANT, []) == {}
    assert await store.work.strongest(TENANT, {}, 5) == {}
