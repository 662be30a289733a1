"""Tables and percentiles."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Table", "latencies", "median", "percentile"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(seconds: Sequence[float], *, tail: float = 0.99) -> dict[str, float]:
    """p50, p99 (or the percentile of another `tail`) and maximum in milliseconds."""
    return {
        "p50 ms": round(percentile(seconds, 0.5) * 1000, 2),
        f"p{tail:.0%} ms".replace("%", ""): round(percentile(seconds, tail) * 1000, 2),
        "max ms": round(max(seconds, default=0.0) * 1000, 2),
    }


@dataclass(slots=True)
class Table:
    """Rows of named figures, and what follows from them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, what: str, **figures: Any) -> None:
        self.rows.append({"what": what, **figures})

    def as_json(self) -> dict[str, Any]:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        return {"rows": self.rows, "facts": self.facts, "machine": machine}

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        cells = [names] + [[_shown(row.get(name, "")) for name in names] for row in self.rows]
        widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
        lines = [
            "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
            for line in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*lines, *(f"{name}: {_shown(v)}" for name, v in self.facts.items())])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:.3g}"
    return str(value)
