"""The times in a request: its `time_query` as a UTC window, and the day or month in its text."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.errors import InvalidInput

_LAST_N = re.compile(r"^last (\d{1,5}) (hour|day|week|month|year)s?$")
_DAYS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
# People still talk about an event for some days.
_SLACK = timedelta(days=7)
_MONTHS = {name.lower(): at for at, name in enumerate(calendar.month_name) if name}
_MONTHS |= {
    name.lower(): at for at, name in enumerate(calendar.month_abbr) if name and name != "May"
}
_NAMES = "|".join(sorted(_MONTHS, key=len, reverse=True))
_MONTH = re.compile(
    rf"\b(?:in|on|of|during|since|by|until|early|late|mid|\d{{1,2}}(?:st|nd|rd|th)?)\s+({_NAMES})\b"
    rf"|\b({_NAMES})(?=\.?,?\s+\d)"
)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_ISO = re.compile(r"\b((?:19|20)\d\d)-(\d\d)(?:-(\d\d))?\b")


# The first and the last millisecond of a span of time; None means no limit.
Window = tuple[int | None, int | None]


class UnknownTime(InvalidInput):
    """The expression is unknown; the request fails with `strict`, else it is not limited."""


def window_of(expression: str, now_ms: int) -> Window:
    """Return the window that an expression such as "last week" means. Raises: UnknownTime."""
    text = re.sub(r"^past\b", "last", " ".join(expression.lower().split()))
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    spans = _named_spans(now)
    if counted := _LAST_N.match(text):
        days = int(counted[1]) * _DAYS[counted[2]]
        spans[text] = (now - timedelta(days=min(days, 365_000 / 2)), now)
    if text not in spans:
        raise UnknownTime(f"Unknown time expression: {expression[:100]!r}")
    start, end = spans[text]
    return int(start.timestamp() * 1000), int(end.timestamp() * 1000)


def _named_spans(now: datetime) -> dict[str, tuple[datetime, datetime]]:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    month = day.replace(day=1)
    year = month.replace(month=1)
    before_month = (month - timedelta(days=1)).replace(day=1)
    before_year = year.replace(year=year.year - 1)
    return {
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


@dataclass(frozen=True, slots=True)
class Period:
    """A named month or day; without a year, the year of the compared memory is used."""

    year: int | None
    month: int
    day: int | None

    def includes(self, at_ms: int) -> bool:
        """Return whether the time lies in the period or up to a week after it."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        try:
            start = datetime(self.year or at.year, self.month, self.day or 1, tzinfo=UTC)
        except ValueError:
            return False
        days = 1 if self.day else calendar.monthrange(start.year, start.month)[1]
        return start <= at < start + timedelta(days=days) + _SLACK


def period_of(query: str) -> Period | None:
    """Return the first month or day that the query names, if it names one."""
    if iso := _ISO.search(query):
        month = int(iso[2])
        day = int(iso[3]) if iso[3] else None
        return Period(int(iso[1]), month, day) if 1 <= month <= 12 else None
    text = query.lower()
    found = _MONTH.search(text)
    if found is None:
        return None
    name = found[1] or found[2]
    year = _YEAR.search(text)
    return Period(int(year[0]) if year else None, _MONTHS[name], _day(text, name))


def _day(text: str, month: str) -> int | None:
    before = re.search(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+{month}\b", text)
    found = before or re.search(rf"\b{month}\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\b", text)
    return int(found[1]) if found and 1 <= int(found[1]) <= 31 else None
