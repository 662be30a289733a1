"""Expressions of `time_query` such as "last week", as UTC windows in milliseconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.errors import InvalidInput

_LAST_N = re.compile(r"^last (\d{1,5}) (hour|day|week|month|year)s?$")
_DAYS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}


class UnknownTime(InvalidInput):
    """The expression is unknown; the request fails with `strict`, else it is not limited."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in ms, both ends included; None means no limit."""

    start_ms: int | None = None
    end_ms: int | None = None


def window_of(expression: str, now_ms: int) -> Window:
    """Return the window that `expression` means at `now_ms`. Raises: UnknownTime."""
    text = re.sub(r"^past\b", "last", " ".join(expression.lower().split()))
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if counted := _LAST_N.match(text):
        days = int(counted[1]) * _DAYS[counted[2]]
        return _window(now - timedelta(days=min(days, 365_000 / 2)), now)
    named = _named(text, now)
    if named is None:
        raise UnknownTime(f"Unknown time expression: {expression[:100]!r}")
    return _window(*named)


def _named(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    month = day.replace(day=1)
    year = month.replace(month=1)
    before_month = (month - timedelta(days=1)).replace(day=1)
    before_year = year.replace(year=year.year - 1)
    spans = {
        "today": (day, now),
        "this day": (day, now),
        "yesterday": (day - timedelta(days=1), day),
        "this week": (monday, now),
        "last week": (monday - timedelta(days=7), monday),
        "this month": (month, now),
        "last month": (before_month, month),
        "this year": (year, now),
        "last year": (before_year, year),
    }
    return spans.get(text)


def _window(start: datetime, end: datetime) -> Window:
    return Window(int(start.timestamp() * 1000), int(end.timestamp() * 1000))
