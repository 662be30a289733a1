"""Which entities are the same thing under two names: pure rules, shared by API and consolidator.

Within a category two slugs are compared (spec 3.5, Identity); how much their memories
overlap decides. Pairs are looked for among slugs that share a word or their beginning, so
the work grows with the entities and not with their square; the order is always the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

SIMILAR = 0.5
REVIEW = 0.5
AUTO = 0.8
AUTO_OVERLAP = 0.6
_PREFIX_CHARS = 3
# Of the slugs that share a word or beginning each meets this many that follow it.
_NEIGHBOURS = 12
_PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Named:
    """An entity as the comparison sees it."""

    id: str
    category: str
    slug: str
    references: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two entities with similar slugs; `alias` is the shorter one."""

    canonical: Named
    alias: Named
    similarity: float
    substring: bool
    ambiguous: bool

    @property
    def smaller(self) -> int:
        return min(self.canonical.references, self.alias.references)


@dataclass(frozen=True, slots=True)
class Candidate:
    canonical: str
    alias: str
    confidence: float
    reason: str
    auto_merge: bool


def similarity(one: str, other: str) -> tuple[float, bool]:
    """How alike two slugs are, 0 to 1, and whether one is part of the other."""
    shorter, longer = sorted((one, other), key=len)
    if not shorter:
        return 0.0, False
    if shorter in longer:
        return max(0.6, len(shorter) / len(longer)), True
    most = len(longer)
    shorter, longer = _without_ends(shorter, longer)
    if _least_distance(shorter, longer) > most * (1 - SIMILAR):
        return 0.0, False
    return 1 - _distance(shorter, longer) / most, False


def similar_pairs(entities: Sequence[Named], *, most: int) -> list[Pair]:
    """The `most` pairs whose slugs are most alike, of those at SIMILAR or more.

    Pairs without a memory in common can never be candidates, so unreferenced ones are left out.
    """
    used = [entity for entity in entities if entity.references > 0]
    first_names = _containing(used)
    pairs: list[Pair] = []
    met: set[tuple[str, str]] = set()
    for one, other in _meetings(used):
        key = (one.id, other.id)  # in the slugs' order, whichever block they meet in
        if key in met:
            continue
        met.add(key)
        alike, substring = similarity(one.slug, other.slug)
        if alike >= SIMILAR:
            pairs.append(_pair(one, other, alike, substring, first_names))
    return sorted(pairs, key=lambda p: (-p.similarity, p.canonical.id, p.alias.id))[:most]


def verdict(pair: Pair, shared: int) -> Candidate | None:
    """What `shared` memories in common make of a pair; None below REVIEW."""
    overlap = shared / pair.smaller if pair.smaller else 0.0
    confidence = 0.4 * pair.similarity + 0.6 * overlap
    if confidence < REVIEW:
        return None
    auto = pair.substring and overlap > AUTO_OVERLAP and confidence >= AUTO and not pair.ambiguous
    how = "substring" if pair.substring else "similar_slug"
    reason = f"{how}: similarity {pair.similarity:.2f}, overlap {overlap:.2f}"
    if pair.ambiguous:
        reason += ", ambiguous first name"
    return Candidate(pair.canonical.id, pair.alias.id, round(confidence, 4), reason, auto)


def _pair(
    one: Named, other: Named, alike: float, substring: bool, first_names: Mapping[str, int]
) -> Pair:
    # The longer slug says more; of equals the better known one stays, then the first.
    ranked = sorted((one, other), key=lambda e: (-len(e.slug), -e.references, e.id))
    canonical, alias = ranked
    single = alias.category == _PEOPLE and "-" not in alias.slug
    return Pair(canonical, alias, alike, substring, single and first_names[alias.slug] > 1)


def _containing(entities: Iterable[Named]) -> Counter[str]:
    """Word → how many people's longer names hold it."""
    return Counter(
        word
        for entity in entities
        if entity.category == _PEOPLE and "-" in entity.slug
        for word in set(entity.slug.split("-"))
    )


def _meetings(entities: Sequence[Named]) -> Iterator[tuple[Named, Named]]:
    blocks: dict[tuple[str, str], list[Named]] = {}
    for entity in sorted(entities, key=lambda e: (e.slug, e.id)):
        words = [word for word in entity.slug.split("-") if word]
        keys = dict.fromkeys((*words, entity.slug.replace("-", "")[:_PREFIX_CHARS]))
        for key in keys:
            blocks.setdefault((entity.category, key), []).append(entity)
    for block in blocks.values():
        for at, one in enumerate(block):
            for other in block[at + 1 : at + 1 + _NEIGHBOURS]:
                yield one, other


def _without_ends(one: str, other: str) -> tuple[str, str]:
    """Both without the beginning and the end they share, which cost no edits."""
    head = _agreeing(one, other)
    one, other = one[head:], other[head:]
    tail = _agreeing(one[::-1], other[::-1])
    return (one[:-tail], other[:-tail]) if tail else (one, other)


def _agreeing(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _least_distance(one: str, other: str) -> int:
    """A bound that costs less than the distance: letters that only the other one has."""
    return max(len(other), len(one)) - sum((Counter(one) & Counter(other)).values())


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    above = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        line = [row]
        for at, right in enumerate(other):
            line.append(min(above[at] + (left != right), above[at + 1] + 1, line[at] + 1))
        above = line
    return above[-1]


_CATEGORIES = ("tools", "projects", "people", "concepts", "organizations")
_LONGEST_CHARS = 80


def flaw(category: str, slug: str, references: int) -> str | None:
    """Why an entity deserves a look, None if nothing speaks against it."""
    letters = sum(each.isalpha() for each in slug)
    checks = (
        ("unknown_category", category not in _CATEGORIES),
        ("length", not 2 <= len(slug) <= _LONGEST_CHARS),
        ("no_letter", letters == 0),
        ("mostly_digits", 0 < letters < len(slug.replace("-", "")) / 2),
        ("too_many_words", slug.count("-") >= 8),
        ("unreferenced", references == 0),
    )
    return next((reason for reason, found in checks if found), None)
