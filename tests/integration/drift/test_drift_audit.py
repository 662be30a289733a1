"""The audit of drift: what differs is found and named, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.memory import text_hash
from shared.streams.job import Stage
from tests.support.stores.drifting import Place, point_of
from tests.support.stores.graphs import TENANT, a_memory, cypher
from tests.support.stores.vector_stores import MODEL


async def test_two_stores_that_agree_have_no_drift(here: Place) -> None:
    await here.seed(20, tags=("Proj/Alpha", "b"), session_id=None, project="p")
    audit = await here.audit()
    assert (audit.falkordb_count, audit.qdrant_count, audit.drifted) == (20, 20, 0)
    assert (audit.orphaned_count, audit.pending_count, audit.given_up_count) == (0, 0, 0)


async def test_nothing_is_no_drift(here: Place) -> None:
    audit = await here.audit()
    assert (audit.falkordb_count, audit.qdrant_count, audit.drifted) == (0, 0, 0)


async def test_each_kind_is_counted_by_itself_over_pages(here: Place) -> None:
    memories = await here.seed(50)
    ids = [each.id for each in memories]
    await here.drop_points(ids[:5])
    await here.set_payload(ids[5:9], payload_version=1)
    await here.set_payload(ids[9:12], project="another")
    orphans = await here.add_orphans(6)
    audit = await here.audit()
    assert (audit.falkordb_count, audit.qdrant_count) == (50, 51)
    assert (audit.missing_count, set(audit.missing_sample)) == (5, set(ids[:5]))
    assert (audit.stale_count, set(audit.stale_sample)) == (4, set(ids[5:9]))
    assert (audit.payload_count, set(audit.payload_sample)) == (3, set(ids[9:12]))
    assert (audit.orphaned_count, set(audit.orphaned_sample)) == (6, set(orphans))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project", "other"),
        ("session_id", "s2"),
        ("layer", "semantic"),
        ("type", "Insight"),
        ("tags", ["a"]),
        ("tags", ["b", "a"]),
        ("tag_prefixes", []),
        ("timestamp", 5),
        ("t_valid", 7),
        ("t_invalid", 9),
        ("archived", True),
        ("archived", 0),
        ("speaker", "bob"),
        ("surplus", "of nobody"),
    ],
)
async def test_one_key_that_differs_is_found(here: Place, key: str, value: Any) -> None:
    memories = await here.seed(3, tags=("a", "b"), session_id="s1", speaker="Ann", t_invalid=8)
    await here.set_payload([memories[1].id], **{key: value})
    audit = await here.audit()
    assert (audit.drifted, audit.payload_sample) == (1, [memories[1].id])


@pytest.mark.parametrize("key", ["project", "tags", "archived", "timestamp", "speaker"])
async def test_one_key_that_is_gone_is_found(here: Place, key: str) -> None:
    memories = await here.seed(3, tags=("a",), speaker="Ann")
    await here.drop_keys([memories[1].id], key)
    audit = await here.audit()
    assert (audit.drifted, audit.payload_sample) == (1, [memories[1].id])


async def test_a_tag_renamed_in_the_graph_alone_is_found(here: Place) -> None:
    memories = await here.seed(3, tags=("old",))
    renamed = memories[0].id
    await cypher(here.settings, f"MATCH (m:Memory {{id: '{renamed}'}}) SET m.tags = ['new']")
    assert (await here.audit()).payload_sample == [renamed]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"payload_version": 1},
        {"payload_version": 9_000_000_000_000},
        {"text_hash": text_hash(MODEL, "words of something else")},
        {"text_hash": text_hash("another-model", "note")},
        {"text_hash": ""},
    ],
)
async def test_a_point_of_another_version_or_text_is_stale(
    here: Place, change: dict[str, Any]
) -> None:
    memories = await here.seed(3)
    await here.set_payload([memories[1].id], **change)
    audit = await here.audit()
    assert (audit.drifted, audit.stale_sample) == (1, [memories[1].id])


async def test_a_point_of_another_context_is_stale(here: Place) -> None:
    """The text is the same, but not what was said before it."""
    memories = await here.seed(3)
    known = point_of(memories[1]).payload["text_hash"]
    await here.set_payload([memories[1].id], text_hash=known[:16] + "0" * 16)
    assert (await here.audit()).stale_sample == [memories[1].id]


async def test_a_content_changed_behind_its_back_is_found(here: Place) -> None:
    """A restore of the graph alone: the point is of words that nobody said."""
    memories = await here.seed(3)
    key = memories[2].id
    await cypher(here.settings, f"MATCH (m:Memory {{id: '{key}'}}) SET m.content = 'other'")
    assert (await here.audit()).stale_sample == [key]


async def test_after_a_switch_of_models_the_hash_of_the_node_says_nothing(here: Place) -> None:
    """Its points are the live model's; the node's hash is still of the model before."""
    memories = await here.seed(3)
    await cypher(here.settings, f"MATCH (m:Memory) SET m.text_hash = '{'f' * 32}'")
    assert (await here.audit()).drifted == 0
    await here.set_payload([memories[0].id], text_hash=text_hash("former", "words"))
    assert (await here.audit()).stale_sample == [memories[0].id]


async def test_work_that_is_recorded_nowhere_is_drift(here: Place) -> None:
    """Not embedded and due never again: no relay would ever see to it."""
    memories = await here.seed(3)
    await cypher(
        here.settings, f"MATCH (m:Memory {{id: '{memories[0].id}'}}) SET m.embedded_version = 0"
    )
    assert (await here.audit()).stale_sample == [memories[0].id]


async def test_what_is_to_be_embedded_is_no_drift(here: Place) -> None:
    await here.seed(3)
    waiting = [a_memory(f"fresh {number}") for number in range(4)]
    await here.graph.memories.create_many(TENANT, waiting)
    given_up = a_memory("refused")
    await here.graph.memories.create(TENANT, given_up)
    row = (given_up.id, given_up.payload_version)
    assert await here.graph.work.give_up(TENANT, Stage.EMBED, [row])
    audit = await here.audit()
    assert (audit.drifted, audit.pending_count, audit.given_up_count) == (0, 4, 1)
    assert (audit.falkordb_count, audit.qdrant_count) == (8, 3)


async def test_types_that_no_recall_shows_are_not_counted(here: Place) -> None:
    hidden = await here.seed(2, type="MetaPattern")
    await here.seed(3)
    await here.drop_points([hidden[0].id])
    audit = await here.audit()
    assert (audit.falkordb_count, audit.qdrant_count) == (3, 3)
    assert (audit.drifted, audit.orphaned_count) == (0, 0)


async def test_another_tenants_points_are_nobodys_drift(here: Place) -> None:
    await here.seed(3)
    await here.add_point_of_beta()
    audit = await here.audit()
    assert (audit.qdrant_count, audit.orphaned_count, audit.drifted) == (3, 0, 0)
