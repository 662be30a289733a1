"""Current mode: what is superseded makes way for the head of its chain, whatever the chain."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.recall.finish import newest_of_chain, replace_superseded
from shared.graph.recall.candidates import StoredCandidate
from tests.unit.recall_rows import NOW, known, row


def chain(*ids: str) -> dict[str, StoredCandidate]:
    """Each superseded by the next, the last one by nobody."""
    pairs = zip(ids, [*ids[1:], None], strict=True)
    return {each: known(each, then) for each, then in pairs}


def settled(*ids: str, state: dict[str, StoredCandidate], allowed: str = "abcdefgh") -> list[str]:
    found, _ = replace_superseded([row(each) for each in ids], state, list(allowed), at_ms=NOW)
    return [each.id for each in found]


def test_the_chain_s_head_takes_the_place_and_the_score() -> None:
    found, hidden = replace_superseded([row("a", 0.7)], chain("a", "b", "c"), "abc", at_ms=NOW)
    assert [(each.id, each.final, each.candidate.match_type) for each in found] == [
        ("c", 0.7, "state_replacement")
    ]
    assert found[0].notes["state_replaces"] == "a"
    assert found[0].notes["state_path"] == [{"type": "EVOLVED_INTO", "strength": 0.5, "from": "a"}]
    assert [(each.id, each.reason, each.replacement_id) for each in hidden] == [
        ("a", "superseded", "c")
    ]


def test_a_head_that_was_found_itself_keeps_its_better_score() -> None:
    found, _ = replace_superseded([row("a", 0.7), row("b", 0.9)], chain("a", "b"), "ab", at_ms=NOW)
    assert [(each.id, each.final) for each in found] == [("b", 0.9)]


def test_a_head_outside_the_scope_leaves_no_row() -> None:
    assert settled("a", state=chain("a", "b"), allowed="a") == []


@pytest.mark.parametrize(
    ("ids", "head"),
    [(("a", "b", "a"), "b"), (("a", "b", "c", "a"), "c"), (("a", "b", "c", "b"), "c")],
)
def test_a_cycle_ends_before_it_repeats(ids: tuple[str, ...], head: str) -> None:
    state = {each: known(each, then) for each, then in pairwise(ids)}
    assert newest_of_chain("a", state) == head
    assert settled("a", state=state) == [head]


@pytest.mark.parametrize("hops", [1, 5, 300])
def test_a_chain_that_is_known_is_followed_to_its_end(hops: int) -> None:
    ids = [f"m{at}" for at in range(hops + 1)]
    state = chain(*ids)
    assert {newest_of_chain(each, state) for each in ids} == {ids[-1]}
    found, hidden = replace_superseded([row(each) for each in ids], state, ids, at_ms=NOW)
    assert [each.id for each in found] == ids[-1:]
    assert len(hidden) == hops


def test_a_head_that_is_gone_leaves_no_row() -> None:
    state = {"a": known("a", "b")}
    assert newest_of_chain("a", state) is None


def test_what_its_own_fields_hide_is_replaced_in_the_order_of_the_rows() -> None:
    """AutoMem's client ends the old one's validity and adds the edge; the others have none."""
    rows = [row("b", t_invalid=1), row("a", archived=True), row("c"), row("d", t_valid=NOW + 1)]
    state = {
        "a": known("a", archived=True),
        "b": known("b", "e", t_invalid=1),
        **{each: known(each) for each in "cde"},
    }
    found, hidden = replace_superseded(rows, state, "ce", at_ms=NOW)
    assert [each.id for each in found] == ["e", "c"]
    assert found[0].notes["state_replaces"] == "b"
    assert [(each.id, each.reason, each.replacement_id) for each in hidden] == [
        ("b", "expired", "e"),
        ("a", "archived", None),
        ("d", "not_yet_valid", None),
    ]


_GRAPHS = st.dictionaries(
    st.sampled_from("abcdef"), st.none() | st.sampled_from("abcdefg"), max_size=6
)


@given(_GRAPHS)
def test_any_graph_settles_without_repeats_and_without_what_is_superseded(
    edges: dict[str, str | None],
) -> None:
    state = {each: known(each, then) for each, then in edges.items() if then != each}
    given_rows = [row(each, 0.1 * at) for at, each in enumerate("abcdef")]
    kept, hidden = replace_superseded(given_rows, state, list("abcdefg"), at_ms=NOW)
    ids = [each.id for each in kept]
    assert len(ids) == len(set(ids))
    ends = {each.replacement_id for each in hidden}
    assert not {each.id for each in hidden} & set(ids) - ends
    for each in kept:
        step = state[each.id].successor if each.id in state else None
        assert step is None or _leads_to(step.id, each.id, state), "but in a cycle"


def _leads_to(start: str, end: str, state: dict[str, StoredCandidate]) -> bool:
    at, seen = start, set[str]()
    while at != end and at in state and at not in seen:
        seen.add(at)
        step = state[at].successor
        at = step.id if step else at
    return at == end
