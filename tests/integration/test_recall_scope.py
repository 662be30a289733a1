"""Every query of a recall applies the scope before its limit, so that narrow scopes fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.domain.scope import Scope
from shared.graph.recall import candidates
from shared.graph.store import GraphStore
from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, Stack, StoreView
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher

# After every memory of a test became valid.
NOW_MS = 4_000_000_000_000


async def stored(api: Client, rows: Sequence[dict[str, Any]]) -> list[str]:
    answer = await api.ask("POST", "/memory/batch", json={"memories": list(rows)})
    assert answer.status == 201, answer
    return list(answer.body["memory_ids"])


# -- all of it ------------------------------------------------------------------------------


async def test_a_metadata_term_that_others_hold_too_is_found_within_its_project(
    api: Client, stores: StoreView
) -> None:
    repo = {"repo": "quuxbilling"}
    elsewhere = [
        {"content": f"{CANARY} the tulip {n} blooms", "project": "mA", "metadata": repo}
        for n in range(120)
    ]
    decoys = [
        {"content": f"{CANARY} which repo is the repo of number {n}", "project": "mB"}
        for n in range(150)
    ]
    wanted = [
        {"content": f"{CANARY} the oven {n} is hot", "project": "mB", "metadata": repo}
        for n in range(5)
    ]
    ids = await stored(api, [*elsewhere, *decoys, *wanted])
    await stores.all_done(275)
    found = await api.recalled(
        "which repo is quuxbilling", project="mB", limit=20, adaptive_floor="false"
    )
    assert set(ids[-5:]) <= set(found)


async def test_what_awaits_its_vector_is_found_within_narrow_tags(
    api: Client, stack: Stack
) -> None:
    async with stack.frozen("embedder"):
        rows = [{"content": f"{CANARY} deploy deploy {n}"} for n in range(60)]
        late = {"content": f"{CANARY} at night we deploy with care", "tags": ["narrow:z"]}
        *_, wanted = await stored(api, [*rows, late])
        assert await api.recalled("deploy", tags="narrow:z") == [wanted]


async def test_tags_that_begin_with_an_excluded_one_take_no_places(
    api: Client, stores: StoreView
) -> None:
    unwanted = [
        {"content": f"{CANARY} deploy failed {n}", "tags": [f"temp-{n}"]} for n in range(130)
    ]
    others = [
        {"content": f"{CANARY} after lunch the deploy of {what} failed again", "tags": ["kept"]}
        for what in ("billing", "search", "mail")
    ]
    ids = await stored(api, [*unwanted, *others])
    await stores.all_done(133)
    found = await api.recalled(
        "deploy failed", exclude_tags="temp", limit=3, adaptive_floor="false"
    )
    assert set(found) == set(ids[-3:])


async def test_without_the_vectors_narrow_tags_fill(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    rows = [{"content": f"{CANARY} deploy deploy {n}"} for n in range(60)]
    late = {"content": f"{CANARY} at night we deploy with care", "tags": ["narrow:z"]}
    *_, wanted = await stored(api, [*rows, late])
    await stores.all_done(61)
    async with stack.frozen("qdrant"):
        answer = await api.recall("deploy", tags="narrow:z")
        outside = await api.recalled("night care", tags="none", scope_fallback="true")
    assert outside == [wanted]
    assert answer.body["degraded"] == ["vector"]
    assert [row["id"] for row in answer.body["results"]] == [wanted]


# -- each condition in the graph ------------------------------------------------------------


SCOPES: tuple[tuple[Scope, dict[str, Any], dict[str, Any]], ...] = (
    (Scope(tags=("proj:a",)), {"tags": ("Proj/A/x",)}, {"tags": ("proj",)}),
    (Scope(tags=("proj",), tag_match="exact"), {"tags": ("Proj",)}, {"tags": ("proj:a",)}),
    (Scope(tags=("a", "b"), tag_mode="all"), {"tags": ("a", "b")}, {"tags": ("a",)}),
    (Scope(tags=("a", "b")), {"tags": ("b",)}, {"tags": ("c",)}),
    (Scope(exclude_tags=("temp", "old")), {"tags": ("kept",)}, {"tags": ("Temp-1",)}),
    (Scope(exclude_tags=("temp",)), {}, {"tags": ("b", "temp")}),
    (Scope(start_ms=10), {"timestamp": 10}, {"timestamp": 9}),
    (Scope(end_ms=10), {"timestamp": 10}, {"timestamp": 11}),
    (Scope(start_ms=5, end_ms=10), {"timestamp": 7}, {"timestamp": 11}),
    (Scope(project="p"), {"project": "p"}, {"project": "q"}),
    (Scope(session_id="s"), {"session_id": "s"}, {}),
    (Scope(layer="semantic"), {"layer": "semantic"}, {}),
    (Scope(exclude_types=("Habit",)), {}, {"type": "Habit"}),
    (Scope(current_at_ms=100), {"t_valid": 100}, {"t_valid": 101}),
    (Scope(current_at_ms=100), {"t_valid": None}, {"t_valid": None, "archived": True}),
    (Scope(current_at_ms=100), {"t_valid": 1, "t_invalid": 101}, {"t_valid": 1, "t_invalid": 100}),
    (
        Scope(tags=("a",), project="p", exclude_tags=("x",)),
        {"tags": ("a",), "project": "p"},
        {"tags": ("a", "xy"), "project": "p"},
    ),
)


@pytest.mark.parametrize(("scope", "inside", "outside"), SCOPES)
async def test_every_lookup_cuts_after_the_scope(
    store: GraphStore,
    settings: GraphSettings,
    scope: Scope,
    inside: dict[str, Any],
    outside: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those outside are more than any lookup gives, and come before the one inside."""
    late: dict[str, Any] = {
        "meta_terms": ("term",),
        "content": "a word",
        "importance": 0.9,
        "entity_tags": ("entity:people:ada",),
    }
    decoys = [_memory({**late, **outside}) for _ in range(60)]
    wanted = _memory({**late, "importance": 0.1, **inside}, version=1, payload_version=1)
    await store.memories.create_many(TENANT, [*decoys, wanted])
    await cypher(
        settings,
        "MATCH (m:Memory) MERGE (e:Entity {id: 'e'}) MERGE (e)-[:REFERENCED_IN]->(m)",
    )
    assert await store.candidates.lookups(TENANT, ["term"], ["e"], scope) == (
        [wanted.id],
        [wanted.id],
    )
    monkeypatch.setattr(candidates, "SCANNED", 1)
    fresh = await store.candidates.unembedded(TENANT, ["word"], 1, scope=scope)
    newest = await store.candidates.newest(TENANT, ["word"], 1, scope=scope)
    listed = await store.candidates.listing(TENANT, scope, 1)
    assert [each.id for each in (*fresh, *newest)] == [wanted.id, wanted.id]
    assert [each.id for each in listed] == [wanted.id]
    tagged = await store.candidates.tagged(TENANT, ["entity:people:ada"], 1, scope=scope)
    assert [each.id for _, each in tagged] == [wanted.id]


async def test_relations_are_cut_after_the_scope_and_what_holds_comes_first(
    store: GraphStore,
) -> None:
    seed, near, wanted = a_memory(), a_memory(project="p", importance=0.3), a_memory(project="p")
    ended = [a_memory(project="p", t_invalid=5) for _ in range(3)]
    other = [a_memory(project="q") for _ in range(3)]
    await store.memories.create_many(TENANT, [seed, near, wanted, *ended, *other])
    for memory in (wanted, near, *ended, *other):  # the newest relation is the last
        await associate(store, TENANT, seed.id, memory.id, "RELATES_TO", strength=0.5)
    around = partial(
        store.candidates.around, TENANT, [seed.id], relations=["RELATES_TO"], per_seed=2
    )
    scope = Scope(project="p")
    current = replace(scope, current_at_ms=NOW_MS)
    found = await around(scope=current)
    assert {each.memory.id for each in found} == {near.id, wanted.id}
    found = await around(scope=current, least_importance=0.4)
    assert {each.memory.id for each in found} - {each.id for each in ended} == {wanted.id}
    assert await around(scope=scope, least_strength=0.6) == []


async def test_an_alias_means_the_entity_that_it_was_merged_into(
    store: GraphStore, settings: GraphSettings
) -> None:
    await store.memories.create(TENANT, a_memory())
    await cypher(
        settings,
        "CREATE (:Entity {id: 'entity:people:robert', slug: 'robert', category: 'people',"
        " name: 'Robert', aliases: ['Bob']}), (:Entity {id: 'entity:people:bob', slug: 'bob',"
        " category: 'people', name: 'Bob', aliases: [], merged_into: 'entity:people:robert'})",
    )
    for slugs in (["bob"], ["robert"], ["bob", "robert"]):
        _, entities = await store.candidates.speakers_and_entities(TENANT, [], slugs)
        assert [each["name"] for each in entities] == ["Robert"]


def _memory(fields: dict[str, Any], **more: Any) -> Memory:
    return a_memory(**{**fields, **more})


async def test_the_newest_of_a_term_come_first_and_ties_by_id(store: GraphStore) -> None:
    memories = [a_memory(meta_terms=("term",), timestamp=n // 2) for n in range(120)]
    await store.memories.create_many(TENANT, memories)
    found, _ = await store.candidates.lookups(TENANT, ["term"], [])
    newest = sorted(memories, key=lambda each: (-each.timestamp, each.id))
    assert set(found) == {each.id for each in newest[:50]}


async def test_the_tags_that_begin_so_are_named_once(store: GraphStore) -> None:
    tags = (("Temp-1", "x"), ("temp-1", "temp"), ("attempt",), ())
    await store.memories.create_many(TENANT, [a_memory(tags=each) for each in tags])
    assert sorted(await store.candidates.tag_keys(TENANT, ["temp", "y"])) == ["temp", "temp-1"]
    assert await store.candidates.tag_keys(TENANT, []) == []
