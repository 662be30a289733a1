"""Each rule that refuses a name, one by one; and the slug that names are told apart by."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enricher.entities.filter import CATEGORIES, Refusal, refusal, slug

REFUSED = [
    # the shape filter
    ("tools", "Go", Refusal.LENGTH),
    ("tools", "X" * 81, Refusal.LENGTH),
    ("tools", "2024", Refusal.NO_LETTER),
    ("tools", "Redis:", Refusal.COLON),
    ("tools", "True", Refusal.JSON_LITERAL),
    ("tools", '{"a": 1}', Refusal.JSON_LITERAL),
    ("tools", "DATABASE_URL", Refusal.ENV_VAR),
    ("tools", "$HOME", Refusal.ENV_VAR),
    ("tools", "**Kafka", Refusal.MARKUP),
    ("tools", "#Heading", Refusal.MARKUP),
    ("tools", "memcached-like", Refusal.LOWER_CASE),
    ("tools", "billing-service", Refusal.LOWER_CASE),
    ("projects", "main branch", Refusal.LOWER_CASE),
    *(
        ("tools", f"Order{ending}", Refusal.CLASS_NAME)
        for ending in (
            *("Adapter", "Handler", "Manager", "Service", "Controller", "Provider", "Factory"),
            *("Builder", "Helper", "Util"),
        )
    ),
    ("concepts", "The", Refusal.STOPWORD),
    ("concepts", "Monday", Refusal.STOPWORD),
    ("organizations", "Mit", Refusal.STOPWORD),
    ("tools", "Error", Refusal.ERROR),
    ("tools", "Failed", Refusal.ERROR),
    ("tools", "ECONNREFUSED", Refusal.ERROR),
    ("tools", "TypeError", Refusal.ERROR),
    ("tools", "Bad Gateway", Refusal.ERROR),
    ("organizations", "HTTP 503", Refusal.ERROR),
    # the quality validator
    ("animals", "Toby", Refusal.CATEGORY),
    ("tools", "C++", Refusal.LENGTH),
    ("tools", "Caf\\u00e9", Refusal.ESCAPE),
    ("tools", "Ten u00e9", Refusal.ESCAPE),
    ("concepts", "Five Minutes", Refusal.COUNT),
    ("concepts", "Q3 2026", Refusal.COUNT),
    ("concepts", "Last Week", Refusal.COUNT),
    ("tools", "Pending", Refusal.ACTION),
    ("tools", "Deployed", Refusal.ACTION),
    ("concepts", "Awareness", Refusal.ABSTRACT),
    ("concepts", "Improvement", Refusal.ABSTRACT),
    ("concepts", "Privacy", Refusal.ABSTRACT),
    ("tools", "Deadbeef", Refusal.HEX),
    ("tools", "A1b2c3d4", Refusal.HEX),
    ("projects", "Commit 9f8e7d6c5b4a", Refusal.HEX),
    ("tools", "Order::create", Refusal.CODE),
    ("tools", "Read `this`", Refusal.CODE),
    ("projects", "settings-file.py", Refusal.LOWER_CASE),
    ("projects", "Settings.py", Refusal.CODE),
    ("organizations", "Ticket OPS-154", Refusal.CODE),
    ("tools", "Placeholder Tool", Refusal.GENERATED),
    ("projects", "User Asked Something", Refusal.GENERATED),
    ("tools", "Dashboard", Refusal.GENERIC),
    ("organizations", "API Server", Refusal.GENERIC),
    ("tools", "The Kafka", Refusal.ARTICLE),
    ("tools", "Use Kafka", Refusal.VERB),
    ("concepts", "One Place That Has Far Too Many Words", Refusal.WORDS),
    ("people", "R2D2 Smith", Refusal.NOT_LETTERS),
    ("people", "Kafka", Refusal.TECHNICAL),
    ("people", "Alice Server", Refusal.TECHNICAL),
    ("people", "Acme Inc", Refusal.TECHNICAL),
    ("people", "Alice Alice", Refusal.NOT_NAME_SHAPED),
    ("people", "Mary Jane Watson", Refusal.NOT_NAME_SHAPED),
    ("people", "WatchTower", Refusal.NOT_NAME_SHAPED),
]

ACCEPTED = [
    ("people", "Alice"),
    ("people", "Alice Johnson"),
    ("people", "Tessa van Dijk"),
    ("people", "Liam O'Connor"),
    ("people", "Liam O’Connor"),
    ("people", "Jean-Luc Moreau"),
    ("people", "J. R. Smith"),
    ("people", "Kofi A. Annan"),
    ("people", "Vincent van der Berg"),
    ("people", "Jürgen Müller"),
    ("people", "Élodie Girard"),
    ("people", "Ronan McCarthy"),
    ("people", "李明华"),
    ("tools", "Next.js"),
    ("tools", "GitHub Actions"),
    ("tools", "Memcached"),
    ("projects", "billing-service"),
    ("projects", "Blue Heron"),
    ("organizations", "MIT"),
    ("organizations", "Siemens AG"),
    ("organizations", "Two Sigma"),
    ("concepts", "São Paulo"),
    ("concepts", "United States of America"),
]


@pytest.mark.parametrize(("category", "name", "reason"), REFUSED)
def test_a_name_is_refused_for_its_reason(category: str, name: str, reason: Refusal) -> None:
    assert refusal(category, name) is reason


@pytest.mark.parametrize(("category", "name"), ACCEPTED)
def test_a_name_passes(category: str, name: str) -> None:
    assert refusal(category, name) is None


def test_every_rule_has_a_case() -> None:
    assert {reason for _, _, reason in REFUSED} == set(Refusal)


@given(st.sampled_from(CATEGORIES), st.text(max_size=100))
def test_any_text_is_judged(category: str, name: str) -> None:
    verdict = refusal(category, name)
    if verdict is None:
        assert len(name) >= 3
        assert len(slug(name)) >= 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Alice Johnson", "alice-johnson"),
        ("Jürgen Müller", "jurgen-muller"),
        ("Lukas Großmann", "lukas-grossmann"),
        ("Gdańsk", "gdansk"),
        ("Łukasz Ø", "lukasz-o"),
        ("Node.js", "node-js"),
        ("snake_case", "snake-case"),
        ("李明华", "李明华"),
        ("Йошкар", "йошкар"),
        ("  --  ", ""),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text(max_size=60))
def test_a_slug_is_stable(name: str) -> None:
    once = slug(name)
    assert slug(once) == once
    assert slug(unicodedata.normalize("NFC", name)) == slug(unicodedata.normalize("NFD", name))
