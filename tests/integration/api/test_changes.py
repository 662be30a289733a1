"""PATCH and GET in cases where AutoMem lost data, as the API answers them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.support.stack.api_process import ApiProcess
from tests.support.stores.graphs import cypher
from tests.support.waiting.conditions import wait_until


@pytest.mark.parametrize("content", [None, "", "   ", 5, "x" * 2001])
async def test_a_refused_content_leaves_the_old_one(api: ApiProcess, content: object) -> None:
    """AutoMem wiped the content of `null` and answered 500 (7)."""
    text = f"Keep me {uuid4()}"
    memory_id = await api.stored(text)
    answer = await api.ask("PATCH", f"/memory/{memory_id}", json={"content": content})
    assert answer.status == 400
    assert await api.ids(text) == [memory_id]


async def test_changes_at_once_are_all_kept(api: ApiProcess) -> None:
    """Nobody writes back what it read before another's change (4)."""
    memory_id = await api.stored("Base")
    fields: list[dict[str, Any]] = [
        {"importance": 0.9},
        {"tags": ["a"]},
        {"metadata": {"b": 1}},
        {"content": "Changed"},
    ]
    answers = await asyncio.gather(
        *(api.ask("PATCH", f"/memory/{memory_id}", json=each) for each in fields)
    )
    assert {answer.status for answer in answers} == {200}
    memory = (await api.ask("GET", f"/memory/{memory_id}")).body["memory"]
    assert {name: memory[name] for each in fields for name in each} == {
        name: value for each in fields for name, value in each.items()
    }


async def test_a_change_asks_for_a_new_vector(api: ApiProcess) -> None:
    """A vector of the old text is never the last word: both versions rise, work is due (4)."""
    memory_id = await api.stored("Old text")
    query = (
        f"MATCH (m:Memory {{id: '{memory_id}'}})"
        " RETURN m.version, m.payload_version, m.embed_due > 0, m.enrich_due > 0"
    )
    [[version, payload_version, *_]] = await cypher(api.graph, query)
    await api.ask("PATCH", f"/memory/{memory_id}", json={"content": "New text"})
    [[new_version, new_payload_version, *due]] = await cypher(api.graph, query)
    assert new_version > version
    assert new_payload_version > payload_version
    assert due == ["true", "true"]


async def test_validity_is_stored_where_recall_filters(api: ApiProcess) -> None:
    """AutoMem's vectors forgot t_invalid, so expired memories came back (2)."""
    memory_id = await api.stored("Expired", t_invalid="2020-01-01T00:00:00Z")
    [[t_invalid]] = await cypher(
        api.graph, f"MATCH (m:Memory {{id: '{memory_id}'}}) RETURN m.t_invalid"
    )
    assert t_invalid == 1_577_836_800_000
    await api.ask("PATCH", f"/memory/{memory_id}", json={"t_invalid": None})
    memory = (await api.ask("GET", f"/memory/{memory_id}")).body["memory"]
    assert "t_invalid" not in memory


@pytest.mark.parametrize(
    "reader", ["/memory/{id}", "/memory/by-tag?tags={tag}", "/recall?tags={tag}"]
)
async def test_reading_is_an_access_for_every_reader(api: ApiProcess, reader: str) -> None:
    """AutoMem bumped one store of two, so that readers disagreed (6)."""
    tag = f"read-{uuid4()}"
    memory_id = await api.stored("Read me", tags=[tag], last_accessed="2020-01-01T00:00:00Z")
    await api.ask("GET", reader.format(id=memory_id, tag=tag))
    # Read past the API, whose own reading would be an access.
    query = f"MATCH (m:Memory {{id: '{memory_id}'}}) RETURN m.last_accessed"
    old = 1_577_836_800_000

    async def bumped() -> bool:
        return bool((await cypher(api.graph, query))[0][0] > old)

    await wait_until(bumped, "last_accessed has moved")
    [[accessed]] = await cypher(api.graph, query)
    one = (await api.ask("GET", f"/memory/{memory_id}")).body["memory"]
    [result] = (await api.ask("GET", f"/recall?tags={tag}")).body["results"]
    shown = [one["last_accessed"], result["memory"]["last_accessed"]]
    assert [_ms(each) >= accessed for each in shown] == [True, True]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def test_a_changed_metadata_may_name_the_session(api: ApiProcess) -> None:
    """As POST does; who was embedded with its words, and who is now, is embedded again."""
    old, new = f"old-{uuid4()}", f"new-{uuid4()}"
    moved = await api.stored("First", session_id=old, timestamp="2024-01-01T00:00:00Z")
    left = await api.stored("Left", session_id=old, timestamp="2024-01-02T00:00:00Z")
    joined = await api.stored("Joined", session_id=new, timestamp="2024-01-02T00:00:00Z")
    versions = f"MATCH (m:Memory) WHERE m.id IN ['{left}', '{joined}'] RETURN m.payload_version"
    before = await cypher(api.graph, f"{versions} ORDER BY m.content")

    async def change(**fields: Any) -> Any:
        answer = await api.ask("PATCH", f"/memory/{moved}", json=fields)
        assert answer.status == 200, answer
        return (await api.ask("GET", f"/memory/{moved}")).body["memory"].get("session_id")

    assert await change(metadata={"a": 1}) == old
    assert await cypher(api.graph, f"{versions} ORDER BY m.content") == before
    assert await change(metadata={"session_id": f" {new} "}) == new
    after = await cypher(api.graph, f"{versions} ORDER BY m.content")
    assert all(now[0] > then[0] for now, then in zip(after, before, strict=True))
    assert await change(metadata={"session_id": new}, session_id=old) == old
    assert await change(metadata={"session_id": new}, session_id=None) is None
    assert await change(metadata={"session_id": "x" * 201}) is None


async def test_a_text_of_tags_is_a_comma_list_in_a_change_only(api: ApiProcess) -> None:
    """Spec 1.3 and 1.6: in POST it is one tag."""
    memory_id = await api.stored("Tagged", tags="a1,b1")

    async def tags() -> Any:
        return (await api.ask("GET", f"/memory/{memory_id}")).body["memory"]["tags"]

    assert await tags() == ["a1,b1"]
    for given, kept in (
        ("a1, b1,,a1", ["a1", "b1"]),
        (["a1,b1"], ["a1,b1"]),
        ("", []),
        ("x", ["x"]),
        (None, []),
    ):
        answer = await api.ask("PATCH", f"/memory/{memory_id}", json={"tags": given})
        assert answer.status == 200, answer
        assert await tags() == kept


@pytest.mark.parametrize("tags", [5, {"a": 1}, ["a", 5], "x" * 201, ",".join(map(str, range(101)))])
async def test_wrong_tags_are_refused_in_a_change(api: ApiProcess, tags: object) -> None:
    memory_id = await api.stored("Tagged")
    answer = await api.ask("PATCH", f"/memory/{memory_id}", json={"tags": tags})
    assert answer.status == 400
    assert "tags" in answer.body["message"]
