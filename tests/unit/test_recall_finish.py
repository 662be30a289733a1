"""The end of ranking: repeats, recency, floors; and what expansion and context add."""

from __future__ import annotations

import pytest
from hypothesis import given

from services.api.recall import expand
from services.api.recall.finish import biased, deduplicated, floored
from services.api.recall.profile import Profile, profile_of
from services.api.recall.rank import Candidate, Question, Scored, Scorer
from services.api.recall.request import Hints
from shared.graph.recall.candidates import Link
from tests.unit.recall_rows import DAY, NOW, WEIGHTS, draft, memory, row, rows

# -- repeats --------------------------------------------------------------------------------


def test_the_same_text_twice_is_one_that_names_the_other() -> None:
    kept, removed = deduplicated(
        [row("a", 0.9, "**Ada** likes tea."), row("b", 0.5, "ada LIKES tea")]
    )
    assert [each.id for each in kept] == ["a"]
    assert kept[0].notes["deduped_from"] == ["b"]
    assert removed == 1


@pytest.mark.parametrize("fields", [{"tags": ("b",)}, {"session_id": "s2"}, {"project": "other"}])
def test_the_same_text_elsewhere_is_another_memory(fields: dict[str, object]) -> None:
    first = row("a", 0.9, "Ada likes tea", tags=("a",), session_id="s1", project="p")
    second = row(
        "b", 0.5, "Ada likes tea", **{"tags": ("a",), "session_id": "s1", "project": "p", **fields}
    )
    assert deduplicated([first, second]) == ([first, second], 0)


def test_tags_in_another_case_or_order_are_the_same() -> None:
    found = [row("a", content="T", tags=("X", "y")), row("b", content="t", tags=("Y", "x"))]
    assert deduplicated(found)[1] == 1


def test_repeats_do_not_count_among_those_looked_at() -> None:
    found = [row(f"r{at}", content="Same") for at in range(30)]
    found += [row(f"s{at}", content=f"Other {at}") for at in range(6)]
    kept, removed = deduplicated(found, 5)
    assert [each.id for each in kept] == ["r0", "s0", "s1", "s2", "s3"]
    assert removed == 29


def test_texts_of_signs_alone_are_not_alike() -> None:
    assert deduplicated([row("a", content="!!!"), row("b", content="???")])[1] == 0


@given(rows())
def test_deduplication_keeps_the_first_of_each_and_counts_the_rest(found: list[Scored]) -> None:
    kept, removed = deduplicated(found)
    assert len(kept) + removed == len(found)
    again, none = deduplicated(kept)
    assert (len(again), none) == (len(kept), 0)
    named = [each for held in kept for each in held.notes.get("deduped_from", ())]
    assert sorted([*named, *(each.id for each in kept)]) == sorted(each.id for each in found)


# -- recency --------------------------------------------------------------------------------


def test_recency_lifts_the_newest_by_a_tenth_and_the_oldest_by_nothing() -> None:
    found, on = biased([row("a", 0.5, timestamp=0), row("b", 0.45, timestamp=DAY)], "on", (), 0.1)
    assert on
    assert [(each.id, round(each.final, 3)) for each in found] == [("b", 0.55), ("a", 0.5)]
    assert [each.components["temporal"] for each in found] == [1.0, 0.0], "the plain share"


@pytest.mark.parametrize(("weight", "best"), [(0.0, "a"), (0.04, "a"), (0.06, "b"), (2.0, "b")])
def test_recency_counts_by_its_weight(weight: float, best: str) -> None:
    rows = [row("a", 0.5, timestamp=0), row("b", 0.45, timestamp=DAY)]
    found, _ = biased(rows, "on", (), weight)
    assert found[0].id == best
    newest = next(each for each in found if each.id == "b")
    assert newest.final == pytest.approx(0.45 + weight)
    assert newest.components["temporal"] == 1.0


@pytest.mark.parametrize(
    ("mode", "text", "on"),
    [
        ("auto", "the latest plan", True),
        ("auto", "the plan", False),
        ("off", "the latest plan", False),
        ("on", "the plan", True),
    ],
)
def test_when_recency_is_on(mode: str, text: str, on: bool) -> None:
    assert biased([row("a")], mode, [text], 0.1)[1] is on


@given(rows())
def test_recency_changes_no_score_by_more_than_a_tenth(found: list[Scored]) -> None:
    before = {each.id: each.final for each in found}
    raised, _ = biased(found, "on", (), 0.1)
    assert {each.id for each in raised} == set(before)
    assert all(-1e-9 <= each.final - before[each.id] <= 0.1 + 1e-9 for each in raised)


# -- floors ---------------------------------------------------------------------------------


def floors(*scores: float, min_score: float = 0.0, adaptive: bool = True) -> list[float]:
    found = [row(f"r{at}", score) for at, score in enumerate(scores)]
    kept = floored(found, adaptive=adaptive, min_score=min_score)
    return [each.final for each in kept]


def test_nothing_below_the_gap_is_kept() -> None:
    """AutoMem keeps one row past the gap."""
    assert floors(1.0, 0.95, 0.5, 0.45) == [1.0, 0.95]


def test_a_narrow_gap_cuts_nothing() -> None:
    assert floors(1.0, 0.9, 0.76, 0.7) == [1.0, 0.9, 0.76, 0.7]


def test_a_gap_that_would_leave_less_than_half_cuts_nothing() -> None:
    assert floors(1.0, 0.2, 0.19, 0.18, 0.17) == [1.0, 0.2, 0.19, 0.18, 0.17]


def stepped(above: int, rows: int, below: float = 0.5) -> list[float]:
    """Scores that fall a little from row to row, and once by much."""
    return [round((1.0 if at < above else below) - at / 1000, 3) for at in range(rows)]


@pytest.mark.parametrize("count", range(4, 41))
def test_a_gap_cuts_wherever_it_leaves_half(count: int) -> None:
    """AutoMem finds one at a single place, and for an odd number of rows at none."""
    for above in range(1, count):
        scores = stepped(above, count)
        kept = scores[:above] if above >= count // 2 else scores
        assert floors(*scores) == kept, above


@pytest.mark.parametrize("count", range(4, 41))
def test_a_gap_of_no_more_than_a_quarter_of_the_top_cuts_nothing(count: int) -> None:
    for above in range(1, count):
        scores = [*([1.0] * above), *([0.75] * (count - above))]
        assert floors(*scores) == scores, above
    falling = [1.0 - at / 50 for at in range(count)]
    assert floors(*falling) == falling


def test_a_wider_gap_further_up_keeps_what_is_below_a_second() -> None:
    scores = (1.0, 0.6, 0.59, 0.3, 0.29, 0.28)
    assert floors(*scores) == list(scores)


def test_the_floor_is_that_of_the_rows_that_may_be_answered() -> None:
    """Many weak ones that are not answered must not make the strong ones too few."""
    found = [row(f"r{at}", score) for at, score in enumerate(stepped(6, 40))]
    assert floored(found, adaptive=True, min_score=0.0) == found
    assert floored(found, adaptive=True, min_score=0.0, most=10) == found[:6]
    assert floored(found, adaptive=True, min_score=0.0, most=5) == found


def test_three_rows_are_too_few_for_a_floor() -> None:
    assert floors(1.0, 0.3, 0.1) == [1.0, 0.3, 0.1]


def test_min_score_cuts_whatever_the_floor() -> None:
    assert floors(1.0, 0.4, 0.3, min_score=0.4) == [1.0, 0.4]
    assert floors(1.0, 0.95, 0.5, 0.45, adaptive=False) == [1.0, 0.95, 0.5, 0.45]


@given(rows())
def test_floors_keep_the_top_and_the_order(found: list[Scored]) -> None:
    ranked = sorted(found, key=lambda each: -each.final)
    kept = floored(ranked, adaptive=True, min_score=0.0)
    assert kept == ranked[: len(kept)]
    assert len(kept) >= len(ranked) // 2


# -- expansion ------------------------------------------------------------------------------


SCORER = Scorer(Question(), WEIGHTS, NOW)


def link(seed: str, to: str, strength: float = 0.5, kind: str | None = None) -> Link:
    return Link(seed, memory(to), "LEADS_TO", strength, kind)


def related(seeds: list[Scored], links: list[Link], limit: int = 25) -> list[Scored]:
    made = draft()
    made.rows = seeds
    return expand.by_relations(made, links, limit)


def test_a_related_memory_scores_by_its_relation_and_names_it() -> None:
    [found] = related([row("a", 0.8)], [link("a", "b", 0.6)])
    assert found.notes["relation_score"] == pytest.approx(0.8)
    assert found.notes["related_to"] == [
        {"type": "LEADS_TO", "strength": 0.6, "from": "a", "seed_rank": 1, "seed_score": 0.8}
    ]
    assert found.candidate.match_type == "relation"


def test_a_memory_reached_twice_is_one_row_with_the_better_relation() -> None:
    seeds = [row("a", 0.8), row("b", 0.4)]
    [found] = related(seeds, [link("a", "c", 0.1), link("b", "c", 0.9)])
    assert found.notes["relation_score"] == pytest.approx(1.0)
    assert len(found.notes["related_to"]) == 2


def test_seeds_are_not_added_again_and_the_limit_holds() -> None:
    seeds = [row("a"), row("b")]
    links = [link("a", "b"), link("a", "c"), link("b", "d"), link("b", "e")]
    assert [each.id for each in related(seeds, links, limit=2)] == ["c", "d"]


def test_entities_come_in_a_fixed_order_people_first() -> None:
    """AutoMem iterates a set."""
    tags = ("entity:people:bo", "entity:people:ada", "entity:organizations:acme", "entity:tools:x")
    found = [row("a", entity_tags=tags), row("b", entity_tags=("entity:people:cy",))]
    wanted = [f"entity:people:{name}" for name in ("ada", "bo")]
    assert expand.entity_keys(found) == [
        *wanted,
        "entity:organizations:acme",
        "entity:people:cy",
    ]
    assert expand.entity_keys([row("a", entity_tags=tags[::-1]), found[1]]) == expand.entity_keys(
        found
    )


def test_at_most_five_entities() -> None:
    tags = tuple(f"entity:people:p{at}" for at in range(9))
    assert len(expand.entity_keys([row("a", entity_tags=tags)])) == expand.MOST_ENTITIES


def test_entity_rows_are_lifted_and_name_their_entity() -> None:
    tagged = [("entity:people:ada", memory("b")), ("entity:people:bo", memory("b"))]
    made = draft()
    made.rows, made.candidates = [row("a")], {"b": Candidate("b", dense=0.4)}
    [found] = expand.by_entities(made, [*tagged, ("entity:people:ada", memory("a"))])
    assert found.notes["expanded_from_entity"] == "ada"
    assert found.components["entity_expansion"] == expand.ENTITY_BONUS
    assert found.components["vector"] > 0


# -- context --------------------------------------------------------------------------------


def profile(query: str = "", **hints: object) -> Profile:
    found = profile_of(Hints(**hints), query)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_no_context_is_no_profile() -> None:
    assert profile_of(Hints(), "where does Ada sit") is None


@pytest.mark.parametrize(
    ("query", "hints", "language"),
    [
        ("", {"language": "TS"}, "typescript"),
        ("", {"context": "python"}, "python"),
        ("", {"active_path": "src/main.rs"}, "rust"),
        ("how do I sort in python", {}, "python"),
        ("where did Ada go", {"tags": ("x",)}, None),
        ("", {"active_path": "Makefile"}, None),
    ],
)
def test_the_language(query: str, hints: dict[str, object], language: str | None) -> None:
    assert profile(query, **hints).language == language


def test_a_style_question_prefers_style() -> None:
    found = profile("which naming convention")
    assert "coding-style" in found.tags
    assert found.types == ("Style", "Preference")


def test_a_context_without_style_is_a_tag_to_prefer() -> None:
    assert profile(context="Billing/EU").tags == ("billing:eu",)


def test_boosts_add_up() -> None:
    found = profile(tags=("db",), types=("Decision",), ids=("a",))
    assert found.fit(memory("a", tags=("DB:postgres",), type="Decision")) == pytest.approx(
        0.45 + 0.25 + 0.9
    )
    assert found.fit(memory("b")) == 0
    assert found.matches(memory("a"))
    assert not found.matches(memory("b"))
