"""The searchable part of a memory's metadata: short values of a few well-known fields.

Only fields that say what a memory is about or where it comes from are searched; people are
found as entities, free text as content. Entities that a client put there (metadata.entities)
are searched where the query names that field; a prefix keeps their terms apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

FIELDS = (
    *("source", "source_agent", "source_agents", "repo", "project", "tool", "surface"),
    *("applies_to", "trigger", "provider", "model"),
)
ENTITIES = "entities"
_PEOPLE = "people"
_MOST_CHARS = 96
_MOST_VALUES = 12
_MOST_TERMS = 64
_TOKEN = re.compile(r"[^\W_]+")


def values(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, value) of the searchable values but the entities, in the fields' order."""
    for name in FIELDS:
        yield from ((name, value) for value in _short(metadata.get(name)))


def entities(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the searchable names in metadata.entities, which has a list per category."""
    by_category = metadata.get(ENTITIES)
    for category, names in by_category.items() if isinstance(by_category, dict) else ():
        if category != _PEOPLE:
            yield from _short(names)


def _short(field: object) -> Iterator[str]:
    for value in field[:_MOST_VALUES] if isinstance(field, list) else [field]:
        if isinstance(value, str) and 0 < len(value) <= _MOST_CHARS:
            yield value


def tokens(query: str) -> tuple[str, ...]:
    """Return the terms of a query: its words, also as entities if it names that field."""
    words = _words(query)
    return (*words, *map(_entity_term, words)) if ENTITIES in words else words


def _words(text: str) -> tuple[str, ...]:
    """Return the lower-cased words of letters and digits, unique, in order."""
    return tuple(dict.fromkeys(_TOKEN.findall(text.lower())))


def _entity_term(word: str) -> str:
    return f"{ENTITIES}:{word}"


def terms(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the terms by which a memory is indexed: words of three characters and more."""
    if not metadata:  # most memories have none
        return ()
    unique = dict.fromkeys(word for _, value in values(metadata) for word in _long(value))
    unique |= dict.fromkeys(
        _entity_term(word) for name in entities(metadata) for word in _long(name)
    )
    return tuple(unique)[:_MOST_TERMS]


def _long(text: str) -> Iterator[str]:
    return (word for word in _words(text) if len(word) > 2)


def match_score(query: str, metadata: Mapping[str, Any]) -> float:
    """Return how well the best value answers the query, 0..1; 0 without strong evidence."""
    words = _words(query)
    named = {name for name in FIELDS if name in words or name.replace("_", " ") in query.lower()}
    fields = list(values(metadata))
    if ENTITIES in words:
        named.add(ENTITIES)
        fields += [(ENTITIES, name) for name in entities(metadata)]
    return max((_value_score(query, words, named, *field) for field in fields), default=0.0)


def is_exact(query: str, metadata: Mapping[str, Any]) -> bool:
    """Return whether the whole query is one of the values."""
    words = _words(query)
    return bool(words) and any(_words(value) == words for _, value in values(metadata))


def _value_score(
    query: str, words: tuple[str, ...], named: set[str], name: str, value: str
) -> float:
    """Weigh coverage of value and query, exactness and the field's name as AutoMem does."""
    value_words = _words(value)
    hits = [word for word in value_words if word in words]
    exact = value.lower() in query.lower()
    supported = exact or name in named
    if not hits or not (len(hits) >= 2 or (len(hits[0]) >= 5 and supported)):
        return 0.0
    score = (
        0.15
        + 0.45 * len(hits) / len(value_words)
        + 0.20 * len(hits) / len(words)
        + 0.15 * exact
        + 0.20 * (name in named)
    )
    return min(1.0, score) * (0.6 if named and name not in named else 1.0)
