"""Ranked recall as AutoMem's official client sends it: every option, every field it reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.official_client import MEMORY, NUMBER, TEXT, OfficialClient, assert_shape
from tests.integration.conftest import ALPHA, CANARY
from tests.support.stack.stack import Stack


def day(back: float) -> str:
    return (datetime.now(UTC) - timedelta(days=back)).isoformat()


_ROW = {
    "id": TEXT,
    "match_type": TEXT,
    "match_score": NUMBER,
    "final_score": NUMBER,
    "score": NUMBER,
    "score_components": (dict,),
    "source": TEXT,
    "relations": (list,),
    "memory": (dict,),
}
_BODY = {
    "results": (list,),
    "count": (int,),
    "dedup_removed": (int,),
    "query": TEXT,
    "sort": TEXT,
    "tag_mode": TEXT,
    "tag_match": TEXT,
    "state_mode": TEXT,
    "vector_search": (dict,),
    "query_time_ms": NUMBER,
    "queries": (list,),
    "time_window": (dict,),
    "tags": (list,),
    "exclude_tags": (list,),
    "tag_scope": (dict,),
    "expansion": (dict,),
    "entity_expansion": (dict,),
    "context_priority": (dict,),
    "state_filter": (dict,),
    "score_filter": (dict,),
}
_COMPONENTS = (
    *("vector", "keyword", "metadata", "relation", "tag", "importance", "confidence"),
    *("recency", "exact", "relevance", "context", "evidence", "relevance_gated"),
)


async def test_the_official_client_may_send_every_option(stack: Stack) -> None:
    client = OfficialClient(stack.url, ALPHA)
    tag = "every-option"
    made = await client.store({"content": f"{CANARY} Ada likes tea at noon", "tags": [tag]})
    found = await client.recall_ranked(
        query="tea",
        queries=["tea at noon", "what Ada likes"],
        limit=5,
        per_query_limit=5,
        embedding=[0.05] * 384,
        tags=[tag],
        tag_mode="any",
        tag_match="exact",
        exclude_tags=["nothing"],
        time_query="last 90 days",
        start=day(3),
        end=day(-1),
        sort="score",
        expand_relations=True,
        expand_entities=True,
        expand_respect_tags=True,
        relation_limit=3,
        expansion_limit=10,
        expand_min_importance=0.1,
        expand_min_strength=0.1,
        auto_decompose=True,
        min_score=0.01,
        adaptive_floor=True,
        state_mode="current",
        current_only=True,
        state_debug=True,
        recency_bias="on",
        scope_fallback=False,
        context="drinks",
        language="python",
        active_path="a.py",
        context_tags=["x"],
        context_types=["Decision"],
        priority_ids=[made["memory_id"]],
        format="detailed",
        offset=0,
    )
    assert_shape(found, _BODY)
    [row] = found["results"]
    assert row["id"] == made["memory_id"]
    assert_shape(row, _ROW)
    assert_shape(row["memory"], MEMORY)
    assert set(_COMPONENTS) <= set(row["score_components"])
    assert isinstance(row["score_components"]["relevance_gated"], bool)
    assert found["recency_bias"] in ("auto", "on", "off")
    assert found["count"] == 1
    await client.delete(made["memory_id"])


@pytest.mark.parametrize(
    "params",
    [
        {"tags": ["preference"], "sort": "updated_desc"},
        {"query": "tea", "time_query": "last 90 days"},
        {"query": "tea", "sort": "time_desc"},
        {"limit": 1},
    ],
)
async def test_calls_of_first_party_clients(stack: Stack, params: dict[str, Any]) -> None:
    client = OfficialClient(stack.url, ALPHA)
    made = await client.store({"content": f"{CANARY} green tea", "tags": ["preference"]})
    found = await client.recall_ranked(**params)
    assert found["status"] == "success"
    assert isinstance(found["results"], list)
    assert found["results"]
    await client.delete(made["memory_id"])
