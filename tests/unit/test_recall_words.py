"""What a query says: time expressions, dates, keywords, names, metadata."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.memory import metadata
from services.api.recall.times import Period, UnknownTime, period_of, window_of
from services.api.recall.words import (
    decomposed,
    grams,
    keywords,
    named,
    names,
    query_tokens,
    without,
)
from shared.domain.memory import speaker_of
from tests.unit.recall_rows import NOW

# A Wednesday.
AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


# -- time_query -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "start", "end"),
    [
        ("today", (2026, 3, 18), None),
        ("This  Day", (2026, 3, 18), None),
        ("yesterday", (2026, 3, 17), (2026, 3, 18)),
        ("this week", (2026, 3, 16), None),
        ("last week", (2026, 3, 9), (2026, 3, 16)),
        ("past week", (2026, 3, 9), (2026, 3, 16)),
        ("this month", (2026, 3, 1), None),
        ("last month", (2026, 2, 1), (2026, 3, 1)),
        ("this year", (2026, 1, 1), None),
        ("past year", (2025, 1, 1), (2026, 1, 1)),
        ("last 24 hours", (2026, 3, 17, 15, 30), None),
        ("past 48 hours", (2026, 3, 16, 15, 30), None),
        ("last 7 days", (2026, 3, 11, 15, 30), None),
        ("past 7 days", (2026, 3, 11, 15, 30), None),
        ("last 1 day", (2026, 3, 17, 15, 30), None),
    ],
)
def test_time_expressions(
    expression: str, start: tuple[int, ...], end: tuple[int, ...] | None
) -> None:
    now = int(AT.timestamp() * 1000)
    assert window_of(expression, now) == (ms(*start), ms(*end) if end else now)


@given(
    st.text(max_size=30)
    | st.from_regex(r"(last|past) \d{1,6} (hour|day|week|year)s?", fullmatch=True)
)
def test_an_expression_is_a_window_or_unknown(expression: str) -> None:
    try:
        start, end = window_of(expression, NOW)
    except UnknownTime:
        return
    assert start is not None
    assert end is not None
    assert start <= end


# -- dates in the query ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "period"),
    [
        ("what happened in May 2023?", Period(2023, 5, None)),
        ("on 7th of June", Period(None, 6, 7)),
        ("since 2024-02-29", Period(2024, 2, 29)),
        ("2024-13-01", None),
        ("during February", Period(None, 2, None)),
        ("who may help", None),
        ("march to the office", None),
        ("Sep 3, 2022", Period(2022, 9, 3)),
    ],
)
def test_periods(query: str, period: Period | None) -> None:
    assert period_of(query) == period


def test_a_period_lasts_a_week_longer() -> None:
    may = Period(2023, 5, None)
    assert may.includes(ms(2023, 5, 1))
    assert may.includes(ms(2023, 6, 7))
    assert not may.includes(ms(2023, 6, 8))
    assert not may.includes(ms(2024, 5, 2))
    assert Period(None, 5, 2).includes(ms(2024, 5, 2))


@given(st.text(max_size=60), st.integers(-62_135_596_800_000, 253_370_764_799_999))
def test_any_query_has_a_period_that_can_be_may_against_any_time(query: str, at_ms: int) -> None:
    if (period := period_of(query)) is not None:
        period.includes(at_ms)


@given(
    st.none() | st.integers(1900, 2099),
    st.integers(1, 12),
    st.none() | st.integers(1, 31),
    st.integers(-62_135_596_800_000, 253_370_764_799_999),
)
def test_any_period_can_be_may_against_any_time(
    year: int | None, month: int, day: int | None, at_ms: int
) -> None:
    assert Period(year, month, day).includes(at_ms) in (True, False)


# -- words ----------------------------------------------------------------------------------


def test_keywords() -> None:
    assert keywords("What did the _Kafka_-consumer do, and the kafka?") == [
        "kafka_-consumer",
        "kafka",
    ]


def test_names_longest_first() -> None:
    assert names("Did Ada Lovelace's dog meet Bo?")[:2] == ["Did Ada Lovelace", "Did Ada"]
    assert {"Ada Lovelace", "Lovelace", "Bo"} <= set(names("Did Ada Lovelace's dog meet Bo?"))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Where does Łukasz live?", "Łukasz"),
        ("Что любит Иван Петров?", "Иван Петров"),
        ("Qu'aime Émile Zola ?", "Émile Zola"),
        ("foo-Émile's dog", "Émile"),
        ("你知道李雷在哪里工作吗？", "李雷"),
        ("أين يعمل أحمد؟", "أحمد"),
        ("अनिल कहाँ रहता है?", "अनिल"),
        ("지민은 어디서 일해?", "지민"),
    ],
)
def test_names_of_every_script(query: str, name: str) -> None:
    assert name in names(query)
    assert named(query, [name]) == {name: 1.0}
    assert name not in without(f"{query} because", [name])


def test_a_name_is_no_part_of_a_longer_one() -> None:
    assert named("Łukaszenka spoke", ["Łukasz"]) == {}
    assert named("أحمدي هنا", ["أحمد"]) == {}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("did foo-Bar meet _Baz or a1B?", ["Bar"]),
        ("Ann Bo Cy Di", ["Ann Bo Cy", "Ann Bo", "Bo Cy", "Ann", "Bo", "Cy", "Di"]),
        ("O'Neil's J.R. dog", ["O'Neil J.R", "O'Neil", "J.R"]),
        ("no names, 7 Ups", ["Ups"]),
        ("nothing here", []),
    ],
)
def test_names_in_ascii_are_runs_of_capitalised_words(query: str, found: list[str]) -> None:
    assert names(query) == found


@pytest.mark.parametrize(
    ("content", "speaker"),
    [
        ("Ada: hello", "Ada"),
        ("Ada Lovelace: hello", "Ada Lovelace"),
        ("Ada lovelace: hello", None),
        ("ada: hello", None),
        ("Ada:hello", None),
        ("A b c: hello", None),
        ("https://example.org", None),
        ("3 Ada: x", None),
        ("Łukasz: cześć", "Łukasz"),
        ("łukasz: cześć", None),
        ("Émile Zola: oui", "Émile Zola"),
        ("E\u0301mile: oui", "E\u0301mile"),
        ("Иван: да", "Иван"),
        ("иван: да", None),
        ("李雷: 你好", "李雷"),
        ("李雷：你好", "李雷"),
        ("约翰·史密斯：你好", "约翰·史密斯"),
        ("أحمد علي: مرحبا", "أحمد علي"),
        ("अनिल: नमस्ते", "अनिल"),
        ("ნინო: გამარჯობა", "ნინო"),
        ("²: squared", None),
    ],
)
def test_a_leading_name_is_the_speaker(content: str, speaker: str | None) -> None:
    assert speaker_of(content, {}) == speaker


def test_possessives_count_half_beside_another_name() -> None:
    assert named("Ada's dog and Bo", ["Ada", "Bo", "Cy"]) == {"Ada": 0.5, "Bo": 1.0}
    assert named("Ada's dog", ["Ada"]) == {"Ada": 1.0}


def test_speakers_are_left_out_unless_nothing_else_is_left() -> None:
    assert without("Where does Ada sit", ["Ada"]) == "Where does sit"
    assert without("Ada", ["Ada"]) == "Ada"


def test_decomposition() -> None:
    assert decomposed("Where does Ada like working?") == [
        *("Ada", "Ada like", "Ada working"),
    ]
    assert decomposed("postgres replication lag monitoring") == [
        "postgres",
        "replication",
        "monitoring",
    ]


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=8), max_size=3))
def test_words_never_fail(query: str, speakers: list[str]) -> None:
    assert len(names(query)) <= (12 if query.isascii() else 48)
    assert all(value in (0.5, 1.0) for value in named(query, speakers).values())
    for found in (keywords(query), grams(query), decomposed(query), query_tokens([query])):
        assert len(found) == len(set(found))
    assert keywords(without(query, speakers)) or without(query, speakers) == query


# -- metadata -------------------------------------------------------------------------------


def test_metadata_terms_are_those_of_known_fields() -> None:
    may = {"repo": "eunoe/core", "source_agents": ["Claude", 7, "x" * 97], "note": "secret"}
    assert metadata.terms(may) == ("claude", "eunoe", "core")


@pytest.mark.parametrize(
    ("query", "strong"),
    [
        ("eunoe core", True),
        ("core of repo eunoe", True),
        ("the core", False),
        ("repo eunoe", True),
        ("nothing", False),
    ],
)
def test_metadata_needs_strong_evidence(query: str, strong: bool) -> None:
    assert (metadata.match_score(query, {"repo": "eunoe core"}) > 0) is strong


def test_another_field_that_is_named_weakens_a_match() -> None:
    may = {"repo": "eunoe core"}
    assert metadata.match_score("tool eunoe core", may) < metadata.match_score("eunoe core", may)


ORGANIZED = {"entities": {"organizations": ["Root Cause", 7], "people": ["Ada Lovelace"]}}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("entities organizations root cause", True),
        ("root cause", False),
        ("organizations root cause", False),
        ("entities people ada lovelace", False),
        ("entities of the root", False),
    ],
)
def test_entities_are_searched_where_the_query_names_them(query: str, found: bool) -> None:
    assert (metadata.match_score(query, ORGANIZED) > 0) is found
    assert metadata.is_exact(query, ORGANIZED) is False


def test_a_query_reaches_the_terms_of_entities_by_their_field_alone() -> None:
    may = set(metadata.terms(ORGANIZED))
    assert may == {"entities:root", "entities:cause"}
    assert may.isdisjoint(metadata.tokens("the root cause"))
    assert may <= set(metadata.tokens("which entities are a root cause"))


def test_naming_entities_weakens_other_fields() -> None:
    may = {"repo": "eunoe core"}
    named = metadata.match_score("entities eunoe core", may)
    assert 0 < named < metadata.match_score("about eunoe core", may)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.text(max_size=40),
    st.dictionaries(st.sampled_from([*metadata.FIELDS, "entities", "other"]), _JSON, max_size=5),
)
def test_any_metadata_scores_between_nothing_and_all(query: str, may: dict[str, Any]) -> None:
    assert 0 <= metadata.match_score(query, may) <= 1
    assert len(metadata.terms(may)) <= 64
    metadata.is_exact(query, may)
