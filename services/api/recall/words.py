"""What a query says: its keywords, the names in it, and the queries it can be split into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_KEYWORD = re.compile(r"[A-Za-z0-9_-]+")
_PROPER = re.compile(r"\b[A-Z][\w'’.-]*(?:\s+[A-Z][\w'’.-]*){0,2}")
_POSSESSIVE = re.compile(r"['’]s?$")
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_STOP = frozenset(
    (
        *(
            "the",
            "and",
            "for",
            "are",
            "was",
            "were",
            "with",
            "that",
            "this",
            "about",
            "from",
            "into",
        ),
        *("what", "when", "where", "which", "who", "whom", "whose", "why", "how", "did", "does"),
        *("has", "have", "had", "you", "your"),
    )
)
_MAX_GRAM = 3
_MAX_NAMES = 12
_MAX_TOPICS = 5
_WORK = frozenset({"career", "job", "work"})


def keywords(query: str) -> list[str]:
    """Words of three characters and more, lower-cased, without function words, in order."""
    found = (word.strip("-_").lower() for word in _KEYWORD.findall(query))
    return list(dict.fromkeys(word for word in found if len(word) >= 3 and word not in _STOP))


def names(query: str) -> list[str]:
    """Capitalised words and runs of up to three of them, longest first; possibly names."""
    found: dict[str, None] = {}
    for run in _PROPER.findall(query):
        words = [_POSSESSIVE.sub("", word).rstrip(".") for word in run.split()]
        for size in range(len(words), 0, -1):
            for start in range(len(words) - size + 1):
                found[" ".join(words[start : start + size])] = None
    return sorted(found, key=lambda name: (-len(name.split()), query.find(name)))[:_MAX_NAMES]


def grams(query: str) -> list[str]:
    """Runs of one to three words, lower-cased: what an entity's slug may be made of."""
    words = [_POSSESSIVE.sub("", word).lower() for word in _WORD.findall(query)][:40]
    return list(
        dict.fromkeys(
            "-".join(words[start : start + size])
            for size in range(1, _MAX_GRAM + 1)
            for start in range(len(words) - size + 1)
            if size > 1 or (len(words[start]) >= 3 and words[start] not in _STOP)
        )
    )


def named(query: str, speakers: Iterable[str]) -> dict[str, float]:
    """Speakers that the query names → 1; half for `Ada's …` while somebody else is named."""
    found: dict[str, bool] = {}
    for speaker in speakers:
        match = re.search(rf"\b{re.escape(speaker)}\b(['’]s?\b)?", query)
        if match:
            found[speaker] = match[1] is not None
    return {
        speaker: 0.5 if possessive and len(found) > 1 else 1.0
        for speaker, possessive in found.items()
    }


def without(query: str, speakers: Iterable[str]) -> str:
    """The query without those names, for the vector: whom it is about is scored apart.

    The query itself where nothing else would be left.
    """
    text = query
    for speaker in speakers:
        text = re.sub(rf"\b{re.escape(speaker)}\b(['’]s\b)?", "", text)
    text = " ".join(text.split())
    return text if keywords(text) else query


def decomposed(query: str) -> list[str]:
    """Further queries: a name, a name with a topic, or topics alone where nobody is named."""
    people = _people(query)[:2]
    lowered = {word.lower() for name in people for word in name.split()}
    topics = [word for word in keywords(query) if len(word) >= 4 and word not in lowered]
    topics = topics[:_MAX_TOPICS]
    if not people:
        return topics[:3]
    found = [
        each for name in people for each in (name, *(f"{name} {topic}" for topic in topics[:3]))
    ]
    if _WORK & set(keywords(query)):
        found += [f"{name} interests goals plans" for name in people]
    return list(dict.fromkeys(found))


def _people(query: str) -> list[str]:
    """Capitalised words that do not merely open the sentence, and possessives."""
    words = query.split()
    found: dict[str, None] = {}
    for at, word in enumerate(words):
        bare = _POSSESSIVE.sub("", word.strip('.,;:!?"()'))
        possessive = bare != word.strip('.,;:!?"()')
        if bare[:1].isupper() and len(bare) > 1 and (at > 0 or possessive):
            found[bare] = None
    return list(found)


def query_tokens(texts: Sequence[str]) -> list[str]:
    """Lower-cased whole words of all queries, unique, in order."""
    return list(
        dict.fromkeys(word.lower() for text in texts for word in re.findall(r"[\w-]+", text))
    )
