"""GET /startup-recall: the lessons and rules that an agent reads before it begins.

Archived, expired, not yet valid and superseded memories are left out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from services.api.graph.relations import GRAPH
from services.api.http.answers import Answer, Id, Success, attribute, json_answer
from services.api.http.middleware import TENANT
from services.api.http.route import Routes
from shared.domain.memory import Memory, now_ms
from shared.graph.store import GraphStore

# Tags, and how many memories with any of them are answered.
_LESSONS = (("critical", "lesson", "ai-assistant"), 10)
_RULES = (("system", "memory-recall"), 5)
_CRITICAL_IMPORTANCE = 0.9
# So many times the limit are read, since some may have been superseded.
_SPARE = 3


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


ROUTES = Routes(returns=BriefingAnswer)
_SUMMARY = "Lessons and rules to read before work begins"


@ROUTES.add("GET", "/startup/recall", _SUMMARY)
@ROUTES.add("GET", "/startup-recall", _SUMMARY)
async def startup_recall(request: web.Request) -> web.Response:
    lessons, rules = await _briefing(request.app[GRAPH], request[TENANT])
    answer = {
        "critical_lessons": lessons,
        "system_rules": rules,
        "lesson_count": len(lessons),
        "has_critical": any(each.importance >= _CRITICAL_IMPORTANCE for each in lessons),
        "summary": f"Recalled {len(lessons)} lesson(s) and {len(rules)} system rule(s)",
    }
    return json_answer(BriefingAnswer.model_validate(answer))


async def _briefing(graph: GraphStore, tenant: str) -> list[list[Memory]]:
    """Return the lessons and the rules, by importance."""
    find, now = graph.memories.current_by_tags, now_ms()
    found = await asyncio.gather(
        *(find(tenant, tags, now_ms=now, limit=_SPARE * most) for tags, most in (_LESSONS, _RULES))
    )
    ids = [memory.id for memories in found for memory in memories]
    stored = await graph.candidates.read(tenant, ids, at_ms=now)
    superseded = {key for key, each in stored.items() if each.successor}
    current = [[each for each in memories if each.id not in superseded] for memories in found]
    return [some[:most] for some, (_, most) in zip(current, (_LESSONS, _RULES), strict=True)]
