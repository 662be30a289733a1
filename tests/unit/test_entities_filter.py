"""The rules that refuse a name, each with a name that only it refuses; and slugs."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enricher.entities.filter import CATEGORIES, may_be_entity, slug

REFUSED = [
    # the shape filter
    ("tools", "Go"),
    ("tools", "X" * 81),
    ("tools", "2024"),
    ("tools", "Redis:"),
    *(("tools", word) for word in ("True", "False", "Null", "None", "NaN", "Undefined")),
    ("tools", '{"a": 1}'),
    ("tools", "DATABASE_URL"),
    ("tools", "$HOME"),
    ("tools", "**Kafka"),
    ("tools", "#Heading"),
    ("tools", "memcached-like"),
    ("tools", "billing-service"),
    ("projects", "main branch"),
    *(
        ("tools", f"Order{ending}")
        for ending in (
            *("Adapter", "Handler", "Manager", "Service", "Controller", "Provider", "Factory"),
            *("Builder", "Helper", "Util"),
        )
    ),
    ("concepts", "The"),
    ("concepts", "Monday"),
    ("organizations", "Mit"),
    ("people", "Jan"),
    ("projects", "Frau"),
    ("tools", "Error"),
    ("tools", "Failed"),
    ("tools", "ECONNREFUSED"),
    ("tools", "TypeError"),
    ("tools", "Bad Gateway"),
    ("organizations", "HTTP 503"),
    # the quality validator
    ("tools", "C++"),
    ("tools", "Caf\\u00e9"),
    ("tools", "Ten u00e9"),
    ("concepts", "Five Minutes"),
    ("concepts", "Q3 2026"),
    ("concepts", "Last Week"),
    ("tools", "Pending"),
    ("tools", "Deployed"),
    ("concepts", "Awareness"),
    ("concepts", "Improvement"),
    ("concepts", "Privacy"),
    ("tools", "Deadbeef"),
    ("tools", "A1b2c3d4"),
    ("projects", "Commit 9f8e7d6c5b4a"),
    ("tools", "Order::create"),
    ("concepts", "Order_Create"),
    ("tools", "Read `this`"),
    ("projects", "settings-file.py"),
    ("projects", "Settings.py"),
    ("organizations", "Ticket OPS-154"),
    ("tools", "Placeholder Tool"),
    ("projects", "User Asked Something"),
    ("tools", "Dashboard"),
    ("organizations", "API Server"),
    ("concepts", "In SQL"),
    ("tools", "Done About"),
    ("organizations", "Nordwind Users"),
    ("tools", "The Kafka"),
    ("tools", "Use Kafka"),
    ("concepts", "One Place That Has Far Too Many Words"),
    ("people", "R2D2 Smith"),
    ("people", "Kafka"),
    ("people", "Alice Server"),
    ("people", "Acme Inc"),
    ("people", "Alice Alice"),
    ("people", "Mary Jane Watson"),
    ("people", "Watson van der de la"),
    ("people", "Sean O'B"),
    ("people", "Watson hari"),
    ("people", "Memory Watson"),
    ("people", "Watson Robotics"),
    ("people", "WatchTower"),
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
    ("people", "თამარ"),
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


@pytest.mark.parametrize(("category", "name"), REFUSED)
def test_a_name_is_refused(category: str, name: str) -> None:
    assert not may_be_entity(category, name)


@pytest.mark.parametrize(("category", "name"), ACCEPTED)
def test_a_name_passes(category: str, name: str) -> None:
    assert may_be_entity(category, name)


@given(st.sampled_from(CATEGORIES), st.text(max_size=100))
def test_any_text_is_judged(category: str, name: str) -> None:
    if may_be_entity(category, name):
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
