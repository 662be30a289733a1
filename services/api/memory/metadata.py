"""What of a memory's metadata can be searched: short values of a few well-known fields.

Only fields that say what a memory is about or where it comes from; people are found as
entities, free text as content. Entities that a client put there (metadata.entities) are searched
where the query names that field: their terms are kept apart from the others' by a prefix.
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
ENTITIES = "entities"
_PEOPLE = "people"
_MOST_CHARS = 96
_MOST_VALUES = 12
_MOST_TERMS = 64
_TOKEN = re.compile(r"[^\W_]+")


def values(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, value) of every searchable value but the entities, in the fields' order."""
    for name in FIELDS:
        yield from ((name, value) for value in _short(metadata.get(name)))


def entities(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Every searchable name in metadata.entities, which holds them by category."""
    held = metadata.get(ENTITIES)
    for category, named in held.items() if isinstance(held, dict) else ():
        if category != _PEOPLE:
            yield from _short(named)


def _short(held: object) -> Iterator[str]:
    for value in held[:_MOST_VALUES] if isinstance(held, list) else [held]:
        if isinstance(value, str) and 0 < len(value) <= _MOST_CHARS:
            yield value


def tokens(query: str) -> tuple[str, ...]:
    """What a query looks up: its words, and as terms of entities too if it names that field."""
    asked = _words(query)
    return (*asked, *map(_entity_term, asked)) if ENTITIES in asked else asked


def _words(text: str) -> tuple[str, ...]:
    """Lower-cased letters and digits, unique, in order."""
    return tuple(dict.fromkeys(_TOKEN.findall(text.lower())))


def _entity_term(word: str) -> str:
    return f"{ENTITIES}:{word}"


def terms(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What a memory is indexed by: words of three characters and more."""
    found = dict.fromkeys(word for _, value in values(metadata) for word in _long(value))
    found |= dict.fromkeys(
        _entity_term(word) for name in entities(metadata) for word in _long(name)
    )
    return tuple(found)[:_MOST_TERMS]


def _long(text: str) -> Iterator[str]:
    return (word for word in _words(text) if len(word) > 2)


def match_score(query: str, metadata: Mapping[str, Any]) -> float:
    """How well the best value answers the query, 0..1; 0 without strong evidence."""
    asked = _words(query)
    named = {name for name in FIELDS if name in asked or name.replace("_", " ") in query.lower()}
    held = list(values(metadata))
    if ENTITIES in asked:
        named.add(ENTITIES)
        held += [(ENTITIES, name) for name in entities(metadata)]
    return max((_value_score(query, asked, named, *each) for each in held), default=0.0)


def is_exact(query: str, metadata: Mapping[str, Any]) -> bool:
    """Whether the whole query is one of the values."""
    wanted = " ".join(_words(query))
    return bool(wanted) and any(" ".join(_words(value)) == wanted for _, value in values(metadata))


def _value_score(
    query: str, asked: tuple[str, ...], named: set[str], name: str, value: str
) -> float:
    """AutoMem's weights: coverage of the value and of the query, exactness, the field's name."""
    held = _words(value)
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
