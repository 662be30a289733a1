"""Ranking: fusion, scope, scores and order, as pure functions."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.recall.rank import (
    Candidate,
    Channels,
    Question,
    Scorer,
    fuse,
    merged,
    ordered,
    recency,
    shortlist,
)
from services.api.recall.request import SORTS
from shared.config import RecallSettings
from shared.vectors import Hit
from tests.unit.recall_rows import DAY, NOW, WEIGHTS, memory, row, rows, scored


def _hits(least: float, most: float) -> st.SearchStrategy[list[Hit]]:
    """As a store answers: each id once, best first."""
    hit = st.builds(Hit, st.text("abcde", min_size=1, max_size=2), st.floats(least, most))
    found = st.lists(hit, unique_by=lambda each: each.id, max_size=8)
    return found.map(lambda hits: sorted(hits, key=lambda each: -each.score))


# A cosine may be negative, a BM25 score never is.
COSINES = _hits(-1, 1)
CHANNELS = st.builds(Channels, st.text(max_size=5), _hits(0, 20), COSINES, COSINES)


# -- fusion ---------------------------------------------------------------------------------


def test_every_hit_of_every_channel_is_a_candidate() -> None:
    found = fuse(Channels("q", [Hit("w", 8.0)], [Hit("d", 0.9)], [Hit("c", 0.7)]))
    assert set(found) == {"w", "d", "c"}
    assert found["w"].match_type == "keyword"
    assert found["d"].match_type == found["c"].match_type == "vector"
    assert found["w"].query == "q"


def test_words_are_measured_by_the_best_of_the_query() -> None:
    found = fuse(Channels("q", [Hit("a", 8.0), Hit("b", 2.0)]))
    assert (found["a"].words, found["b"].words) == (1.0, 0.25)


def test_what_a_vector_channel_missed_gets_its_lowest() -> None:
    found = fuse(Channels("q", [Hit("w", 1.0)], [Hit("a", 0.9), Hit("b", 0.4)]))
    assert found["w"].dense == 0.4


@given(CHANNELS)
def test_fusion_loses_and_invents_nothing(channels: Channels) -> None:
    found = fuse(channels)
    hits = [*channels.words, *channels.dense, *channels.context]
    assert set(found) == {hit.id for hit in hits}
    assert all(each.vector >= 0 for each in found.values())


@given(CHANNELS)
def test_words_never_count_more_than_the_best(channels: Channels) -> None:
    assert all(0 <= each.words <= 1 for each in fuse(channels).values())


@given(st.lists(CHANNELS, max_size=3))
def test_merging_keeps_each_id_s_best(many: list[Channels]) -> None:
    fused = [fuse(each) for each in many]
    found = merged(fused)
    for key, candidate in found.items():
        best = max(each[key].text_score for each in fused if key in each)
        assert candidate.text_score == best


def test_merging_prefers_the_earlier_of_equals() -> None:
    first, second = Candidate("a", words=0.5, query="1"), Candidate("a", words=0.5, query="2")
    assert merged([{"a": first}, {"a": second}])["a"].query == "1"


@given(CHANNELS, st.integers(0, 10))
def test_the_shortlist_holds_the_best(channels: Channels, size: int) -> None:
    found = fuse(channels)
    kept = shortlist(found, size)
    assert len(kept) == min(size, len(found))
    left = [each.text_score for key, each in found.items() if key not in kept]
    assert not left or not kept or max(left) <= min(each.text_score for each in kept.values())


def test_what_lookups_found_stays_beyond_the_shortlist() -> None:
    by_text = Candidate("a", words=1.0)
    by_lookup = Candidate("b", match_type="metadata")
    assert set(shortlist({"b": by_lookup, "a": by_text}, 1)) == {"a", "b"}


# -- scores ---------------------------------------------------------------------------------


def test_components_are_complete() -> None:
    assert set(scored(memory()).components) >= {
        *("vector", "keyword", "metadata", "relation", "tag", "importance", "confidence"),
        *("recency", "exact", "relevance", "context", "evidence", "relevance_gated"),
    }


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_evidence_never_lowers_a_score(dense: float, words: float, more: float) -> None:
    less = scored(memory(), dense=dense, words=words).final
    assert scored(memory(), dense=dense + more, words=words).final >= less
    assert scored(memory(), dense=dense, words=words + more).final >= less


def test_a_tag_that_the_query_names_counts() -> None:
    question = Question("violin lesson", tokens=("violin", "lesson"))
    assert scored(memory(tags=("Violin",)), question).components["tag"] == 0.5


def test_metadata_that_is_the_query_is_exact() -> None:
    held = memory(metadata={"repo": "eunoe"}, meta_terms=("eunoe",))
    question = Question("Eunoe", tokens=("eunoe",), terms=frozenset({"eunoe"}))
    assert scored(held, question).components["exact"] == 1.0
    assert scored(memory(), question).components["exact"] == 0.0


def test_the_gate_holds_back_what_has_no_evidence() -> None:
    gated = RecallSettings(RECALL_RELEVANCE_GATE=0.5)
    scorer = Scorer(Question("x"), gated, NOW)
    held = memory(importance=1.0)
    weak = scorer.score(held, Candidate("a", dense=0.2))
    strong = scorer.score(held, Candidate("a", dense=1.2))
    assert weak.components["relevance_gated"] == 1.0
    assert weak.components["importance"] == pytest.approx(0.2)
    assert strong.components["relevance_gated"] == 0.0
    assert strong.components["importance"] == 1.0


@given(st.integers(-(10**14), 10**14))
def test_recency_is_a_share(timestamp: int) -> None:
    for curve in ("linear", "exponential"):
        weights = RecallSettings(SEARCH_RECENCY_CURVE=curve)
        assert 0 <= recency(timestamp, NOW, weights) <= 1


def test_recency_ends_with_its_window() -> None:
    assert recency(NOW, NOW, WEIGHTS) == 1
    assert recency(NOW - 90 * DAY, NOW, WEIGHTS) == pytest.approx(0.5)
    assert recency(NOW - 181 * DAY, NOW, WEIGHTS) == 0


# -- order ----------------------------------------------------------------------------------


@given(rows(), st.sampled_from(SORTS), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_where_rows_came_from(
    given_rows: list[Any], sort: str, shuffling: random.Random
) -> None:
    mixed = list(given_rows)
    shuffling.shuffle(mixed)
    assert [each.id for each in ordered(mixed, sort)] == [
        each.id for each in ordered(given_rows, sort)
    ]


def test_ties_fall_to_importance_then_time_then_id() -> None:
    found = [
        row("d", 0.5, importance=0.1),
        row("c", 0.5, timestamp=1),
        row("b", 0.5, timestamp=2),
        row("a", 0.5, timestamp=1),
        row("e", 0.6),
    ]
    ids = "".join(each.id for each in ordered(found, "score"))
    assert ids == "ebacd"


def test_time_sorts_go_by_updated_at_then_timestamp() -> None:
    old = row("a", updated_at=5, timestamp=9)
    new = row("b", timestamp=7)
    assert [each.id for each in ordered([old, new], "time_desc")] == ["b", "a"]
    assert [each.id for each in ordered([old, new], "updated_asc")] == ["a", "b"]


def test_a_raised_score_shows_by_what() -> None:
    found = row("a", 0.5).with_score("temporal", 0.1).with_score("temporal", 0.1)
    assert found.final == pytest.approx(0.7)
    assert found.components["temporal"] == pytest.approx(0.2)
