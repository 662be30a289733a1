"""No text makes a pattern, or a function that reads texts, take more than linear time.

A search holds the interpreter's lock, so one slow text would stop every task of its process.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from services.api.recall import words
from services.api.recall.request import MAX_QUERY_CHARS
from services.api.recall.times import UnknownTime, period_of, window_of
from services.enricher.entities.nlp import Annotated, Span
from services.enricher.entities.recognizer import entities_of
from services.enricher.stages.patterns import key_terms
from services.enricher.stages.summarize import summarize
from shared.domain import memory_type
from shared.domain.memory import speaker_of
from shared.vectors import sparse
from tests.support.patterns import (
    Found,
    adversarial,
    cpu_s,
    modules,
    patterns_of,
    slowest_of,
    units,
)

SIZE = 2000
LIMIT_S = 0.010
# What a function of the product puts into a pattern that it builds.
SAMPLES: dict[str, list[object]] = {
    "month": ["may", "september"],
    "speaker": ["Ada", "Ada Ada Ada", "a" * 60, "约翰", "Zoë"],
    "letters": ["\u0300-\u036f"],
    "pattern": [each for kind in memory_type._TRIGGERS.values() for _, each in kind],
    "colon": [": "],
}
# The two that froze the enricher, and one that tried every quote with every colon.
SLOW = [
    Found(
        "count",
        re.compile(r"(?:about-)?(?:(?:\d+|one|two)-?)+(?:$|(?:ms|s)(?:-|$))"),
        frozenset({"match"}),
    ),
    Found(
        "message",
        re.compile(r"^\W*(?:\d{4}|WARN)[T :][^\n]*", re.MULTILINE),
        frozenset({"finditer"}),
    ),
    Found("tag", re.compile(r"\{[^{}]*\"[^{}]*:[^{}]*\}"), frozenset({"search"})),
]
PATTERNS = [found for module, tree in modules() for found in patterns_of(module, tree, SAMPLES)]


def test_the_patterns_of_the_product_are_found() -> None:
    places = {found.place.partition(":")[0] for found in PATTERNS}
    assert {"services.enricher.entities.rules", "services.enricher.entities.filter"} <= places
    assert {"services.api.recall.words", "shared.vectors.sparse", "shared.domain.memory"} <= places


@pytest.mark.parametrize("found", PATTERNS, ids=lambda found: found.place)
def test_a_pattern_is_quick_on_any_text(found: Found) -> None:
    assert slowest_of(found.run, set(adversarial(found.pattern, SIZE)), limit_s=LIMIT_S) is None


@pytest.mark.parametrize("found", SLOW, ids=lambda found: found.place)
def test_a_slow_pattern_is_noticed(found: Found) -> None:
    assert slowest_of(found.run, adversarial(found.pattern, SIZE), limit_s=LIMIT_S)


def _entities(text: str) -> object:
    """The rules, with every third word marked as a name as spaCy would."""
    spans = [
        Span(("PERSON", "ORG", "GPE")[at % 3], *match.span())
        for at, match in enumerate(re.finditer(r"\S{1,40}", text))
        if at % 3 == 0
    ]
    return entities_of(Annotated(text, tuple(spans)))


def _window(text: str) -> object:
    try:
        return window_of(text, 0)
    except UnknownTime:
        return None


# Functions that read a memory's text, and where the patterns are that they use.
OF_MEMORIES: dict[str, tuple[Callable[[str], object], str]] = {
    "entities": (_entities, "services.enricher.entities"),
    "summary": (summarize, "services.enricher.stages.summarize"),
    "key_terms": (lambda text: key_terms([text]), "services.enricher.stages.patterns"),
    "type": (memory_type.classify, "shared.domain.memory_type"),
    "tokens": (sparse.tokens, "shared.vectors.sparse"),
    "words": (sparse.words, "shared.vectors.sparse"),
    "speaker": (lambda text: speaker_of(text, {}), "shared.domain.memory"),
}
# Functions that read a query, which the API refuses past MAX_QUERY_CHARS.
OF_QUERIES: dict[str, tuple[Callable[[str], object], str]] = {
    "keywords": (words.keywords, "services.api.recall.words"),
    "names": (words.names, "services.api.recall.words"),
    "grams": (words.grams, "services.api.recall.words"),
    "named": (lambda text: words.named(text, ["Ada", "约翰"]), "services.api.recall.words"),
    "without": (lambda text: words.without(text, ["Ada", "约翰"]), "services.api.recall.words"),
    "decomposed": (words.decomposed, "services.api.recall.words"),
    "query_tokens": (lambda text: words.query_tokens([text]), "services.api.recall.words"),
    "period": (period_of, "services.api.recall.times"),
    "window": (_window, "services.api.recall.times"),
}


def _texts(prefix: str, size: int) -> dict[str, str]:
    """Repeats of what the patterns of a module look for, by what is repeated."""
    found = [each for each in PATTERNS if each.place.startswith(prefix)]
    repeated = dict.fromkeys(unit for each in found for unit in units(each.pattern) if unit)
    return {unit: (unit * (size // len(unit) + 1))[:size] for unit in repeated}


@pytest.mark.parametrize("name", OF_MEMORIES)
def test_a_function_takes_time_in_proportion_to_its_text(name: str) -> None:
    """Four times the text takes less than nine times as long; a quadratic loop, sixteen."""
    function, prefix = OF_MEMORIES[name]
    shorter = _texts(prefix, SIZE)
    for unit, text in _texts(prefix, 4 * SIZE).items():
        taken = cpu_s(lambda: function(text), limit_s=5.0)  # noqa: B023 - called at once
        if taken > 10 * LIMIT_S:
            assert _least_s(function, text) < 9 * _least_s(function, shorter[unit]), unit


@pytest.mark.parametrize("name", OF_QUERIES)
def test_the_longest_query_is_read_quickly(name: str) -> None:
    function, prefix = OF_QUERIES[name]
    for unit, text in _texts(prefix, MAX_QUERY_CHARS).items():
        assert _least_s(function, text) < 10 * LIMIT_S, unit


def _least_s(function: Callable[[str], object], text: str) -> float:
    return min(cpu_s(lambda: function(text), limit_s=5.0) for _ in range(3))
