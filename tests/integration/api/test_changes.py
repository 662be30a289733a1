"""PATCH and GET where AutoMem lost data (spec, section 7.2): the API's half of it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.api_process import ApiProcess
from tests.graphs import cypher
from tests.waiting import wait_until


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


async def test_reading_is_an_access_for_every_reader(api: ApiProcess) -> None:
    """AutoMem bumped one store of two, so that readers disagreed (6)."""
    tag = f"read-{uuid4()}"
    memory_id = await api.stored("Read me", tags=[tag], last_accessed="2020-01-01T00:00:00Z")
    await api.ask("GET", f"/memory/{memory_id}")

    async def bumped() -> bool:
        found = (await api.ask("GET", f"/memory/by-tag?tags={tag}")).body["memories"]
        return bool(found[0]["last_accessed"] > "2021")

    await wait_until(bumped, "last_accessed has moved")
