"""/startup-recall and /analyze: what an agent reads at its start, and what there is at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.conftest import TOKEN
from tests.support.stack.client import Client
from tests.support.stack.whole_api import WholeApi
from tests.support.stores.graphs import cypher


@pytest.fixture(autouse=True)
def no_task_left() -> None:
    """Not looked for: the API beside the tests begins and ends tasks all the time."""


@pytest.fixture
async def empty(whole: WholeApi, tenant: str) -> AsyncIterator[Client]:
    """A tenant that nobody has stored anything in."""
    async with whole.client(TOKEN, tenant) as client:
        yield client


async def test_a_new_tenant_has_an_overview_too(empty: Client) -> None:
    startup = (await empty.ask("GET", "/startup-recall")).body
    assert (startup["critical_lessons"], startup["system_rules"]) == ([], [])
    assert (startup["lesson_count"], startup["has_critical"]) == (0, False)
    analysis = await empty.ask("GET", "/analyze")
    assert analysis.status == 200
    assert analysis.body["analytics"] == {
        "memory_types": {},
        "patterns": [],
        "preferences": [],
        "temporal_insights": {},
        "entity_frequency": {},
        "confidence_distribution": {"low": 0, "medium": 0, "high": 0},
    }


async def test_lessons_and_rules_by_importance(empty: Client) -> None:
    for at in range(12):
        await empty.stored(f"Lesson {at}", tags=["Lesson"], importance=at / 20)
    await empty.stored("Critical", tags=["critical", "x"], importance=0.9, type="Insight")
    for at in range(7):
        await empty.stored(f"Rule {at}", tags=["system"], importance=at / 10)
    await empty.stored("Not a lesson", tags=["lesson:learned"], importance=1)
    await empty.stored("Over", tags=["lesson"], importance=1, t_invalid="2020-01-01T00:00:00Z")
    await empty.stored("Not yet", tags=["lesson"], importance=1, t_valid="2999-01-01T00:00:00Z")

    found = (await empty.ask("GET", "/startup/recall")).body

    assert (await empty.ask("GET", "/startup-recall")).body == found
    lessons = [lesson["content"] for lesson in found["critical_lessons"]]
    assert lessons == ["Critical", *(f"Lesson {at}" for at in range(11, 2, -1))]
    assert found["critical_lessons"][0].keys() == {
        "id",
        "content",
        "tags",
        "importance",
        "type",
        "metadata",
    }
    assert [rule["content"] for rule in found["system_rules"]] == [
        f"Rule {at}" for at in range(6, 1, -1)
    ]
    assert (found["lesson_count"], found["has_critical"]) == (10, True)
    assert isinstance(found["summary"], str)


async def test_an_invalidated_lesson_is_left_out(empty: Client) -> None:
    """Only while what invalidates it holds; the next one takes its place."""
    ids = {f"Rule {at}": await empty.stored(f"Rule {at}", tags=["system"]) for at in range(3)}
    wrong = await empty.stored("Wrong", tags=["lesson"], importance=1)
    kept = await empty.stored("Kept", tags=["lesson"], importance=0.9)
    for at in range(10):
        await empty.stored(f"Lesson {at}", tags=["lesson"], importance=at / 20)
    newer = await empty.stored("Newer")
    over = await empty.stored("Over", t_invalid="2020-01-01T00:00:00Z")
    pairs = [(wrong, newer), (kept, over), (ids["Rule 1"], newer)]
    for old, new in pairs:
        body = {"memory1_id": old, "memory2_id": new, "type": "INVALIDATED_BY"}
        assert (await empty.ask("POST", "/associate", json=body)).status == 201

    found = (await empty.ask("GET", "/startup-recall")).body

    lessons = [lesson["content"] for lesson in found["critical_lessons"]]
    assert lessons == ["Kept", *(f"Lesson {at}" for at in range(9, 0, -1))]
    assert {rule["content"] for rule in found["system_rules"]} == {"Rule 0", "Rule 2"}


async def test_an_analysis_counts_everything(empty: Client, whole: WholeApi, tenant: str) -> None:
    for at in range(8):
        await empty.stored(
            f"Decision {at}",
            type="Decision",
            confidence=at / 8,
            importance=0.5,
            timestamp=f"2024-01-0{at + 1}T07:59:59Z",
        )
    tea = await empty.stored("Tea", type="Preference", timestamp="1969-12-31T23:30:00Z")
    coffee = await empty.stored("Coffee", type="Preference", timestamp="2024-01-01T23:00:00Z")
    await empty.ask(
        "POST",
        "/associate",
        json={
            "memory1_id": tea,
            "memory2_id": coffee,
            "type": "PREFERS_OVER",
            "strength": 0.8,
            "context": "mornings",
        },
    )
    await cypher(
        whole.graph,
        "MATCH (m:Memory) WHERE m.type = 'Decision' WITH collect(m) AS ms"
        " CREATE (e:Entity {id: 'entity:people:ada', name: 'Ada', category: 'people'})"
        " CREATE (p:Pattern {id: 'p', type: 'Decision', content: 'decides', confidence: 0.3,"
        " observations: 1}) CREATE (:Pattern {id: 'q', type: 'Habit', confidence: 0.9})"
        " FOREACH (m IN ms | CREATE (e)-[:REFERENCED_IN]->(m), (m)-[:EXEMPLIFIES]->(p))",
        tenant,
    )

    found = (await empty.ask("GET", "/analyze")).body["analytics"]

    assert found == {
        "memory_types": {
            "Decision": {"count": 8, "average_confidence": 0.4375},
            "Preference": {"count": 2, "average_confidence": 0.9},
        },
        "patterns": [
            {"type": "Decision", "description": "decides", "confidence": 0.7, "observations": 8}
        ],
        "preferences": [
            {"prefers": "Tea", "over": "Coffee", "context": "mornings", "strength": 0.8}
        ],
        "temporal_insights": {
            "hour_07": {"count": 8, "avg_importance": 0.5},
            "hour_23": {"count": 2, "avg_importance": 0.5},
        },
        "entity_frequency": {"Ada": 8},
        "confidence_distribution": {"low": 4, "medium": 2, "high": 4},
    }
