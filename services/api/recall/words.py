"""The keywords of a query, the names in it, and the queries that it can be split into."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from shared.domain.memory import caseless
from shared.word_lists import read_words

_KEYWORD = re.compile(r"[A-Za-z0-9_-]+")
_FIRST = re.compile(r"\b[^\W\d_]")
_NAME = re.compile(r"([^\W\d_][\w'’.\u0300-\u036f-]*)\s*")
# Han, kana and Hangul: a name is written together with the words around it.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]{2,}")
_AROUND = " \t\r\n.,;:!?()\"'’“”«»،؛؟।。、，：；！？「」『』（）"
_POSSESSIVE = re.compile(r"['’]s?$")
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
QUERY_WORDS = read_words(Path(__file__).with_name("query_words.txt"))
RECENT_WORDS = QUERY_WORDS["recent"]
_STOP_WORDS = QUERY_WORDS["stop_words"]
_MAX_GRAM = 3
_MAX_NAMES = 12
_MAX_CASELESS = 36
_MAX_TOPICS = 5
_WORK = frozenset({"career", "job", "work"})


def keywords(query: str) -> list[str]:
    """Return lower-cased words of at least three characters, in order, without stop words."""
    found = (word.strip("-_").lower() for word in _KEYWORD.findall(query))
    return list(dict.fromkeys(word for word in found if len(word) >= 3 and word not in _STOP_WORDS))


def names(query: str) -> list[str]:
    """Return what may be names: capitalised words and runs of up to three, the longest first.

    Then words, pairs and parts of words in scripts without capitals.
    """
    found: dict[str, None] = {}
    for run in _proper(query):
        words = [_POSSESSIVE.sub("", word).rstrip(".") for word in run]
        for size in range(len(words), 0, -1):
            for start in range(len(words) - size + 1):
                found[" ".join(words[start : start + size])] = None
    cased = sorted(found, key=lambda name: (-len(name.split()), query.find(name)))[:_MAX_NAMES]
    return list(dict.fromkeys((*cased, *_caseless(query))))


def _proper(query: str) -> Iterator[list[str]]:
    """Yield runs of up to three capitalised words with only white space between them."""
    taken = 0
    for first in _FIRST.finditer(query):
        if first.start() < taken:
            continue
        run: list[str] = []
        at = first.start()
        while len(run) < 3 and _capital(query[at : at + 1]) and (word := _NAME.match(query, at)):
            run.append(word[1])
            taken = at = word.end()
        if run:
            yield run


def _capital(letter: str) -> bool:
    return letter.isupper() or letter.istitle()


def _caseless(query: str) -> list[str]:
    """Return words that begin with a letter without case, their parts, and pairs of them."""
    if query.isascii():
        return []
    words = [word.strip(_AROUND) for word in query.split()]
    singles = [word for word in words if len(word) > 1 and caseless(word[0])]
    parts = [
        run[start : start + size]
        for run in _UNSPACED.findall(query)
        for start in range(len(run) - 1)
        for size in (2, 3)
    ]
    pairs = [
        f"{one} {other}"
        for one, other in itertools.pairwise(words)
        if one and other and caseless(one[0]) and caseless(other[0])
    ]
    return list(dict.fromkeys((*singles, *parts, *pairs)))[:_MAX_CASELESS]


def grams(query: str) -> list[str]:
    """Return lower-cased runs of one to three words, joined as in an entity's slug."""
    words = [_POSSESSIVE.sub("", word).lower() for word in _WORD.findall(query)][:40]
    return list(
        dict.fromkeys(
            "-".join(words[start : start + size])
            for size in range(1, _MAX_GRAM + 1)
            for start in range(len(words) - size + 1)
            if size > 1 or (len(words[start]) >= 3 and words[start] not in _STOP_WORDS)
        )
    )


def named(query: str, speakers: Iterable[str]) -> dict[str, float]:
    """Map each speaker that the query names to 1, or to 0.5 for `Ada's …` beside another name."""
    found: dict[str, bool] = {}
    for speaker in speakers:
        match = re.search(rf"{_whole(speaker)}(['’]s?\b)?", query)
        if match:
            found[speaker] = match[1] is not None
    return {
        speaker: 0.5 if possessive and len(found) > 1 else 1.0
        for speaker, possessive in found.items()
    }


def _whole(speaker: str) -> str:
    """Return a pattern of the name that does not match inside another word."""
    name = re.escape(speaker)
    if speaker.isascii():
        return rf"\b{name}\b"
    return name if _UNSPACED.search(speaker) else rf"(?<!\w){name}(?!\w)"


def without(query: str, speakers: Iterable[str]) -> str:
    """Return the query without the speakers' names, which are scored apart from the vector.

    Where no keyword would be left, the query itself is returned.
    """
    text = query
    for speaker in speakers:
        text = re.sub(rf"{_whole(speaker)}(['’]s\b)?", "", text)
    text = " ".join(text.split())
    return text if keywords(text) else query


def decomposed(query: str) -> list[str]:
    """Return further queries: each name, names with topics, or topics where nobody is named."""
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
    """Return capitalised words after the first word, and possessives."""
    found: dict[str, None] = {}
    for at, word in enumerate(query.split()):
        stripped = word.strip('.,;:!?"()')
        bare = _POSSESSIVE.sub("", stripped)
        if bare[:1].isupper() and len(bare) > 1 and (at > 0 or bare != stripped):
            found[bare] = None
    return list(found)


def query_tokens(texts: Sequence[str]) -> list[str]:
    """Return the lower-cased words of all queries, unique, in order."""
    return list(
        dict.fromkeys(word.lower() for text in texts for word in re.findall(r"[\w-]+", text))
    )
