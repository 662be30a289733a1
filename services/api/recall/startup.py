"""GET /startup-recall: the lessons and rules that an agent reads before it begins.

Archived, expired, not yet valid and superseded memories are left out.
"""

from __future__ import annotations

import asyncio
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


@dataclass(slots=True)
class Startup:
    """Reads one tenant's lessons and rules, by importance."""

    graph: GraphStore

    async def brief(self, tenant: str) -> tuple[list[Memory], list[Memory]]:
        """Return the lessons and the rules."""
        find, now = self.graph.memories.current_by_tags, now_ms()
        lessons, rules = await asyncio.gather(
            find(tenant, _LESSON_TAGS, now_ms=now, limit=_SPARE * _MOST_LESSONS),
            find(tenant, _RULE_TAGS, now_ms=now, limit=_SPARE * _MOST_RULES),
        )
        ids = [memory.id for memory in (*lessons, *rules)]
        hydrated = await self.graph.memories.hydrate(tenant, ids, relation_limit=0)
        superseded = {
            memory_id
            for memory_id, each in hydrated.items()
            if any(active(successor, now) for successor in each.successors)
        }
        lessons = [each for each in lessons if each.id not in superseded]
        rules = [each for each in rules if each.id not in superseded]
        return lessons[:_MOST_LESSONS], rules[:_MOST_RULES]


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
    lessons, rules = await request.app[STARTUP].brief(request[TENANT])
    answer = {
        "critical_lessons": lessons,
        "system_rules": rules,
        "lesson_count": len(lessons),
        "has_critical": any(each.importance >= _CRITICAL_IMPORTANCE for each in lessons),
        "summary": f"Recalled {len(lessons)} lesson(s) and {len(rules)} system rule(s)",
    }
    return json_answer(BriefingAnswer.model_validate(answer))


_SUMMARY = "Lessons and rules to read before work begins"
ROUTES: tuple[Route, ...] = tuple(
    Route("GET", path, startup_recall, _SUMMARY, returns=BriefingAnswer)
    for path in ("/startup-recall", "/startup/recall")
)
