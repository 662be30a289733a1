"""Query parameters as values: what cannot be parsed is refused, what is out of range clamped."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shared.domain.memory import check_text, parse_time
from shared.errors import InvalidInput

_YES = frozenset({"1", "true", "yes", "y", "on"})
_NO = frozenset({"0", "false", "no", "n", "off"})


def integer(
    query: Mapping[str, str],
    name: str,
    *,
    default: int,
    least: int | None = None,
    most: int | None = None,
) -> int:
    """The whole number named `name`, moved into `least`..`most`; empty counts as absent."""
    text = query.get(name, "").strip()
    if not text:
        return default
    try:
        # A longer text is a number too, but int() refuses to read it from 4 300 digits on.
        value = int(text) if len(text) <= 32 else None
    except ValueError:
        value = None
    if value is None:
        raise InvalidInput(f"'{name}' must be an integer")
    value = value if most is None else min(most, value)
    return value if least is None else max(least, value)


def number(query: Mapping[str, str], name: str, *, default: float) -> float:
    text = query.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"'{name}' must be a number")
    return value


def flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = query.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _YES | _NO:
        raise InvalidInput(f"'{name}' must be true or false")
    return text in _YES


def texts(query: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A comma list, stripped, without repeats."""
    parts = [part.strip() for part in check_text(query.get(name, ""), f"'{name}'").split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def text(query: Mapping[str, str], name: str) -> str | None:
    value = check_text(query.get(name, "").strip(), f"'{name}'")
    return value or None


def when(query: Mapping[str, str], name: str) -> int | None:
    """Milliseconds of an ISO 8601 time. Raises: InvalidInput naming the parameter."""
    # A `+` that the client did not escape arrives as a space; as the separator of date and
    # time either is read.
    value = query.get(name, "").strip().replace(" ", "+")
    if not value:
        return None
    try:
        return parse_time(value)
    except InvalidInput as error:
        raise InvalidInput(f"'{name}': {error}") from error
