"""POST /associate and /memories/{id}/related: relations that clients author."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.stack.api_process import ApiProcess
from tests.support.stack.stack import Answer
from tests.support.stores.graphs import cypher


async def associate(api: ApiProcess, **body: Any) -> Answer:
    return await api.ask("POST", "/associate", json=body)


@pytest.fixture
async def ends(api: ApiProcess) -> tuple[str, str]:
    return await api.stored(f"One end {uuid4()}"), await api.stored(f"Other end {uuid4()}")


async def test_the_same_relation_again_is_an_update(api: ApiProcess, ends: tuple[str, str]) -> None:
    one, other = ends
    for strength, reason in ((0.2, "first"), (0.7, None)):
        answer = await associate(
            api,
            memory1_id=one,
            memory2_id=other,
            type="evolved_into",
            strength=strength,
            reason=reason,
            unknown="dropped",
        )
        assert answer.status == 201
        assert (answer.body["relation_type"], answer.body["strength"]) == ("EVOLVED_INTO", strength)
        assert "unknown" not in answer.body
    rows = await cypher(
        api.graph,
        f"MATCH (:Memory {{id: '{one}'}})-[x]->(:Memory {{id: '{other}'}})"
        " RETURN type(x), x.strength, x.reason, x.updated_at > 0",
    )
    assert rows == [["EVOLVED_INTO", "0.7", "first", "true"]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory2_id": None}, "'memory1_id' and 'memory2_id' are required"),
        ({"memory1_id": ""}, "'memory1_id' and 'memory2_id' are required"),
        ({"memory1_id": "x"}, "memory_id must be a valid UUID"),
        ({"type": "PRECEDED_BY"}, "Relation type must be one of ['CONTRADICTS', "),
        ({"type": 5}, "Relation type must be one of ['CONTRADICTS', "),
        ({"strength": 1.5}, "'importance' must be between 0 and 1"),
        ({"strength": "strong"}, "'importance' must be a number"),
        ({"type": "EVOLVED_INTO", "reason": ["a"]}, "'reason' must be a number, a boolean or a"),
        ({"type": "EVOLVED_INTO", "reason": "a\0"}, "'reason' must not contain NUL characters"),
        ({"type": "EVOLVED_INTO", "confidence": 1e300}, "'confidence' must be a number"),
    ],
)
async def test_what_is_wrong_is_refused(
    api: ApiProcess, ends: tuple[str, str], fields: dict[str, Any], message: str
) -> None:
    answer = await associate(api, **{"memory1_id": ends[0], "memory2_id": ends[1], **fields})
    assert answer.status == 400
    assert answer.body["message"].startswith(message)


async def test_a_memory_is_not_associated_with_itself(
    api: ApiProcess, ends: tuple[str, str]
) -> None:
    answer = await associate(api, memory1_id=ends[0], memory2_id=ends[0].upper())
    assert answer.body["message"] == "Cannot associate a memory with itself"


async def test_a_missing_end_is_not_found(api: ApiProcess, ends: tuple[str, str]) -> None:
    answer = await associate(api, memory1_id=ends[0], memory2_id=str(uuid4()))
    assert (answer.status, answer.body["message"]) == (404, "One or both memories do not exist")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "'associations' must be a non-empty array"),
        ("all", "'associations' must be a non-empty array"),
        (None, "'associations' must be a non-empty array"),
        ([{}] * 501, "Batch size limit is 500 associations per request"),
        ([{}, {"strength": 7}], "'importance' must be between 0 and 1"),
    ],
)
async def test_a_list_that_is_wrong_is_refused(
    api: ApiProcess, items: object, message: str
) -> None:
    answer = await associate(api, associations=items)
    assert (answer.status, answer.body["message"]) == (400, message)


@pytest.mark.parametrize("items", [None, "all", {}])
async def test_beside_a_single_pair_only_a_list_is_many(
    api: ApiProcess, ends: tuple[str, str], items: object
) -> None:
    answer = await associate(api, memory1_id=ends[0], memory2_id=ends[1], associations=items)
    assert (answer.status, answer.body["memory1_id"]) == (201, ends[0])
    both = await associate(api, memory1_id=ends[0], memory2_id=ends[1], associations=[])
    assert both.status == 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"memory1_id": "x"}, "'memory1_id' must be a valid UUID"),
        ({"memory2_id": "x"}, "'memory2_id' must be a valid UUID"),
        ({"memory2_id": " "}, "'memory1_id' and 'memory2_id' are required"),
        ({"memory1_id": 7}, "'memory1_id' and 'memory2_id' are required"),
    ],
)
async def test_of_many_the_end_at_fault_is_named(
    api: ApiProcess, ends: tuple[str, str], fields: dict[str, Any], reason: str
) -> None:
    row = {"memory1_id": ends[0], "memory2_id": ends[1]}
    answer = await associate(api, associations=[row, {**row, **fields}])
    assert answer.status == 207
    assert answer.body["failed"] == [{"index": 1, "reason": reason}]


async def test_related_memories_come_in_both_directions(api: ApiProcess) -> None:
    centre = await api.stored("Centre")
    before = await api.stored("Before", importance=0.2, tags=list("abcdefg"))
    after = await api.stored("x" * 300, importance=0.9)
    far = await api.stored("Far")
    await associate(api, memory1_id=before, memory2_id=centre, type="LEADS_TO")
    await associate(api, memory1_id=centre, memory2_id=after, type="LEADS_TO")
    await associate(api, memory1_id=after, memory2_id=far, type="PART_OF")

    found = await api.ask("GET", f"/memories/{centre}/related")

    assert [row["id"] for row in found.body["related_memories"]] == [after, before]
    assert (found.body["count"], found.body["max_depth"], found.body["limit"]) == (2, 1, 5)
    assert len(found.body["relationship_types"]) == 11
    first, second = found.body["related_memories"]
    assert len(first["content"]) == 160
    assert second["tags"] == list("abcde")
    assert {"id", "type", "timestamp", "importance", "confidence"} <= second.keys()
    deep = await api.ask(
        "GET", f"/memories/{centre}/related?max_depth=9&relationship_types=leads_to,PART_OF,NONE"
    )
    assert {row["id"] for row in deep.body["related_memories"]} == {before, after, far}
    assert deep.body["relationship_types"] == ["LEADS_TO", "PART_OF"]
    assert deep.body["max_depth"] == 3
    only = await api.ask("GET", f"/memories/{far}/related?relationship_types=PART_OF&limit=1")
    assert [row["id"] for row in only.body["related_memories"]] == [after]


@pytest.mark.parametrize("memory_id", ["c33ee8b7-84b7-4f8d-82fa-5142918dc429", "no-uuid"])
async def test_an_unknown_memory_has_no_relations(api: ApiProcess, memory_id: str) -> None:
    found = await api.ask("GET", f"/memories/{memory_id}/related")
    assert (found.status, found.body["count"], found.body["related_memories"]) == (200, 0, [])


async def test_what_does_not_hold_now_takes_no_place_among_the_related(api: ApiProcess) -> None:
    """Archived, expired and future memories filled the limit before any that holds."""
    centre, good = await api.stored("Centre"), await api.stored("Good", importance=0.1)
    past = {"t_valid": "2019-01-01T00:00:00Z", "t_invalid": "2020-01-01T00:00:00Z"}
    over = await api.stored("Over", importance=1, **past)
    later = await api.stored("Later", importance=1, t_valid="2999-01-01T00:00:00Z")
    archived = await api.stored("Archived", importance=1)
    await cypher(api.graph, f"MATCH (m:Memory {{id: '{archived}'}}) SET m.archived = true")
    for other in (over, later, archived):
        await associate(api, memory1_id=centre, memory2_id=other, type="RELATES_TO")
        await associate(api, memory1_id=other, memory2_id=good, type="RELATES_TO")

    async def related(query: str) -> list[str]:
        found = await api.ask("GET", f"/memories/{centre}/related?limit=1&{query}")
        return [row["id"] for row in found.body["related_memories"]]

    assert await related("") == []
    assert await related("max_depth=2") == [good]
    await associate(api, memory1_id=centre, memory2_id=good, type="EVOLVED_INTO")
    assert await related("") == [good]
