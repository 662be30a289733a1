"""GET /startup-recall: the lessons and rules that an agent reads before it begins.

Archived, expired, not yet valid and superseded memories are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.api.http.answers import Answer, Id, Success, attribute, json_answer
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
# So many times the limit are read, since some may have been superseded.
_SPARE = 3


@dataclass(frozen=True, slots=True)
class Briefing:
    lessons: Sequence[Memory]
    rules: Sequence[Memory]


class Startup:
    """Reads one tenant's lessons and rules, by importance."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph

    async def brief(self, tenant: str) -> Briefing:
        find, now = self._graph.memories.current_by_tags, now_ms()
        lessons, rules = await asyncio.gather(
            find(tenant, _LESSON_TAGS, now_ms=now, limit=_SPARE * _MOST_LESSONS),
            find(tenant, _RULE_TAGS, now_ms=now, limit=_SPARE * _MOST_RULES),
        )
        ids = [memory.id for memory in (*lessons, *rules)]
        hydrated = await self._graph.memories.hydrate(tenant, ids, relation_limit=0)
        superseded = {
            memory_id
            for memory_id, each in hydrated.items()
            if any(active(successor, now) for successor in each.successors)
        }
        return Briefing(
            [each for each in lessons if each.id not in superseded][:_MOST_LESSONS],
            [each for each in rules if each.id not in superseded][:_MOST_RULES],
        )


# -- HTTP -------------------------------------------------------------------------------

STARTUP: web.AppKey[Startup] = web.AppKey("startup", Startup)


class RuleAnswer(Answer):
    """What an agent is to do."""

    id: Id
    content: str
    tags: tuple[str, ...] = attribute("all_tags")


class LessonAnswer(RuleAnswer):
    """What an agent is to know."""

    importance: float
    type: str
    metadata: dict[str, Any] = attribute("shown_metadata")


class BriefingAnswer(Success):
    """Lessons and rules, the most important first."""

    critical_lessons: list[LessonAnswer]
    system_rules: list[RuleAnswer]
    lesson_count: int
    has_critical: bool
    summary: str


async def startup_recall(request: web.Request) -> web.Response:
    found = await request.app[STARTUP].brief(request[TENANT])
    return json_answer(
        BriefingAnswer.model_validate(
            {
                "critical_lessons": found.lessons,
                "system_rules": found.rules,
                "lesson_count": len(found.lessons),
                "has_critical": any(
                    lesson.importance >= _CRITICAL_IMPORTANCE for lesson in found.lessons
                ),
                "summary": f"Recalled {len(found.lessons)} lesson(s)"
                f" and {len(found.rules)} system rule(s)",
            }
        )
    )


_SUMMARY = "Lessons and rules to read before work begins"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/startup-recall", startup_recall, _SUMMARY, returns=BriefingAnswer),
    Route("GET", "/startup/recall", startup_recall, _SUMMARY, returns=BriefingAnswer),
)
