"""Entity quality has a floor on sentences that a person labelled."""

from __future__ import annotations

import pytest

from services.enricher.entities import nlp
from tests.quality.scoring import labelled, score

# (set, category or all of them) → least precision and recall; a little below what is reached.
FLOORS = [
    ("tuned", None, 0.95, 0.95),
    ("tuned", "people", 0.95, 0.95),
    ("held_out", None, 0.93, 0.89),
    ("held_out", "people", 0.92, 0.94),
    ("held_out", "tools", 0.95, 0.80),
    ("held_out", "projects", 0.95, 0.95),
    ("held_out", "organizations", 0.85, 0.85),
    ("held_out", "concepts", 0.88, 0.88),
    ("fresh", None, 0.82, 0.80),
    ("fresh", "people", 0.80, 0.70),
]


@pytest.fixture(scope="module")
def pipeline() -> nlp.Pipeline:
    loaded = nlp.load("en_core_web_sm")
    assert loaded.name != nlp.RULES_ONLY, "no model is installed, so there is nothing to measure"
    return loaded


@pytest.mark.parametrize(("name", "category", "precision", "recall"), FLOORS)
def test_entities_reach_the_floor(
    pipeline: nlp.Pipeline, name: str, category: str | None, precision: float, recall: float
) -> None:
    result = score(pipeline, labelled()[name])
    assert result.precision(category) >= precision
    assert result.recall(category) >= recall


def test_the_set_is_as_large_and_diverse_as_promised() -> None:
    rows = [row for rows in labelled().values() for row in rows]
    assert len(rows) >= 160
    assert len({row["text"] for row in rows}) == len(rows)
    kinds = {
        "name",
        "tool",
        "project",
        "german",
        "french",
        "code",
        "error",
        "date",
        "quote",
        "chat",
    }
    assert kinds <= {row["kind"] for row in rows}


def test_code_errors_and_dates_yield_no_junk(pipeline: nlp.Pipeline) -> None:
    rows = [
        row
        for rows in labelled().values()
        for row in rows
        if row["kind"] in {"code", "error", "date"}
    ]
    assert len(rows) >= 40
    assert score(pipeline, rows).wrong.total() <= 2
