"""Print the table of entity quality: `python -m tests.quality.report`."""

from __future__ import annotations

from services.enricher.entities import nlp
from services.enricher.entities.filter import CATEGORIES
from tests.quality.scoring import labelled, score


def main() -> None:
    pipeline = nlp.load("en_core_web_sm")
    print(f"model: {pipeline.name}")
    print(f"{'set':<10}{'category':<15}{'precision':>10}{'recall':>8}{'labels':>8}")
    for name, rows in labelled().items():
        result = score(pipeline, rows)
        for category in (*CATEGORIES, None):
            labels = result._of(result.right, category) + result._of(result.missed, category)
            print(
                f"{name:<10}{category or 'all':<15}{result.precision(category):>10.2f}"
                f"{result.recall(category):>8.2f}{labels:>8}"
            )


if __name__ == "__main__":
    main()
