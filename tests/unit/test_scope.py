"""Scope: which memories each of its limits allows."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.domain.memory import tag_prefixes
from shared.domain.scope import (
    Scope,
    has_excluded_tag,
    has_wanted_tags,
    hidden_reason,
    is_visible,
)
from tests.unit.recall_rows import DAY, NOW, memory


def shows(scope: Scope, **fields: Any) -> bool:
    return is_visible(memory(**fields), scope)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"archived": True}, "archived"),
        ({"t_valid": NOW + 1}, "not_yet_valid"),
        ({"t_invalid": NOW}, "expired"),
        ({"t_valid": NOW, "t_invalid": NOW + 1}, None),
        ({}, None),
    ],
)
def test_what_current_mode_hides(fields: dict[str, Any], reason: str | None) -> None:
    assert hidden_reason(memory(**fields), NOW) == reason
    assert shows(Scope(current_at_ms=NOW), **fields) is (reason is None)
    assert shows(Scope(), **fields)


@pytest.mark.parametrize(
    ("scope", "inside"),
    [
        (Scope(start_ms=NOW - DAY, end_ms=NOW - DAY), True),
        (Scope(start_ms=NOW - DAY + 1), False),
        (Scope(end_ms=NOW - DAY - 1), False),
        (Scope(project="p"), True),
        (Scope(project="q"), False),
        (Scope(session_id="s"), True),
        (Scope(session_id="t"), False),
        (Scope(layer="semantic"), True),
        (Scope(layer="working"), False),
        (Scope(exclude_types=("MetaPattern",)), False),
        (Scope(exclude_types=("Habit",)), True),
        (Scope(exclude_tags=("work",)), False),
        (Scope(exclude_tags=("ork",)), True),
        (Scope(tags=("work",)), True),
        (Scope(tags=("home",)), False),
    ],
)
def test_the_whole_scope_is_applied(scope: Scope, inside: bool) -> None:
    held = {
        "type": "MetaPattern",
        "project": "p",
        "session_id": "s",
        "layer": "semantic",
        "tags": ("Work:Alpha",),
    }
    assert shows(scope, **held) is inside


@pytest.mark.parametrize(
    ("tags", "mode", "match", "inside"),
    [
        (("proj",), "any", "prefix", True),
        (("PROJ:alpha",), "any", "prefix", True),
        (("proj/alpha",), "any", "prefix", True),
        (("proj:al",), "any", "prefix", False),
        (("proj",), "any", "exact", False),
        (("PROJ:ALPHA:x",), "any", "exact", True),
        (("proj", "home"), "any", "prefix", True),
        (("proj", "home"), "all", "prefix", False),
        (("proj", "db"), "all", "prefix", True),
        (("proj,db",), "any", "prefix", False),
    ],
)
def test_tags(
    tags: tuple[str, ...],
    mode: Literal["any", "all"],
    match: Literal["prefix", "exact"],
    inside: bool,
) -> None:
    scope = Scope(tags=tags, tag_mode=mode, tag_match=match)
    assert has_wanted_tags(memory(tags=("Proj:Alpha:X", "db")), scope) is inside


@given(st.text(max_size=12), st.sampled_from(["prefix", "exact"]))
def test_a_tag_matches_itself_in_any_case(tag: str, match: Literal["prefix", "exact"]) -> None:
    assume(tag_prefixes([tag]))  # separators alone have no segment to match
    held = memory(tags=(tag.strip(),))
    for wanted in (tag, tag.lower()):
        assert has_wanted_tags(held, Scope(tags=(wanted,), tag_match=match))
    assert has_excluded_tag(held, Scope(exclude_tags=(tag,)))


@given(st.lists(st.text(max_size=6), max_size=4).map(tuple))
def test_stored_tags_are_never_more_than_the_tags(tags: tuple[str, ...]) -> None:
    for match in ("prefix", "exact"):
        assert len(Scope(tags=tags, tag_match=match).stored_tags) <= len(tags)
