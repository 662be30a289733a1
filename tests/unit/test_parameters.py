"""Query parameters: how they are parsed, clamped, refused and documented."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from multidict import MultiDict

from services.api.http.body import Body, switch, validate
from services.api.http.parameters import (
    Param,
    Query,
    choice,
    flag,
    integer,
    moment,
    number,
    text,
    texts,
)
from shared.config import RecallSettings, Settings
from shared.errors import InvalidInput

SETTINGS = Settings(recall=RecallSettings(_env_file=None, RECALL_MAX_LIMIT=30))
LIMIT = integer(
    "limit", default=5, least=1, most=lambda settings: settings.recall.max_limit, aliases=("top",)
)
FORCE = flag("force", default=True)
SORT = choice("sort", "The order", "score", "time", default="score")
STATE = choice("state", "Which", "current", "all", default="current", refusal="no such state")
RATIO = number("ratio", "A part", default=None, least=0, most=1)
SINCE = moment("since", "Not older", complaint="'since'")
TAGS = texts("tags", "Whole tags")
TYPES = texts("types", "Names", repeated=False, commas=True)
NAME = text("name", "A name", most_chars=5)


def _parsed(param: Param[Any], *given: tuple[str, str]) -> Any:
    return Query(MultiDict(given), SETTINGS)[param]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        *((word, True) for word in ("1", "true", "yes", "y", "on", "Y", " True ")),
        *((word, False) for word in ("0", "false", "no", "n", "off", "N")),
        *((word, True) for word in ("maybe", "2", "")),
    ],
)
def test_a_flag_takes_automems_words_and_is_the_default_for_others(given: str, taken: bool) -> None:
    assert _parsed(FORCE, ("force", given)) is taken


class Switched(Body):
    on: Annotated[bool, switch("on")] = False


@pytest.mark.parametrize(
    ("given", "taken"), [(True, True), (1, True), ("Yes", True), ("off", False), (None, False)]
)
def test_a_body_takes_the_same_words(given: object, taken: bool) -> None:
    assert validate(Switched, {"on": given}).on is taken


@pytest.mark.parametrize("given", ["maybe", 2, [], ""])
def test_a_body_refuses_other_words(given: object) -> None:
    with pytest.raises(InvalidInput, match="'on' must be true or false"):
        validate(Switched, {"on": given})


@pytest.mark.parametrize(
    ("param", "given", "taken"),
    [
        (LIMIT, "7", 7),
        (LIMIT, "0", 1),
        (LIMIT, "1000", 30),
        (LIMIT, "", 5),
        (RATIO, "2.5", 1),
        (RATIO, "", None),
        (SORT, "TIME", "time"),
        (SORT, "by name", "score"),
        (STATE, "", "current"),
        (SINCE, "1970-01-01T00:00:01 00:00", 1000),
        (SINCE, "1970-01-01 00:00:01", 1000),
        (TAGS, " a,b ", ("a,b",)),
        (TYPES, "a, b,,a", ("a", "b")),
        (NAME, " ada ", "ada"),
        (NAME, "  ", None),
    ],
)
def test_a_value_is_parsed_and_clamped(param: Param[Any], given: str, taken: Any) -> None:
    assert _parsed(param, (param.name, given)) == taken


@pytest.mark.parametrize(
    ("param", "given", "message"),
    [
        (LIMIT, "many", "'limit' must be an integer"),
        (LIMIT, "9" * 5000, "'limit' must be an integer"),
        (RATIO, "half", "'ratio' must be a number"),
        (RATIO, "nan", "'ratio' must be a number"),
        (STATE, "past", "no such state"),
        (SINCE, "yesterday", "'since': Invalid ISO timestamp"),
        (NAME, "adalina", "'name' must not exceed 5 characters"),
        (NAME, "a\0", "'name' must not contain NUL characters"),
    ],
)
def test_what_cannot_be_parsed_is_refused(param: Param[Any], given: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        _parsed(param, (param.name, given))
    assert str(refused.value) == message


def test_the_first_name_that_is_given_counts() -> None:
    assert _parsed(LIMIT, ("top", "9"), ("limit", "8")) == 8
    assert _parsed(LIMIT, ("top", "9")) == 9


def test_repeated_values_keep_their_order_without_duplicates() -> None:
    assert _parsed(TAGS, ("tags", "b"), ("tags", "a"), ("tags", "b")) == ("b", "a")
    with pytest.raises(InvalidInput, match="'tags' must not hold more than 100 values"):
        _parsed(TAGS, *(("tags", str(n)) for n in range(101)))


def test_the_document_names_the_limits_of_the_settings() -> None:
    assert LIMIT.schema(SETTINGS) == {"type": "integer", "default": 5, "minimum": 1, "maximum": 30}
    assert SORT.schema(SETTINGS)["enum"] == ["score", "time"]
    assert NAME.schema(SETTINGS) == {"type": "string", "maxLength": 5}
