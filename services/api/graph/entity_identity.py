"""Rules for which entities are the same thing under two names, and which deserve a look.

Within a category the spellings of two slugs are compared, and the number of memories that have
both decides. Only slugs that share a word or their beginning are compared, so the work grows
with the entities and not with their square. The order of the result never changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from services.api.http.answers import Answer
from shared.graph.memory.entities import Entity

SIMILAR = 0.5
REVIEW = 0.5
AUTO = 0.8
AUTO_OVERLAP = 0.6
_PREFIX_CHARS = 3
# In each block (the slugs that share a word or a beginning) a slug is compared with at most
# so many of those that follow it.
_NEIGHBOURS = 12
_PEOPLE = "people"
_CATEGORIES = ("tools", "projects", _PEOPLE, "concepts", "organizations")
_LONGEST_CHARS = 80


class MergeCandidateAnswer(Answer):
    """Two entities, by id, that may be the same."""

    entity_a: str
    entity_b: str
    canonical: str
    alias: str
    confidence: float
    reason: str
    auto_merge: bool


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Two entities with similar slugs; `alias` is the shorter one."""

    canonical: Entity
    alias: Entity
    similarity: float
    substring: bool
    ambiguous: bool


def similarity(one: str, other: str) -> tuple[float, bool]:
    """Return how alike two slugs are (SIMILAR to 1, else 0), and whether one is in the other."""
    shorter, longer = sorted((one, other), key=len)
    if not shorter:
        return 0.0, False
    if shorter in longer:
        return max(0.6, len(shorter) / len(longer)), True
    return Levenshtein.normalized_similarity(one, other, score_cutoff=SIMILAR), False


def similar_pairs(entities: Sequence[Entity], *, most: int) -> list[SimilarPair]:
    """Return the `most` pairs at SIMILAR or more whose slugs are most alike, the most alike first.

    Entities without a memory are left out: a pair needs memories in common.
    """
    used = [entity for entity in entities if entity.references > 0]
    # Word → how many people's longer names hold it.
    name_parts = Counter(
        word
        for entity in used
        if entity.category == _PEOPLE and "-" in entity.slug
        for word in set(entity.slug.split("-"))
    )
    pairs: list[SimilarPair] = []
    compared: set[tuple[str, str]] = set()
    for one, other in _neighbours(used):
        ids = (one.id, other.id)  # in the slugs' order, in whichever block the two stand
        if ids in compared:
            continue
        compared.add(ids)
        score, substring = similarity(one.slug, other.slug)
        if score >= SIMILAR:
            # The longer slug is canonical; of equals the better known one, then the first.
            canonical, alias = sorted(
                (one, other), key=lambda e: (-len(e.slug), -e.references, e.id)
            )
            first_name = alias.category == _PEOPLE and "-" not in alias.slug
            ambiguous = first_name and name_parts[alias.slug] > 1
            pairs.append(SimilarPair(canonical, alias, score, substring, ambiguous))
    return sorted(pairs, key=lambda p: (-p.similarity, p.canonical.id, p.alias.id))[:most]


def _neighbours(entities: Sequence[Entity]) -> Iterator[tuple[Entity, Entity]]:
    """Yield pairs that stand near each other in a block; one may come up in several blocks."""
    blocks: dict[tuple[str, str], list[Entity]] = {}
    for entity in sorted(entities, key=lambda e: (e.slug, e.id)):
        words = [word for word in entity.slug.split("-") if word]
        for key in dict.fromkeys((*words, entity.slug.replace("-", "")[:_PREFIX_CHARS])):
            blocks.setdefault((entity.category, key), []).append(entity)
    for block in blocks.values():
        for at, one in enumerate(block):
            for other in block[at + 1 : at + 1 + _NEIGHBOURS]:
                yield one, other


def merge_candidate(pair: SimilarPair, shared: int) -> MergeCandidateAnswer | None:
    """Judge a pair by its `shared` memories; None where the confidence is below REVIEW."""
    fewest = min(pair.canonical.references, pair.alias.references)
    overlap = shared / fewest if fewest else 0.0
    confidence = 0.4 * pair.similarity + 0.6 * overlap
    if confidence < REVIEW:
        return None
    auto = pair.substring and overlap > AUTO_OVERLAP and confidence >= AUTO and not pair.ambiguous
    how = "substring" if pair.substring else "similar_slug"
    reason = f"{how}: similarity {pair.similarity:.2f}, overlap {overlap:.2f}"
    if pair.ambiguous:
        reason += ", ambiguous first name"
    canonical, alias = pair.canonical.id, pair.alias.id
    return MergeCandidateAnswer(
        entity_a=min(canonical, alias),
        entity_b=max(canonical, alias),
        canonical=canonical,
        alias=alias,
        confidence=round(confidence, 4),
        reason=reason,
        auto_merge=auto,
    )


def flaw(category: str, slug: str, references: int) -> str | None:
    """Return why an entity deserves a look; None where every check passes."""
    letters = sum(character.isalpha() for character in slug)
    checks = (
        ("unknown_category", category not in _CATEGORIES),
        ("length", not 2 <= len(slug) <= _LONGEST_CHARS),
        ("no_letter", letters == 0),
        ("mostly_digits", 0 < letters < len(slug.replace("-", "")) / 2),
        ("too_many_words", slug.count("-") >= 8),
        ("unreferenced", references == 0),
    )
    return next((reason for reason, failed in checks if failed), None)
