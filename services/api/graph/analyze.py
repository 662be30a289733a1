"""GET /analyze: what a tenant's memories look like as a whole."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Route
from shared.graph.memory.analytics import Group, Pattern, Preference
from shared.graph.store import GraphStore

_MOST_PATTERNS = 10
_MOST_PREFERENCES = 10
_MOST_ENTITIES = 50


@dataclass(frozen=True, slots=True)
class Findings:
    groups: Sequence[Group]
    patterns: Sequence[Pattern]
    preferences: Sequence[Preference]
    entities: dict[str, int]


class Analysis:
    """Four queries over one tenant's graph, whatever its size."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph

    async def analyze(self, tenant: str) -> Findings:
        analytics = self._graph.analytics
        return Findings(
            *await asyncio.gather(
                analytics.groups(tenant),
                analytics.patterns(tenant, _MOST_PATTERNS),
                analytics.preferences(tenant, _MOST_PREFERENCES),
                analytics.entities(tenant, _MOST_ENTITIES),
            )
        )


def findings_json(found: Findings) -> dict[str, Any]:
    by_type, by_hour = defaultdict[str, list[Group]](list), defaultdict[int, list[Group]](list)
    for group in found.groups:
        by_type[group.type].append(group)
        by_hour[group.hour].append(group)
    return {
        "memory_types": {
            name: {
                "count": _count(rows),
                "average_confidence": _average((row.confidence for row in rows), rows),
            }
            for name, rows in sorted(by_type.items(), key=lambda each: (-_count(each[1]), each[0]))
        },
        "patterns": [asdict(pattern) for pattern in found.patterns],
        "preferences": [asdict(preference) for preference in found.preferences],
        "temporal_insights": {
            f"hour_{hour:02d}": {
                "count": _count(rows),
                "avg_importance": _average((row.importance for row in rows), rows),
            }
            for hour, rows in sorted(by_hour.items())
        },
        "entity_frequency": found.entities,
        "confidence_distribution": _distribution(found.groups),
    }


def _count(rows: Iterable[Group]) -> int:
    return sum(row.count for row in rows)


def _average(sums: Iterable[float], rows: Sequence[Group]) -> float:
    return round(sum(sums) / _count(rows), 4)


def _distribution(groups: Sequence[Group]) -> dict[str, int]:
    low, high = sum(group.low for group in groups), sum(group.high for group in groups)
    return {"low": low, "medium": _count(groups) - low - high, "high": high}


# -- HTTP -------------------------------------------------------------------------------

ANALYSIS: web.AppKey[Analysis] = web.AppKey("analysis", Analysis)


async def analyze(request: web.Request) -> web.Response:
    began = time.perf_counter()
    found = await request.app[ANALYSIS].analyze(request[TENANT])
    elapsed_ms = round((time.perf_counter() - began) * 1000, 2)
    return json_answer(
        {"status": "success", "analytics": findings_json(found), "elapsed_ms": elapsed_ms}
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/analyze", analyze, "Types, patterns, preferences and times of all memories"),
)
