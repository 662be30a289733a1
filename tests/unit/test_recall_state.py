"""Current mode: what is superseded makes way for the head of its chain, whatever the chain."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.recall.state import (
    MOST_HOPS,
    active,
    expired,
    head_of,
    settle,
    superseding,
    wanted_heads,
)
from shared.graph.candidates import Candidate as Known
from tests.unit.recall_rows import NOW, known, row, successor


def chain(*ids: str) -> dict[str, Known]:
    """Each superseded by the next, the last one by nobody."""
    pairs = zip(ids, [*ids[1:], None], strict=True)
    return {each: known(each, *([successor(then)] if then else [])) for each, then in pairs}


def settled(*ids: str, state: dict[str, Known], allowed: str = "abcdefgh") -> list[str]:
    found, _ = settle([row(each) for each in ids], state, list(allowed), at_ms=NOW)
    return [each.id for each in found]


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({}, True),
        ({"archived": True}, False),
        ({"t_valid": NOW + 1}, False),
        ({"t_valid": NOW}, True),
        ({"t_invalid": NOW}, False),
        ({"t_invalid": NOW + 1}, True),
    ],
)
def test_only_an_active_successor_supersedes(fields: dict[str, int], holds: bool) -> None:
    each = successor("b", **fields)
    assert active(each, NOW) is holds
    assert (superseding(known("a", each), NOW) is not None) is holds


def test_the_first_by_id_of_several_supersedes() -> None:
    found = superseding(known("a", successor("c"), successor("b")), NOW)
    assert found is not None
    assert found.id == "b"


def test_nothing_supersedes_itself() -> None:
    assert superseding(known("a", successor("a")), NOW) is None


def test_the_chain_s_head_takes_the_place_and_the_score() -> None:
    found, hidden = settle([row("a", 0.7)], chain("a", "b", "c"), "abc", at_ms=NOW)
    assert [(each.id, each.final, each.candidate.match_type) for each in found] == [
        ("c", 0.7, "state_replacement")
    ]
    assert found[0].notes["state_replaces"] == "a"
    assert [(each.id, each.reason, each.replacement_id) for each in hidden] == [
        ("a", "superseded", "c")
    ]


def test_a_head_that_was_found_itself_keeps_its_better_score() -> None:
    found, _ = settle([row("a", 0.7), row("b", 0.9)], chain("a", "b"), "ab", at_ms=NOW)
    assert [(each.id, each.final) for each in found] == [("b", 0.9)]


def test_a_head_outside_the_scope_leaves_no_row() -> None:
    assert settled("a", state=chain("a", "b"), allowed="a") == []


@pytest.mark.parametrize("ids", [("a", "b", "a"), ("a", "b", "c", "a"), ("a", "b", "c", "b")])
def test_a_cycle_has_no_head(ids: tuple[str, ...]) -> None:
    state = {each: known(each, successor(then)) for each, then in pairwise(ids)}
    assert head_of("a", state, NOW) is None
    assert settled("a", state=state) == []


@pytest.mark.parametrize("hops", range(1, MOST_HOPS + 3))
def test_a_chain_is_followed_so_far_and_no_further(hops: int) -> None:
    """Five hops have a head, and every memory on the way to it has the same one."""
    ids = [chr(ord("a") + at) for at in range(hops + 1)]
    state = chain(*ids)
    assert head_of("a", state, NOW) == (ids[-1] if hops <= MOST_HOPS else None)
    assert head_of(ids[1], state, NOW) == (ids[-1] if hops <= MOST_HOPS + 1 else None)
    assert settled("a", state=state) == ([ids[-1]] if hops <= MOST_HOPS else [])


def test_a_head_that_is_gone_leaves_no_row() -> None:
    state = {"a": known("a", successor("b"))}
    assert wanted_heads(state, NOW) == ["b"]
    assert head_of("a", state, NOW) is None


def test_what_is_known_is_not_wanted_again() -> None:
    assert wanted_heads(chain("a", "b"), NOW) == []


def test_what_its_own_fields_hide_is_told() -> None:
    state = {"a": known("a", archived=True), "b": known("b", t_invalid=1), "c": known("c")}
    assert [(each.id, each.reason) for each in expired(state, NOW)] == [
        ("a", "archived"),
        ("b", "expired"),
    ]


_GRAPHS = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=3), max_size=6
)


@given(_GRAPHS)
def test_any_graph_settles_without_repeats_and_without_what_is_superseded(
    edges: dict[str, list[str]],
) -> None:
    state = {each: known(each, *map(successor, then)) for each, then in edges.items()}
    given_rows = [row(each, 0.1 * at) for at, each in enumerate("abcdef")]
    kept, hidden = settle(given_rows, state, list("abcdefg"), at_ms=NOW)
    ids = [each.id for each in kept]
    assert len(ids) == len(set(ids))
    assert not {each.id for each in hidden} & set(ids)
    for each in kept:
        assert each.id not in state or superseding(state[each.id], NOW) is None
