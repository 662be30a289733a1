"""GET /analyze: what a tenant's memories look like as a whole.

Four queries over the tenant's graph, whatever its size.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from aiohttp import web

from services.api.http.answers import Answer, Success, json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Route
from shared.graph.memory.analytics import Analytics, Group, Pattern, Preference

_MOST_PATTERNS = 10
_MOST_PREFERENCES = 10
_MOST_ENTITIES = 50
ANALYTICS: web.AppKey[Analytics] = web.AppKey("analytics", Analytics)


_Statistics = dict[str, dict[str, int | float]]


class AnalyticsAnswer(Answer):
    """Memories and averages by type and by hour of the day (UTC), and what recurs in them."""

    memory_types: _Statistics
    patterns: list[Pattern]
    preferences: list[Preference]
    temporal_insights: _Statistics
    entity_frequency: dict[str, int]
    confidence_distribution: dict[str, int]


class AnalyzedAnswer(Success):
    """The analysis of a tenant's memories."""

    analytics: AnalyticsAnswer
    elapsed_ms: float


async def analyze(request: web.Request) -> web.Response:
    began = time.perf_counter()
    analytics, tenant = request.app[ANALYTICS], request[TENANT]
    groups, patterns, preferences, entities = await asyncio.gather(
        analytics.groups(tenant),
        analytics.patterns(tenant, _MOST_PATTERNS),
        analytics.preferences(tenant, _MOST_PREFERENCES),
        analytics.entities(tenant, _MOST_ENTITIES),
    )
    found = AnalyticsAnswer(
        memory_types=_by_type(groups),
        patterns=patterns,
        preferences=preferences,
        temporal_insights=_by_hour(groups),
        entity_frequency=entities,
        confidence_distribution=_by_confidence(groups),
    )
    elapsed_ms = round((time.perf_counter() - began) * 1000, 2)
    return json_answer(AnalyzedAnswer(analytics=found, elapsed_ms=elapsed_ms))


def _by_type(groups: Iterable[Group]) -> _Statistics:
    """Count the memories of each type, the most frequent first."""
    by_type = defaultdict[str, list[Group]](list)
    for group in groups:
        by_type[group.type].append(group)
    return {
        name: {
            "count": _count(rows),
            "average_confidence": _average((row.confidence for row in rows), rows),
        }
        for name, rows in sorted(by_type.items(), key=lambda item: (-_count(item[1]), item[0]))
    }


def _by_hour(groups: Iterable[Group]) -> _Statistics:
    by_hour = defaultdict[int, list[Group]](list)
    for group in groups:
        by_hour[group.hour].append(group)
    return {
        f"hour_{hour:02d}": {
            "count": _count(rows),
            "avg_importance": _average((row.importance for row in rows), rows),
        }
        for hour, rows in sorted(by_hour.items())
    }


def _by_confidence(groups: Sequence[Group]) -> dict[str, int]:
    """Count confidences below 0.4, below 0.7, and of at least 0.7."""
    low, high = sum(group.low for group in groups), sum(group.high for group in groups)
    return {"low": low, "medium": _count(groups) - low - high, "high": high}


def _count(rows: Iterable[Group]) -> int:
    return sum(row.count for row in rows)


def _average(sums: Iterable[float], rows: Sequence[Group]) -> float:
    return round(sum(sums) / _count(rows), 4)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/analyze",
        analyze,
        "Types, patterns, preferences and times of all memories",
        returns=AnalyzedAnswer,
    ),
)
