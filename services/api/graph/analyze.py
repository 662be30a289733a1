"""GET /analyze: what a tenant's memories look like as a whole, in four queries."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from aiohttp import web

from services.api.graph.relations import GRAPH
from services.api.http.answers import Answer, Success, json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Routes
from services.api.memory.handlers import ms_since
from shared.graph.memory.views import Group, Pattern, Preference

_MOST_PATTERNS = 10
_MOST_PREFERENCES = 10
_MOST_ENTITIES = 50
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


ROUTES = Routes()


@ROUTES.add(
    "GET",
    "/analyze",
    "Types, patterns, preferences and times of all memories",
    returns=AnalyzedAnswer,
)
async def analyze(request: web.Request) -> web.Response:
    began = time.perf_counter()
    analytics, tenant = request.app[GRAPH].analytics, request[TENANT]
    groups, patterns, preferences, entities = await asyncio.gather(
        analytics.groups(tenant),
        analytics.patterns(tenant, _MOST_PATTERNS),
        analytics.preferences(tenant, _MOST_PREFERENCES),
        analytics.entities(tenant, _MOST_ENTITIES),
    )
    types = _statistics(groups, lambda g: g.type, "average_confidence", lambda g: g.confidence)
    hours = _statistics(
        groups, lambda g: f"hour_{g.hour:02d}", "avg_importance", lambda g: g.importance
    )
    low, high = sum(group.low for group in groups), sum(group.high for group in groups)
    found = AnalyticsAnswer(
        memory_types=dict(sorted(types.items(), key=lambda item: -item[1]["count"])),
        patterns=patterns,
        preferences=preferences,
        temporal_insights=hours,
        entity_frequency=entities,
        # Below 0.4, below 0.7, and at least 0.7.
        confidence_distribution={"low": low, "medium": _count(groups) - low - high, "high": high},
    )
    return json_answer(AnalyzedAnswer(analytics=found, elapsed_ms=ms_since(began)))


def _statistics(
    groups: Iterable[Group],
    name_of: Callable[[Group], str],
    average_name: str,
    sum_of: Callable[[Group], float],
) -> _Statistics:
    """Return the count and the average of each name, ordered by name."""
    by_name = defaultdict[str, list[Group]](list)
    for group in groups:
        by_name[name_of(group)].append(group)
    return {
        name: {
            "count": (count := _count(rows)),
            average_name: round(sum(map(sum_of, rows)) / count, 4),
        }
        for name, rows in sorted(by_name.items())
    }


def _count(rows: Iterable[Group]) -> int:
    return sum(row.count for row in rows)
