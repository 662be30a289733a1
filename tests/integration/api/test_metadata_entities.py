"""Entities that a client put into metadata are found by a query that names that field."""

from __future__ import annotations

import pytest

from tests.support.stack.api_process import ApiProcess


@pytest.mark.parametrize(
    ("query", "found"), [("entities organizations root cause", True), ("root cause", False)]
)
async def test_entities_are_found_where_the_query_names_them(
    api: ApiProcess, query: str, found: bool
) -> None:
    stored = await api.stored(
        "Unrelated note", metadata={"entities": {"organizations": ["Root Cause"]}}
    )
    answer = await api.ask("GET", f"/recall?query={query.replace(' ', '+')}&limit=50")
    rows = {row["id"]: row for row in answer.body["results"]}
    assert (stored in rows) is found
    if found:
        assert rows[stored]["match_type"] == "metadata"
        assert rows[stored]["score_components"]["metadata"] == 1.0
