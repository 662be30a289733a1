"""What recall and the operators read: relations, tags, words, counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.graph.memory.links import Association
from shared.graph.recall.candidates import Successor
from shared.graph.stages.writes import Embedded, Related
from shared.graph.store import GraphStore
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher

HOUR_MS = 3_600_000


async def _created(store: GraphStore, *memories: Memory) -> Sequence[Memory]:
    await store.memories.create_many(TENANT, memories)
    return memories


async def test_a_memory_is_hydrated_with_its_newest_outgoing_relations(
    store: GraphStore, settings: GraphSettings
) -> None:
    seed, *others = await _created(store, a_memory("seed"), *(a_memory(f"o{n}") for n in range(4)))
    for other in others:
        await associate(store, TENANT, seed.id, other.id, "RELATES_TO", strength=0.4)
    await cypher(
        settings,
        f"MATCH (:Memory {{id: '{seed.id}'}})-[x]->(o:Memory {{id: '{others[2].id}'}})"
        " SET x.updated_at = x.updated_at + 1000",
    )
    incoming = a_memory()
    await store.memories.create(TENANT, incoming)
    await associate(store, TENANT, incoming.id, seed.id, "LEADS_TO")

    found = await store.memories.hydrate(TENANT, [seed.id, "absent", seed.id], relation_limit=3)

    assert list(found) == [seed.id]
    assert found[seed.id].memory == seed
    relations = found[seed.id].relations
    assert len(relations) == 3
    assert {relation.type for relation in relations} == {"RELATES_TO"}
    assert {relation.strength for relation in relations} == {0.4}
    assert relations[0].other.id == others[2].id
    bare = await store.memories.hydrate(TENANT, [seed.id], relation_limit=0)
    assert bare[seed.id].relations == ()


async def test_a_moments_relations_lead_to_what_holds_then(store: GraphStore) -> None:
    now = now_ms()
    seed, standing, *others = await _created(
        store,
        a_memory("seed"),
        a_memory("standing", t_valid=now - 1, t_invalid=now + 1),
        a_memory("expired", t_invalid=now),
        a_memory("future", t_valid=now + 1),
        a_memory("archived", archived=True),
        a_memory("superseded"),
    )
    for other in [standing, *others]:
        await associate(store, TENANT, seed.id, other.id, "RELATES_TO")
    await associate(store, TENANT, others[-1].id, standing.id, "EVOLVED_INTO")

    then = await store.memories.hydrate(TENANT, [seed.id], relation_limit=9, at_ms=now)
    assert [each.other.content for each in then[seed.id].relations] == ["standing"]
    ever = await store.memories.hydrate(TENANT, [seed.id], relation_limit=9)
    assert len(ever[seed.id].relations) == 5


async def test_a_relation_tells_enough_of_the_other_memory(store: GraphStore) -> None:
    seed, other = await _created(
        store,
        a_memory("seed"),
        a_memory("x" * 500, tags=tuple("abcdefg"), type="Insight", importance=0.25, timestamp=77),
    )
    await associate(store, TENANT, seed.id, other.id, "EXEMPLIFIES", confidence=0.5)
    hydrated = await store.memories.hydrate(TENANT, [seed.id], relation_limit=5)
    (relation,) = hydrated[seed.id].relations
    assert (relation.type, relation.strength, relation.kind) == ("EXEMPLIFIES", 0.5, None)
    shown = relation.other
    assert (shown.id, shown.type, shown.timestamp) == (other.id, "Insight", 77)
    assert (shown.importance, shown.confidence) == (0.25, 0.3)
    assert (shown.summary, shown.content) == (None, "x" * 161)
    assert shown.tags == list("abcde")


@pytest.mark.parametrize(
    ("fields", "supersedes"),
    [
        ({}, True),
        ({"archived": True}, False),
        ({"t_valid": 1001}, False),
        ({"t_valid": 1000}, True),
        ({"t_invalid": 1000}, False),
        ({"t_invalid": 1001}, True),
    ],
)
async def test_only_what_holds_then_supersedes_a_memory(
    store: GraphStore, fields: dict[str, Any], supersedes: bool
) -> None:
    old, new, other = await _created(
        store, a_memory(), a_memory(**{"t_valid": None, **fields}), a_memory()
    )
    await associate(store, TENANT, old.id, new.id, "EVOLVED_INTO", strength=0.5)
    await associate(store, TENANT, old.id, other.id, "CONTRADICTS")
    found = await store.candidates.read(TENANT, [old.id, new.id], at_ms=1000)
    expected = Successor(new.id, "EVOLVED_INTO", 0.5) if supersedes else None
    assert {key: each.successor for key, each in found.items()} == {old.id: expected, new.id: None}


async def test_the_first_by_id_of_several_supersedes_and_nothing_itself(
    store: GraphStore, settings: GraphSettings
) -> None:
    one, two, three = sorted(
        await _created(store, *(a_memory() for _ in range(3))), key=lambda each: each.id
    )
    await associate(store, TENANT, one.id, three.id, "EVOLVED_INTO")
    await associate(store, TENANT, one.id, two.id, "INVALIDATED_BY")
    await cypher(settings, f"MATCH (m:Memory {{id: '{one.id}'}}) CREATE (m)-[:EVOLVED_INTO]->(m)")
    found = await store.candidates.read(TENANT, [one.id], at_ms=now_ms())
    assert found[one.id].successor == Successor(two.id, "INVALIDATED_BY", 0.0)


async def test_associations_are_one_edge_per_type_and_direction(store: GraphStore) -> None:
    one, two = await _created(store, a_memory("one"), a_memory("two", importance=0.9))
    rows = [
        Association(one.id, two.id, "PREFERS_OVER", {"strength": 0.2, "context": "work"}),
        Association(one.id, "absent", "LEADS_TO", {"strength": 1}),
        Association(two.id, one.id, "LEADS_TO", {"strength": 1}),
        Association(one.id, two.id, "PREFERS_OVER", {"strength": 0.8}),
    ]
    assert await store.links.associate_many(TENANT, rows) == [True, False, True, True]
    found = await store.memories.hydrate(TENANT, [one.id, two.id], relation_limit=9)
    shown = {
        key: [(r.type, r.strength, r.other.id) for r in each.relations]
        for key, each in found.items()
    }
    assert shown == {
        one.id: [("PREFERS_OVER", 0.8, two.id)],
        two.id: [("LEADS_TO", 1.0, one.id)],
    }


async def test_related_memories_are_walked_to_the_requested_depth(store: GraphStore) -> None:
    chain = await _created(store, *(a_memory(f"m{n}", importance=n / 10) for n in range(5)))
    for left, right in itertools.pairwise(chain):
        await associate(store, TENANT, right.id, left.id, "LEADS_TO")
    await store.work.embedded(
        TENANT, [Embedded(chain[0].id, chain[0].payload_version, "h", relate=True)]
    )
    similar = Related(chain[0].id, "h", chain[0].payload_version, ((chain[4].id, 0.9),))
    await store.work.related(TENANT, [similar])

    async def walked(depth: int, **options: object) -> list[str]:
        found = await store.links.related(TENANT, chain[0].id, depth=depth, **options)  # type: ignore[arg-type]
        return [summary.content or "" for summary in found]

    assert await walked(1) == ["m1"]
    assert await walked(3) == ["m3", "m2", "m1"]
    assert await walked(9, limit=1) == ["m3"]
    assert await walked(1, types=("SIMILAR_TO",)) == ["m4"]
    assert await store.links.related(TENANT, "absent") == []
