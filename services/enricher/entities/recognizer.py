"""Decide the entities of a text from what spaCy marked and what the rules found.

One name gets one category, by `Rank`; a part of a person's name that also stands alone is that
person. Equal texts always give equal entities: nothing depends on a batch or a set's order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise

from services.enricher.entities import words as lists
from services.enricher.entities.filter import CATEGORIES, may_be_entity, slug
from services.enricher.entities.nlp import Annotated, Span
from services.enricher.entities.rules import (
    NamedSpan,
    Rank,
    Word,
    known_names,
    named_people,
    noise_of,
    speakers,
    stated_organizations,
    stated_projects,
    worded,
    words_of,
)

MAX_ENTITIES = 40
# category → names, sorted; categories without a name are absent
Found = dict[str, list[str]]

_CATEGORY_OF_LABEL = {
    "PERSON": "people",
    "PER": "people",  # labels of spaCy's models for other languages
    "ORG": "organizations",
    "PRODUCT": "tools",
    "WORK_OF_ART": "tools",
    "LAW": "tools",
    "EVENT": "concepts",
    "GPE": "concepts",
    "LOC": "concepts",
    "NORP": "concepts",
}
_CATEGORY_ORDER = ("people", "projects", "tools", "organizations", "concepts")
_BEFORE_A_PERSON = lists.HONORIFICS | (lists.VERBS - lists.GIVEN)
_EDGES = " \t\"'“”„‘’`*_.,;:!?()[]<>#-–—"
_ARTICLES = ("the ", "a ", "an ")
_POSSESSIVES = ("'s", "’s", "‘s")


class _Ranges:
    """Ranges of a text, kept in order so that an overlap is found without a look at each."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(ranges)
        self._starts = [start for start, _ in ordered]
        # The furthest end of the ranges up to here, since they may overlap each other.
        self._ends = list(accumulate((end for _, end in ordered), max))

    def overlap(self, span: NamedSpan) -> bool:
        before = bisect_left(self._starts, span.end)
        return before > 0 and self._ends[before - 1] > span.start

    def add(self, span: NamedSpan) -> None:
        """Add a span that overlaps no range."""
        at = bisect_left(self._starts, span.start)
        self._starts.insert(at, span.start)
        self._ends.insert(at, span.end)


def entity_tag(category: str, name: str) -> str:
    return f"entity:{category}:{slug(name)}"


def entity_tags(found: Found) -> tuple[str, ...]:
    """Return the tags of all entities, sorted, each once."""
    return tuple(
        sorted({entity_tag(kind, name) for kind, names in found.items() for name in names})
    )


def renamed(found: Found, merged: Mapping[str, tuple[str, str, str]]) -> Found:
    """Replace each entity whose tag is in `merged` by that (category, slug, name)."""
    result: dict[str, set[str]] = {}
    for category, names in found.items():
        for name in names:
            unmerged = (category, slug(name), name)
            new_category, new_slug, new_name = merged.get(entity_tag(category, name), unmerged)
            # Tag and node are made from the name, so its slug must be the entity's.
            stored_name = new_name if slug(new_name) == new_slug else new_slug
            result.setdefault(new_category, set()).add(stored_name)
    return {category: sorted(names) for category, names in result.items()}


def entities_of(annotated: Annotated) -> Found:
    """Return the entities of a text; at most `MAX_ENTITIES`, the first ones in it."""
    spans = filter(_is_entity, _spans(annotated))
    kept = _without_parts(_one_per_name(_one_per_place(spans)))
    kept = sorted(kept, key=lambda each: (each.start, each.category))[:MAX_ENTITIES]
    names = {
        kind: sorted(each.name for each in kept if each.category == kind) for kind in CATEGORIES
    }
    return {kind: its_names for kind, its_names in names.items() if its_names}


def _spans(annotated: Annotated) -> Iterator[NamedSpan]:
    text = annotated.text
    words = words_of(text)
    starts = {span.start for span in annotated.spans}
    noise, messages = noise_of(text)
    # Backticks mark code, so code around a name in backticks does not count against it.
    yield from _outside(stated_projects(text), messages)
    yield from _outside((*stated_organizations(text), *known_names(words, starts)), noise)
    others = (*named_people(words), *speakers(text), *worded(text), *_seen(annotated, words))
    yield from _outside(others, noise + messages)


def _outside(spans: Iterable[NamedSpan], ranges: Iterable[tuple[int, int]]) -> Iterator[NamedSpan]:
    taken = _Ranges(ranges)
    return (each for each in spans if not taken.overlap(each))


def _is_entity(span: NamedSpan) -> bool:
    known = lists.KNOWN.get(span.name.lower())
    if known is not None and known[0] != span.category and span.rank > Rank.NAMED:
        return False
    return may_be_entity(span.category, span.name)


def _seen(annotated: Annotated, words: list[Word]) -> Iterator[NamedSpan]:
    foreign = lists.is_foreign(word.lower for word in words)
    following = {word.start: after.lower for word, after in pairwise(words)}
    opening = {word.start: following.get(word.start, "") for word in words if word.opens}
    for span in annotated.spans:
        category = _CATEGORY_OF_LABEL.get(span.label)
        if category is None:
            continue
        name, start = _cleaned(annotated.text, span)
        if not name.strip():
            continue
        before = annotated.text[max(0, start - 24) : start].split()[-1:]
        previous = before[0].lower() if before else ""
        rank, category = _judged(category, name, previous, foreign=foreign)
        if rank is Rank.SEEN and not (
            _believable(category, name, previous, foreign=foreign)
            and (
                _has_evidence(category, name, previous, following.get(start))
                or _is_addressed(annotated.text, start + len(name), previous)
            )
            and (" " in name or _may_be_subject(opening.get(start)))
        ):
            continue
        yield NamedSpan(rank, category, name, start, start + len(name))


def _cleaned(text: str, span: Span) -> tuple[str, int]:
    """Return a span's name and start, without article, title, possessive and a colon's rest."""
    start, end = span.start, span.end
    for stop in ("\n", ":", " - ", '"', "(", "`"):
        at = text.find(stop, start + 1, end)
        end = at if at > 0 else end
    name = text[start:end]
    stripped = _without_lead(name.lstrip(_EDGES), span.label)
    start = end - len(stripped)
    words = stripped.rstrip(_EDGES).split(" ")
    while words and words[-1][:1].islower():
        words.pop()
    name = " ".join(words).rstrip(_EDGES)
    for ending in _POSSESSIVES:
        name = name.removesuffix(ending)
    return name.rstrip("'’"), start


def _without_lead(name: str, label: str) -> str:
    lowered = name.lower()
    for article in _ARTICLES:
        if lowered.startswith(article):
            return name[len(article) :]
    first, space, rest = name.partition(" ")
    not_names = _BEFORE_A_PERSON if label == "PERSON" else lists.HONORIFICS
    while space and first.lower().strip(".") in not_names:
        name = rest
        first, space, rest = name.partition(" ")
    return name


def _judged(category: str, name: str, previous: str, *, foreign: bool) -> tuple[Rank, str]:
    """Return spaCy's category, corrected by the words of the name, and how far to trust it."""
    words = name.lower().split()
    known = lists.KNOWN.get(name.lower())
    if known is not None:
        return Rank.SEEN, known[0]
    if len(words) > 1 and words[-1].strip(".") in lists.ORG_ENDINGS and not foreign:
        return Rank.NAMED, "organizations"
    if words[0] in lists.GIVEN and may_be_entity("people", name) and previous != "the":
        return Rank.NAMED, "people"
    if category == "people" and len(words) > 1:
        return Rank.NAMED, "people"
    return Rank.SEEN, category


def _believable(category: str, name: str, previous: str, *, foreign: bool) -> bool:
    """Return whether a name that only spaCy marked is shaped like one.

    The model is English: in other languages it takes any capitalised noun for a name.
    """
    if foreign:
        return category == "concepts" and previous in lists.PLACE_PREPOSITIONS
    return all(
        word[0].isupper() or not word[0].isalpha() or word in lists.INSIDE_NAMES | lists.PARTICLES
        for word in name.split()[1:]
    )


def _has_evidence(category: str, name: str, previous: str, following: str | None) -> bool:
    """Return whether the words beside it support a single word that only spaCy marked as a name.

    Without such words half of these names were something else.
    """
    if " " in name or name.lower() in lists.KNOWN:
        return True
    if category == "people":
        return following in lists.HUMAN_VERBS or previous in lists.BEFORE_PEOPLE
    if category == "organizations":
        return name.isupper() or previous in lists.BEFORE_ORGANIZATIONS
    return category != "concepts" or previous in lists.BEFORE_PLACES or previous == "and"


def _is_addressed(text: str, end: int, previous: str) -> bool:
    """Return whether somebody is addressed, as in `Wow, Mel!`."""
    return previous.endswith(",") and text[end : end + 1] in {"!", "?"}


def _may_be_subject(following: str | None) -> bool:
    """Return whether a word before `following` may be a subject; None if it opens no sentence.

    spaCy marks any capitalised first word as a name: `Pottery`, `Congrats`.
    """
    return (
        following is None
        or following in lists.AFTER_A_SUBJECT
        or following[-2:] in ("ed", "es")
        or (following[-1:] == "s" and following[-2:] != "ss" and len(following) > 3)
    )


def _one_per_place(spans: Iterable[NamedSpan]) -> list[NamedSpan]:
    """Of spans that overlap keep the one of the best rank, then the longest."""
    kept: list[NamedSpan] = []
    taken = _Ranges()
    for each in sorted(spans, key=_trust):
        if not taken.overlap(each):
            taken.add(each)
            kept.append(each)
    return kept


def _trust(span: NamedSpan) -> tuple[int, int, int, int]:
    length = span.end - span.start
    return (span.rank, -length, _CATEGORY_ORDER.index(span.category), span.start)


def _one_per_name(spans: Iterable[NamedSpan]) -> list[NamedSpan]:
    by_slug: dict[str, NamedSpan] = {}
    for each in sorted(spans, key=lambda c: (c.rank, _CATEGORY_ORDER.index(c.category), c.start)):
        by_slug.setdefault(slug(each.name), each)
    return list(by_slug.values())


def _without_parts(spans: list[NamedSpan]) -> list[NamedSpan]:
    """Drop `Alice`, of whatever category, beside the person Alice Johnson."""
    parts: set[str] = set()
    for each in spans:
        words = each.name.split()
        if each.category == "people" and len(words) > 1:
            parts.update(slug(word) for word in (*words, " ".join(words[1:])))
    return [
        each
        for each in spans
        if each.rank is Rank.KNOWN
        or (each.rank is Rank.STATED and each.category == "projects")
        or slug(each.name) not in parts
    ]
