"""Which entities may be one: likeness of slugs, pairs that meet, and what overlap makes of them."""

from __future__ import annotations

import random

import pytest

from services.api.graph.entity_identity import (
    SimilarPair,
    flaw,
    merge_candidate,
    similar_pairs,
    similarity,
)
from shared.graph.memory.entities import Entity


def _named(slug: str, references: int = 10, category: str = "people") -> Entity:
    return Entity(
        id=f"entity:{category}:{slug}",
        slug=slug,
        category=category,
        name=slug,
        aliases=(),
        identity=None,
        identity_version=0,
        identity_updated_at=None,
        identity_source_count=0,
        created_at=None,
        last_referenced_at=None,
        merged_into=None,
        references=references,
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("alice", "alice-johnson", (0.6, True)),  # 5 of 13, but never below 0.6
        ("postgresq", "postgresql", (0.9, True)),
        ("kubernetes", "kubernetse", (0.8, False)),
        ("same", "same", (1.0, True)),
        ("abc", "xyz", (0.0, False)),
        ("", "x", (0.0, False)),
    ],
)
def test_likeness_of_slugs(one: str, other: str, expected: tuple[float, bool]) -> None:
    alike, substring = similarity(one, other)
    assert alike == pytest.approx(expected[0])
    assert substring is expected[1]
    assert similarity(other, one) == similarity(one, other)


def test_the_longer_slug_is_canonical_and_categories_do_not_mix() -> None:
    entities = [_named("alice"), _named("alice-johnson"), _named("alice", category="tools")]
    [pair] = similar_pairs(entities, most=10)
    assert (pair.canonical.slug, pair.alias.slug) == ("alice-johnson", "alice")
    assert pair.alias.category == "people"


def test_pairs_do_not_depend_on_the_order_of_the_entities() -> None:
    entities = [_named(f"{first}-{last}") for first in ("ann", "anna", "bob") for last in "xyz"]
    wanted = similar_pairs(entities, most=5)
    shuffled = entities[:]
    random.Random(4).shuffle(shuffled)
    assert similar_pairs(shuffled, most=5) == wanted
    assert len(wanted) == 5


def test_entities_without_references_are_not_compared() -> None:
    assert similar_pairs([_named("alice", 0), _named("alice-johnson")], most=10) == []


def test_many_entities_of_one_word_are_not_all_compared() -> None:
    """5 000 names that share a word would be 12 million pairs."""
    entities = [_named(f"team-{number:05d}", category="projects") for number in range(5_000)]
    assert len(similar_pairs(entities, most=1_000)) == 1_000


def _pair(slug: str, other: str, references: int = 10) -> SimilarPair:
    [pair] = similar_pairs([_named(slug, references, "tools"), _named(other, 10, "tools")], most=1)
    return pair


def test_overlap_decides() -> None:
    pair = _pair("postgresq", "postgresql")
    sure = merge_candidate(pair, 9)
    assert sure is not None
    assert sure.auto_merge
    assert sure.confidence == pytest.approx(0.4 * 0.9 + 0.6 * 0.9)
    unsure = merge_candidate(pair, 5)
    assert unsure is not None
    assert not unsure.auto_merge
    assert merge_candidate(pair, 1) is None


def test_what_only_looks_alike_is_never_merged_by_itself() -> None:
    found = merge_candidate(_pair("kubernetes", "kubernetse"), 10)
    assert found is not None
    assert found.confidence > 0.8
    assert not found.auto_merge


def test_a_first_name_of_two_people_is_ambiguous() -> None:
    one, other = _named("alice-johnson"), _named("alice-smith")
    pairs = similar_pairs([_named("alice"), one, other], most=10)
    for pair in (pair for pair in pairs if pair.alias.slug == "alice"):
        found = merge_candidate(pair, 10)
        assert found is None or not found.auto_merge
    assert {pair.ambiguous for pair in pairs if pair.alias.slug == "alice"} == {True}
    [alone] = similar_pairs([_named("alice"), one], most=10)
    assert not alone.ambiguous


@pytest.mark.parametrize(
    ("category", "slug", "references", "reason"),
    [
        ("people", "alice-johnson", 3, None),
        ("animals", "cat", 3, "unknown_category"),
        ("people", "a", 3, "length"),
        ("people", "123", 3, "no_letter"),
        ("tools", "a12345", 3, "mostly_digits"),
        ("concepts", "a-b-c-d-e-f-g-h-i-j", 3, "too_many_words"),
        ("people", "alice", 0, "unreferenced"),
    ],
)
def test_flaws(category: str, slug: str, references: int, reason: str | None) -> None:
    assert flaw(category, slug, references) == reason
