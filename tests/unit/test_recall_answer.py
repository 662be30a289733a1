"""The keys of a recall's answer: which are always there, and what a query adds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_core import to_json

from services.api.recall.handler import answer_of
from services.api.recall.rank import Draft
from shared.graph.records import Hydrated
from tests.unit.recall_rows import draft, memory, row


def answered(found: Draft) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(to_json(answer_of(found, 1.5)))
    return answer


def test_an_answer_s_keys_without_results() -> None:
    found = answered(draft())
    assert set(found) == {
        *("status", "query", "results", "count", "dedup_removed", "sort", "state_mode"),
        *("vector_search", "tag_mode", "tag_match", "query_time_ms", "state_filter"),
    }
    json.dumps(found)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ({"tags": "a"}, "tags", ["a"]),
        ({"exclude_tags": "a,b"}, "exclude_tags", ["a", "b"]),
        (
            {"start": "2026-01-01"},
            "time_window",
            {"start": "2026-01-01T00:00:00+00:00", "end": None},
        ),
        ({"time_query": "someday"}, "warnings", ["Unknown time expression: 'someday'"]),
        (
            {"min_score": "0.5"},
            "score_filter",
            {"min_score": 0.5, "adaptive_floor": True, "filtered_count": 0},
        ),
        ({"state_mode": "history"}, "state_mode", "history"),
        (
            {"expand": "1", "relation_limit": "7"},
            "expansion",
            {
                "enabled": True,
                "seed_count": 0,
                "expanded_count": 0,
                "relation_limit": 7,
                "expansion_limit": 25,
                "respect_tags": False,
            },
        ),
        (
            {"expand_entities": "1"},
            "entity_expansion",
            {"enabled": True, "expanded_count": 0, "entities_found": []},
        ),
    ],
)
def test_blocks_appear_where_they_are_asked_for(
    query: dict[str, str], key: str, value: object
) -> None:
    assert answered(draft(**query))[key] == value


def test_history_has_no_state_filter() -> None:
    assert "state_filter" not in answered(draft(state_mode="history"))


def test_a_memory_that_went_meanwhile_is_not_answered() -> None:
    made = draft()
    made.rows, made.degraded = [row("a"), row("b")], True
    made.hydrated = {"a": Hydrated(memory("a"), ())}
    found = answered(made)
    assert [each["id"] for each in found["results"]] == ["a"]
    assert found["count"] == 1
    assert found["degraded"] == ["vector"]
    assert found["vector_search"]["enabled"] is False
