"""What recall and the operators read: relations, tags, words, counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.graph.memory.links import Association
from shared.graph.stages.writes import Embedded, Related
from shared.graph.store import GraphStore
from shared.streams.job import Stage
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
    assert found[seed.id].successors == ()
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
    assert shown.tags == tuple("abcde")


async def test_what_supersedes_a_memory_is_named_whatever_the_relation_limit(
    store: GraphStore,
) -> None:
    old, new, gone = await _created(
        store, a_memory("old"), a_memory("new", t_invalid=9), a_memory()
    )
    await associate(store, TENANT, old.id, new.id, "EVOLVED_INTO")
    await associate(store, TENANT, old.id, gone.id, "CONTRADICTS")
    hydrated = await store.memories.hydrate(TENANT, [old.id, new.id], relation_limit=0)
    (successor,) = hydrated[old.id].successors
    assert (successor.id, successor.type, successor.archived) == (new.id, "EVOLVED_INTO", False)
    assert (successor.t_valid, successor.t_invalid) == (new.t_valid, 9)
    assert hydrated[new.id].successors == ()


async def test_tags_match_exactly_or_by_prefix_whatever_their_case(store: GraphStore) -> None:
    deep = a_memory("deep", tags=("Proj/Alpha:db",), importance=0.2)
    flat = a_memory("flat", tags=("proj", "Other Tag"), importance=0.9)
    newer = a_memory("newer", tags=("proj",), importance=0.9, timestamp=flat.timestamp + 5)
    await _created(store, deep, flat, newer)
    assert await store.memories.by_tags(TENANT, ["proj/alpha:db"], 9) == [deep]
    assert await store.memories.by_tags(TENANT, ["proj", "other tag", "proj"], 9) == [newer, flat]
    everything = [newer, flat, deep]
    assert await store.memories.by_tags(TENANT, ["proj"], 9, prefix=True) == everything
    assert await store.memories.by_tags(TENANT, ["proj"], 1, 1, prefix=True) == [flat]
    assert await store.memories.by_tags(TENANT, ["proj:alpha"], 9, prefix=True) == [deep]
    assert await store.memories.by_tags(TENANT, [], 9) == []


async def test_a_memory_is_found_by_its_words_until_its_vector_exists(store: GraphStore) -> None:
    one = a_memory("Loves HIKING in the Alps", tags=("t",))
    two = a_memory("hates rain", version=one.version + 1, payload_version=one.version + 1)
    await _created(store, one, two)
    assert [t.id for t in await store.words.unembedded(TENANT, [])] == [two.id, one.id]
    assert [t.id for t in await store.words.unembedded(TENANT, [], limit=1)] == [two.id]
    (found,) = await store.words.unembedded(TENANT, ["hiking", "sea"])
    assert found == (one.id, "Loves HIKING in the Alps")
    assert await store.words.unembedded(TENANT, ["sea"]) == []
    # Given up for good, it is still found: it has no vector.
    await store.work.give_up(TENANT, Stage.EMBED, [(one.id, one.payload_version)])
    assert len(await store.words.unembedded(TENANT, ["hiking"])) == 1
    await store.work.embedded(TENANT, [Embedded(one.id, one.payload_version, "h", relate=False)])
    assert await store.words.unembedded(TENANT, ["hiking"]) == []
    assert len(await store.words.newest(TENANT, ["hiking"])) == 1


async def test_the_newest_come_first_and_only_so_many_are_looked_at(store: GraphStore) -> None:
    now = now_ms()
    hours = (0, 2, 30, 24 * 45, 24 * 900)
    memories = [a_memory(f"number {h}", timestamp=now - h * HOUR_MS - 1000) for h in hours]
    future = a_memory("number future", timestamp=now + HOUR_MS)
    await _created(store, *memories, future)
    newest_first = [future, *memories]
    for scan in range(1, 7):
        found = await store.words.newest(TENANT, ["number"], scan=scan)
        assert [t.id for t in found] == [m.id for m in newest_first[:scan]]
    assert [t.id for t in await store.words.newest(TENANT, [], limit=2)] == [
        future.id,
        memories[0].id,
    ]
    assert [t.id for t in await store.words.newest(TENANT, ["number 30"])] == [memories[2].id]


async def test_counts_tell_what_waits_and_what_was_given_up(store: GraphStore) -> None:
    one, two = await _created(store, a_memory(), a_memory())
    await store.work.embedded(TENANT, [Embedded(one.id, one.payload_version, "h", relate=True)])
    await store.work.give_up(TENANT, Stage.ENRICH, [(two.id, two.version)])
    counts = await store.memories.counts(TENANT)
    assert counts.memories == 2
    assert counts.lagging == {Stage.ENRICH: 1, Stage.EMBED: 1, Stage.RELATE: 1}
    assert counts.failed == {Stage.ENRICH: 1, Stage.EMBED: 0, Stage.RELATE: 0}
    assert counts.oldest_due_ms is not None
    assert counts.oldest_due_ms == await store.work.next_due(TENANT)


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


async def test_related_memories_are_walked_to_the_depth_asked_for(store: GraphStore) -> None:
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
