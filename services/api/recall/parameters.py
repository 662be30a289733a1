"""The documented parameters of GET /recall; `request.py` reads them and their aliases."""

from __future__ import annotations

from typing import Any

from services.api.http.route import Param
from services.api.memory.requests import MAX_TAG_CHARS
from services.api.recall.request import MAX_QUERIES, MAX_QUERY_CHARS, SORTS

_TEXT: dict[str, Any] = {"type": "string", "maxLength": MAX_QUERY_CHARS}
_NAME: dict[str, Any] = {"type": "string", "maxLength": MAX_TAG_CHARS}
_FLAG: dict[str, Any] = {"type": "boolean"}
_UNIT: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}


def _whole(default: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": high, "default": default}


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "default": values[0]}


RECALL_PARAMETERS = (
    Param("query", _TEXT, "What to look for; empty or * lists instead"),
    Param(
        "queries",
        _TEXT,
        "Several texts searched together; `query` is then not run",
        repeated=True,
        most=MAX_QUERIES,
    ),
    Param("limit", _whole(5, 100), "Most results; expansions may add to it"),
    Param("per_query_limit", _whole(5, 100), "Candidates per query before fusion"),
    Param("embedding", {"type": "string"}, "Query vector, comma-separated, of the live dimension"),
    Param(
        "tags",
        _NAME,
        "Only memories with these tags; a value with a comma is one tag",
        repeated=True,
    ),
    Param("tag_mode", _one_of("any", "all"), "Whether one tag suffices"),
    Param("tag_match", _one_of("prefix", "exact"), "Prefix: whole `:`-separated segments"),
    Param("exclude_tags", _NAME, "Not memories with these tags or their prefixes", repeated=True),
    Param("time_query", _NAME, "today, yesterday, last week, last 30 days, …"),
    Param("start", {"type": "string"}, "Earliest timestamp, ISO 8601"),
    Param("end", {"type": "string"}, "Latest timestamp, ISO 8601"),
    Param("strict", _FLAG, "Refuse an unknown time_query instead of warning"),
    Param("project", _NAME, "Only this project"),
    Param("session_id", _NAME, "Only this session"),
    Param("layer", _NAME, "Only this layer"),
    Param("sort", _one_of(*SORTS), "Order of the results"),
    Param("state_mode", _one_of("current", "history"), "history also shows what is superseded"),
    Param("current_only", _FLAG, "Wins over state_mode"),
    Param("state_debug", _FLAG, "Adds the suppressed ids"),
    Param("expand_relations", _FLAG, "Adds what the results relate to"),
    Param("expand_entities", _FLAG, "Adds memories about the same people and organizations"),
    Param("expand_respect_tags", _FLAG, "Keeps expansions inside the tag scope"),
    Param("relation_limit", _whole(5, 200), "Relations per result"),
    Param("expansion_limit", _whole(25, 500), "Most memories added by expansion"),
    Param("expand_min_importance", _UNIT, "Least importance of an added memory"),
    Param("expand_min_strength", _UNIT, "Least strength of a followed relation"),
    Param("auto_decompose", _FLAG, "Also searches for the names and topics in the query"),
    Param("min_score", _UNIT, "Least final score"),
    Param("adaptive_floor", _FLAG, "Cuts the list where the scores fall off"),
    Param("recency_bias", _one_of("off", "on", "auto"), "Prefers newer results"),
    Param("scope_fallback", _FLAG, "Fills up from outside the tags"),
    Param("context", _NAME, "What the caller works on"),
    Param("language", _NAME, "Programming language of the caller's file"),
    Param("active_path", _TEXT, "The caller's file"),
    Param("context_tags", _NAME, "Tags to prefer", repeated=True),
    Param("context_types", _NAME, "Types to prefer", repeated=True),
    Param("priority_ids", _NAME, "Memories that come first", repeated=True),
)
