"""Precision and recall of the entities, per category, on the labelled sentences.

Three sets: `tuned` is what the rules were made with; `held_out` was labelled with it, before
any rule, and looked at only as figures; `fresh` was labelled after the rules were done, with
names chosen to be in no list. A label under `may` counts neither way: people differ on it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.enricher.entities.filter import CATEGORIES, slug
from services.enricher.entities.nlp import Pipeline
from services.enricher.entities.recognizer import Found, entities_of

SENTENCES = Path(__file__).with_name("labelled_sentences.json")


@dataclass
class Score:
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def precision(self, category: str | None = None) -> float:
        right, wrong = self._of(self.right, category), self._of(self.wrong, category)
        return right / max(right + wrong, 1)

    def recall(self, category: str | None = None) -> float:
        right, missed = self._of(self.right, category), self._of(self.missed, category)
        return right / max(right + missed, 1)

    @staticmethod
    def _of(counts: Counter[str], category: str | None) -> int:
        return counts.total() if category is None else counts[category]


def labelled() -> dict[str, list[dict[str, Any]]]:
    sets: dict[str, list[dict[str, Any]]] = json.loads(SENTENCES.read_text("utf-8"))
    return sets


def score(pipeline: Pipeline, rows: Sequence[Mapping[str, Any]]) -> Score:
    total = Score()
    found = map(entities_of, pipeline.annotate([row["text"] for row in rows]))
    for row, entities in zip(rows, found, strict=True):
        for category in CATEGORIES:
            wanted = _slugs(row["want"], category)
            got = _slugs(entities, category)
            total.right[category] += len(got & wanted)
            total.wrong[category] += len(got - wanted - _slugs(row.get("may", {}), category))
            total.missed[category] += len(wanted - got)
    return total


def _slugs(names: Mapping[str, list[str]] | Found, category: str) -> set[str]:
    return {slug(name) for name in names.get(category, [])}
