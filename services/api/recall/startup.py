"""GET /startup-recall: the lessons and rules that an agent reads before it begins.

What is archived, not valid yet, no longer valid or superseded by what holds is no lesson.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Route
from services.api.recall.state import active
from shared.domain.memory import Memory, now_ms
from shared.graph.store import GraphStore

_LESSON_TAGS = ("critical", "lesson", "ai-assistant")
_RULE_TAGS = ("system", "memory-recall")
_MOST_LESSONS = 10
_MOST_RULES = 5
_CRITICAL_IMPORTANCE = 0.9
# So many times as many are read, since some may have been invalidated.
_SPARE = 3


@dataclass(frozen=True, slots=True)
class Briefing:
    lessons: tuple[Memory, ...]
    rules: tuple[Memory, ...]

    @property
    def has_critical(self) -> bool:
        return any(lesson.importance >= _CRITICAL_IMPORTANCE for lesson in self.lessons)


class Startup:
    """Reads one tenant's lessons and rules, by importance."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph

    async def brief(self, tenant: str) -> Briefing:
        find, now = self._graph.tags.current, now_ms()
        lessons, rules = await asyncio.gather(
            find(tenant, _LESSON_TAGS, now_ms=now, limit=_SPARE * _MOST_LESSONS),
            find(tenant, _RULE_TAGS, now_ms=now, limit=_SPARE * _MOST_RULES),
        )
        gone = await self._invalidated(tenant, [*lessons, *rules], now)
        return Briefing(
            tuple([each for each in lessons if each.id not in gone][:_MOST_LESSONS]),
            tuple([each for each in rules if each.id not in gone][:_MOST_RULES]),
        )

    async def _invalidated(self, tenant: str, found: Sequence[Memory], now: int) -> set[str]:
        held = await self._graph.memories.hydrate(
            tenant, [memory.id for memory in found], relation_limit=0
        )
        return {
            memory_id
            for memory_id, each in held.items()
            if any(active(by, now) for by in each.successors)
        }


# -- HTTP -------------------------------------------------------------------------------

STARTUP: web.AppKey[Startup] = web.AppKey("startup", Startup)


async def startup_recall(request: web.Request) -> web.Response:
    briefing = await request.app[STARTUP].brief(request[TENANT])
    return json_answer(
        {
            "status": "success",
            "critical_lessons": [_lesson(memory) for memory in briefing.lessons],
            "system_rules": [_rule(memory) for memory in briefing.rules],
            "lesson_count": len(briefing.lessons),
            "has_critical": briefing.has_critical,
            "summary": f"Recalled {len(briefing.lessons)} lesson(s)"
            f" and {len(briefing.rules)} system rule(s)",
        }
    )


def _rule(memory: Memory) -> dict[str, Any]:
    return {"id": memory.id, "content": memory.content, "tags": list(memory.all_tags)}


def _lesson(memory: Memory) -> dict[str, Any]:
    return {
        **_rule(memory),
        "importance": memory.importance,
        "type": memory.type,
        "metadata": memory.shown_metadata,
    }


_SUMMARY = "Lessons and rules to read before work begins"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/startup-recall", startup_recall, _SUMMARY),
    Route("GET", "/startup/recall", startup_recall, _SUMMARY),
)
