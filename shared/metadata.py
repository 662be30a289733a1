"""What of a memory's metadata can be searched: short values of a few well-known fields.

Only fields that say what a memory is about or where it comes from; people are found as
entities, free text as content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

FIELDS = (
    "source",
    "source_agent",
    "source_agents",
    "repo",
    "project",
    "tool",
    "surface",
    "applies_to",
    "trigger",
    "provider",
    "model",
)
_MOST_CHARS = 96
_MOST_VALUES = 12
_MOST_TERMS = 64
_TOKEN = re.compile(r"[^\W_]+")


def values(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, value) of every searchable value, in the fields' order."""
    for name in FIELDS:
        held = metadata.get(name)
        for value in held[:_MOST_VALUES] if isinstance(held, list) else [held]:
            if isinstance(value, str) and 0 < len(value) <= _MOST_CHARS:
                yield name, value


def tokens(text: str) -> tuple[str, ...]:
    """Lower-cased letters and digits, unique, in order."""
    return tuple(dict.fromkeys(_TOKEN.findall(text.lower())))


def terms(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What a memory is indexed by: tokens of three characters and more."""
    found = dict.fromkeys(
        token for _, value in values(metadata) for token in tokens(value) if len(token) > 2
    )
    return tuple(found)[:_MOST_TERMS]


def match_score(query: str, metadata: Mapping[str, Any]) -> float:
    """How well the best value answers the query, 0..1; 0 without strong evidence."""
    asked = tokens(query)
    named = {name for name in FIELDS if name in asked or name.replace("_", " ") in query.lower()}
    return max((_value_score(query, asked, named, *each) for each in values(metadata)), default=0.0)


def is_exact(query: str, metadata: Mapping[str, Any]) -> bool:
    """Whether the whole query is one of the values."""
    wanted = " ".join(tokens(query))
    return bool(wanted) and any(" ".join(tokens(value)) == wanted for _, value in values(metadata))


def _value_score(
    query: str, asked: tuple[str, ...], named: set[str], name: str, value: str
) -> float:
    """AutoMem's weights: coverage of the value and of the query, exactness, the field's name."""
    held = tokens(value)
    hits = [token for token in held if token in asked]
    exact = value.lower() in query.lower()
    supported = exact or name in named
    if not hits or not (len(hits) >= 2 or (len(hits[0]) >= 5 and supported)):
        return 0.0
    score = (
        0.15
        + 0.45 * len(hits) / len(held)
        + 0.20 * len(hits) / len(asked)
        + 0.15 * exact
        + 0.20 * (name in named)
    )
    return min(1.0, score) * (0.6 if named and name not in named else 1.0)
