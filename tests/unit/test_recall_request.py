"""The parameters of /recall: whatever comes is parsed, clamped or refused, and never fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.http.parameters import Param, Query
from services.api.recall.request import (
    MAX_QUERIES,
    PARAMETERS,
    SORTS,
    RecallRequest,
    parse_recall,
)
from shared.config import RecallSettings, Settings
from shared.errors import InvalidInput
from tests.unit.recall_rows import Values

NOW = 1_790_000_000_000
SETTINGS = Settings()
ALIASES = (
    *("time", "order_by", "expand_associations", "expand", "entity_expansion"),
    *("relation_expansion_limit", "lang", "file_path", "focus_path", "format", "offset"),
)
NAMES = [each.name for each in PARAMETERS]


def parsed(settings: Settings = SETTINGS, /, **values: str | Sequence[str]) -> RecallRequest:
    query = {name: [each] if isinstance(each, str) else each for name, each in values.items()}
    return parse_recall(Query(Values(query), settings), now_ms=NOW)


# -- whatever comes -------------------------------------------------------------------------

_NUMBERS = st.one_of(
    st.integers().map(str), st.floats().map(str), st.sampled_from(["1e400", "-0", "９", "1_000"])
)
_VALUES = st.one_of(
    st.text(max_size=40),
    _NUMBERS,
    st.datetimes().map(lambda when: when.isoformat()),
    st.sampled_from(["", "*", "true", "off", "history", "last 3 weeks", "today", ",", "a,b", "\0"]),
    st.lists(st.floats(width=32), max_size=6).map(lambda each: ",".join(map(str, each))),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Nd"]), max_size=8),
)
_QUERIES = st.dictionaries(
    st.sampled_from([*NAMES, *ALIASES]), st.lists(_VALUES, min_size=1, max_size=4), max_size=12
)


@settings(deadline=None)
@given(_QUERIES)
def test_any_query_string_is_parsed_or_refused(query: dict[str, list[str]]) -> None:
    try:
        found = parse_recall(Query(Values(query), SETTINGS), now_ms=NOW)
    except InvalidInput:
        return
    assert 1 <= found.limit <= SETTINGS.recall.max_limit
    assert 1 <= found.per_query_limit <= 100
    assert 1 <= found.expansion.relation_limit <= 200
    assert 1 <= found.expansion.limit <= 500
    assert 0 <= found.min_score <= 1
    assert found.sort in SORTS
    assert len(found.texts) <= MAX_QUERIES
    assert found.recency_bias in ("auto", "on", "off")


@pytest.mark.parametrize("name", [*NAMES, *ALIASES])
@settings(deadline=None)
@given(data=st.data())
def test_every_parameter_by_itself(name: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(_VALUES, min_size=1, max_size=3))
    with suppress(InvalidInput):
        parse_recall(Query(Values({name: values}), SETTINGS), now_ms=NOW)


def test_a_number_of_too_many_digits_is_refused_or_clamped() -> None:
    """int() itself refuses to read it."""
    with pytest.raises(InvalidInput):
        parsed(limit="9" * 5000)


# -- defaults and clamps --------------------------------------------------------------------


def test_the_defaults() -> None:
    found = parsed()
    assert (found.query, found.queries, found.texts) == ("", (), ())
    assert (found.limit, found.per_query_limit) == (5, 5)
    assert found.sort == "score"
    assert (found.scope.tag_mode, found.scope.tag_match) == ("any", "prefix")
    assert found.scope.current_at_ms == NOW
    assert found.adaptive_floor
    assert found.recency_bias == "off"
    assert (found.expansion.relation_limit, found.expansion.limit) == (5, 25)
    assert not found.warnings


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("limit", 1, 100),
        ("per_query_limit", 1, 100),
        ("relation_limit", 1, 200),
        ("expansion_limit", 1, 500),
        ("relation_expansion_limit", 1, 500),
    ],
)
@pytest.mark.parametrize("given_number", [-5, 0, 3, 100_000])
def test_whole_numbers_are_clamped(name: str, least: int, most: int, given_number: int) -> None:
    found = parsed(**{name: str(given_number)})
    values: Mapping[str, int] = {
        "limit": found.limit,
        "per_query_limit": found.per_query_limit,
        "relation_limit": found.expansion.relation_limit,
        "expansion_limit": found.expansion.limit,
        "relation_expansion_limit": found.expansion.limit,
    }
    assert values[name] == min(most, max(least, given_number))


@pytest.mark.parametrize("name", ["min_score", "expand_min_importance", "expand_min_strength"])
@pytest.mark.parametrize(("text", "value"), [("-1", 0.0), ("0.25", 0.25), ("7", 1.0)])
def test_shares_are_clamped(name: str, text: str, value: float) -> None:
    found = parsed(**{name: text})
    values = {
        "min_score": found.min_score,
        "expand_min_importance": found.expansion.min_importance,
        "expand_min_strength": found.expansion.min_strength,
    }
    assert values[name] == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit", "many", "'limit' must be an integer"),
        ("min_score", "high", "'min_score' must be a number"),
        ("min_score", "nan", "'min_score' must be a number"),
        ("embedding", "1,two", "Embedding must contain numeric values"),
        ("start", "soon", "Invalid start time: Invalid ISO timestamp"),
        ("end", "later", "Invalid end time: Invalid ISO timestamp"),
        ("state_mode", "future", "'state_mode' must be 'current' or 'history'"),
        ("query", "nul\0", "'query' must not contain NUL characters"),
        ("query", "x" * 4001, "'query' must not exceed 4000 characters"),
        ("queries", "x" * 4001, "'queries' must not exceed 4000 characters"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parsed(**{name: value})
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("name", "value"),
    [("tag_mode", "some"), ("tag_match", "regex"), ("sort", "size"), ("recency_bias", "much")],
)
def test_an_unknown_word_means_the_default(name: str, value: str) -> None:
    assert parsed(**{name: value}) == parsed()


# -- forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1", "true", "YES", "y", "On"])
def test_words_for_yes(word: str) -> None:
    assert parsed(scope_fallback=word).scope_fallback


@pytest.mark.parametrize("word", ["0", "false", "NO", "n", "Off"])
def test_words_for_no(word: str) -> None:
    assert not parsed(adaptive_floor=word).adaptive_floor


@pytest.mark.parametrize("word", ["", "maybe", "2"])
def test_other_words_leave_the_default(word: str) -> None:
    assert parsed(adaptive_floor=word).adaptive_floor
    assert not parsed(scope_fallback=word).scope_fallback


@pytest.mark.parametrize("name", ["expand_relations", "expand_associations", "expand"])
def test_names_of_relation_expansion(name: str) -> None:
    assert parsed(**{name: "true"}).expansion.relations


@pytest.mark.parametrize("name", ["expand_entities", "entity_expansion"])
def test_names_of_entity_expansion(name: str) -> None:
    assert parsed(**{name: "true"}).expansion.entities


@pytest.mark.parametrize("name", ["active_path", "file_path", "focus_path"])
def test_names_of_the_active_path(name: str) -> None:
    assert parsed(**{name: "a/b.py"}).hints.active_path == "a/b.py"


def test_a_star_searches_nothing() -> None:
    assert parsed(query=" * ").texts == ()


def test_queries_stand_in_for_the_query() -> None:
    found = parsed(query="one", queries=["two,three", "two", " four "])
    assert found.texts == ("two", "three", "four")


def test_blank_queries_are_none() -> None:
    assert parsed(query="one", queries=[" , "]).texts == ("one",)


def test_at_most_ten_queries_run() -> None:
    assert len(parsed(queries=[f"q{n}" for n in range(30)]).texts) == MAX_QUERIES


def test_a_comma_in_tags_belongs_to_the_tag() -> None:
    assert parsed(tags=["a,b", " c "]).scope.tags == ("a,b", "c")


@pytest.mark.parametrize("name", ["exclude_tags", "context_tags", "context_types", "priority_ids"])
def test_commas_split_the_other_lists(name: str) -> None:
    found = parsed(**{name: ["a, b", "c,,a"]})
    values: dict[str, Any] = {
        "exclude_tags": found.scope.exclude_tags,
        "context_tags": found.hints.tags,
        "context_types": found.hints.types,
        "priority_ids": found.hints.ids,
    }
    assert values[name] == ("a", "b", "c")


@pytest.mark.parametrize("name", ["tags", "exclude_tags", "priority_ids"])
def test_too_many_values_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{name}' must not hold more than 100 values"):
        parsed(**{name: [f"v{n}" for n in range(101)]})


# -- time, sort, state ----------------------------------------------------------------------


def test_an_unknown_time_is_reported_unless_it_is_strict() -> None:
    found = parsed(time_query="eventually")
    assert found.warnings == ("Unknown time expression: 'eventually'",)
    assert found.scope.start_ms is found.scope.end_ms is None
    with pytest.raises(InvalidInput, match="Unknown time expression"):
        parsed(time_query="eventually", strict="true")


def test_start_and_end_override_the_expression() -> None:
    named = parsed(time="last 7 days").scope
    found = parsed(time_query="last 7 days", start="2026-01-02T00:00:00Z").scope
    assert found.start_ms == 1_767_312_000_000
    assert found.end_ms == named.end_ms == NOW


def test_a_bare_window_lists_the_newest_first() -> None:
    assert parsed(time_query="today").sort == "time_desc"
    assert parsed(start="2026-01-01").sort == "time_desc"


@pytest.mark.parametrize(
    "more", [{"query": "x"}, {"queries": "x"}, {"embedding": "1,2"}, {"sort": "score"}]
)
def test_a_window_with_something_to_search_is_by_score(more: dict[str, str]) -> None:
    assert parsed(time_query="today", **more).sort == "score"


@pytest.mark.parametrize("name", ["sort", "order_by"])
@pytest.mark.parametrize("sort", SORTS)
def test_sorts(name: str, sort: str) -> None:
    assert parsed(**{name: sort}).sort == sort
    assert parsed(**{name: sort.upper()}).sort == sort


@pytest.mark.parametrize(
    ("state_mode", "current_only", "current"),
    [
        ("current", "", True),
        ("history", "", False),
        ("history", "true", True),
        ("current", "false", False),
    ],
)
def test_current_only_wins_over_state_mode(
    state_mode: str, current_only: str, current: bool
) -> None:
    assert parsed(state_mode=state_mode, current_only=current_only).scope.current_at_ms == (
        NOW if current else None
    )


@pytest.mark.parametrize("param", PARAMETERS, ids=lambda param: param.name)
def test_every_documented_limit_holds(param: Param[Any]) -> None:
    schema = param.schema(SETTINGS)
    if "maxLength" in schema:
        most = schema["maxLength"]
        assert Query(Values({param.name: ["x" * most]}), SETTINGS)[param] == "x" * most
        with pytest.raises(InvalidInput, match=f"'{param.name}' must not exceed {most}"):
            Query(Values({param.name: ["x" * (most + 1)]}), SETTINGS)[param]
    for limit, beyond in (("minimum", -1), ("maximum", 1)):
        if limit in schema:
            given = str(schema[limit] + beyond)
            assert Query(Values({param.name: [given]}), SETTINGS)[param] == schema[limit]


def test_a_default_that_depends_on_the_request_is_not_documented_as_a_constant() -> None:
    documented = {param.name: param.schema(SETTINGS) for param in PARAMETERS}
    for name in ("per_query_limit", "current_only", "sort"):
        assert "default" not in documented[name]
    assert parsed(limit="50").per_query_limit == 50
    assert parsed(state_mode="history").scope.current_at_ms is None
    assert parsed(start="2026-01-01").sort == "time_desc"


def test_the_documented_limit_is_the_one_of_the_settings() -> None:
    settings = Settings(recall=RecallSettings(RECALL_MAX_LIMIT=1000, RECALL_RELATION_LIMIT=9))
    schemas = {param.name: param.schema(settings) for param in PARAMETERS}
    assert schemas["limit"]["maximum"] == parsed(settings, limit="5000").limit == 1000
    assert schemas["relation_limit"]["default"] == parsed(settings).expansion.relation_limit == 9


def test_the_aliases_are_documented() -> None:
    documented = {alias for param in PARAMETERS for alias in param.aliases}
    assert documented == set(ALIASES) - {"format", "offset"}


def test_settings_give_the_defaults() -> None:
    settings = RecallSettings(RECALL_MAX_LIMIT=7, RECALL_MIN_SCORE=0.3, RECALL_ADAPTIVE_FLOOR=False)
    found = parsed(Settings(recall=settings), limit="50")
    assert (found.limit, found.min_score, found.adaptive_floor) == (7, 0.3, False)
