"""Decide whether a name may be an entity, by its shape and by the words of its slug.

The rules are AutoMem's shape filter and quality validator; the word lists are our own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from services.enricher.entities import words as lists
from shared.domain.memory import opens_name

CATEGORIES = ("tools", "projects", "people", "concepts", "organizations")
_MAX_NAME_CHARS = 80
_MAX_CONCEPT_WORDS = 6

_FOLDED = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
_MARKS_ON_LATIN = re.compile(r"([a-z])[\u0300-\u036f]+")
_NOT_SLUG = re.compile(r"[\W_]+")

_CLASS_NAME = re.compile(rf"[A-Za-z0-9]*(?:{lists.any_of('class_endings')})$")
_SLUG_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*$")
_ERROR_NAME = re.compile(r"\w*(?:Error|Exception|Warning|Fault)s?$|E[A-Z]{4,}$|SIG[A-Z]{3,}$")
_HTTP_STATUS = re.compile(r"(?:http|error|status|code)-?[1-5]\d\d(?:-|$)|[1-5]\d\d-[a-z]")
_ESCAPE = re.compile(r"(?:^|-)u(?=[0-9a-f]*\d)[0-9a-f]{4}(?:-|$)")
_NUMBER = rf"(?:\d|{lists.any_of('numbers')})"
_UNIT = rf"(?:{lists.any_of('units')})(?:-|$)"
_COUNT = re.compile(
    rf"(?:about-|around-|over-|under-|last-|next-|past-|every-|the-)?(?:{_NUMBER}-?)+(?:$|{_UNIT})"
    r"|\d[\d-]*$|\d+-[a-z]+s$"
    r"|(?:last|next|past|every|each)-[a-z]+$|(?:q[1-4]|h[12]|week|day|year|month|version|step"
    r"|phase|v)-?\d+(?:-|$)"
)
_ABSTRACT = re.compile(r"[a-z]+(?:ness|ment|acy)$")
_HEX = re.compile(r"(?:^|-)(?:(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}|[0-9a-f]{8,})(?:-|$)")
_CODE = re.compile(
    r"(?:^|\s)[A-Z][A-Z0-9]+-\d+$|[{}<>=;|\\`$^*~]|\(\)|::|->|=>|\*\*|__|\]\(|^[#/@]|\w/\w*/"
    rf"|\.(?:{lists.any_of('file_endings')})$"
)
_GENERATED = re.compile(
    r"(?:auto-?generated|untitled|lorem-ipsum|placeholder|example|unknown|unnamed|sample|dummy|foo"
    r"|bar|baz)(?:-|$)|(?:user|assistant|human|ai|agent|system)-(?:asked|said|wants|response|reply"
    r"|message|prompt|request|query|input|output)|(?:memory|conversation|session|chat|entity"
    r"|summary)-(?:about|of|from|with|summary|started|ended|id|\d+)|based-on-|as-an-ai|n-a$"
)
_DOTTED_CODE = re.compile(r"[a-z]\w*\.[a-z]\w*|\w+_\w+|\w\(")
_PERSON_LETTERS = re.compile(r"[^\W\d_]+(?:[.'’‘\- ]+[^\W\d_]+)*\.?$")
_INITIAL = re.compile(r"[^\W\d_]\.?$|(?:[^\W\d_]\.){2,3}$")
_NAME_PREFIX = r"(?:Mc|Mac|Fitz|[OoDdLl]['’‘]|De|Di|Du|La|Le|Van|Von|St|Ben|El|Al)"
_NAME_TOKEN = re.compile(rf"{_NAME_PREFIX}?[^\W\d_]['’‘\w]*$")
_INNER_CAPITAL = re.compile(rf"{_NAME_PREFIX}[^\W\d_][^\W\d_A-Z]*$")

_VAGUE_ALONE = lists.ACTIONS | lists.VERBS | lists.GENERIC | lists.STOPWORDS
_VAGUE = lists.GENERIC | lists.STOPWORDS | lists.ERRORS
_ACTIONS = lists.ACTIONS | lists.STOPWORDS
_GENERIC_ENDINGS = lists.GENERIC - lists.ORG_ENDINGS
_NOT_IN_NAMES = lists.NOT_IN_NAMES | lists.STOPWORDS | lists.ERRORS


@lru_cache(maxsize=8192)
def slug(name: str) -> str:
    """Return `alice-johnson` for `Alice Johnson`; only Latin letters lose their marks.

    `slug(slug(x)) == slug(x)`; the Unicode form of a name makes no difference.
    """
    if name.isascii():
        return _NOT_SLUG.sub("-", name.lower()).strip("-")
    text = unicodedata.normalize("NFKD", name.casefold()).casefold().translate(_FOLDED)
    while (bare := _MARKS_ON_LATIN.sub(r"\1", text)) != text:
        text = unicodedata.normalize("NFKD", bare)
    text = unicodedata.normalize("NFC", text)
    # A letter and a mark may stand together now that what was between them is gone.
    result = _NOT_SLUG.sub("-", text).strip("-")
    return result if result == name else slug(result)


@lru_cache(maxsize=8192)
def may_be_entity(category: str, name: str) -> bool:
    """Return whether no rule refuses `name` as an entity of `category`."""
    its_slug = slug(name) if _has_shape(category, name) else ""
    if len(its_slug) < 3:
        return False
    known = lists.KNOWN.get(name.lower())
    return (known is not None and known[0] == category) or (
        not _is_noise(name, its_slug)
        and _has_sense(category, its_slug.split("-"))
        and (category != "people" or _is_person(name))
    )


def _has_shape(category: str, name: str) -> bool:
    """Return whether it begins as a name, and is no class or stopword."""
    is_project_slug = category == "projects" and _SLUG_NAME.match(name)
    lowered = name.lower()
    return (
        3 <= len(name) <= _MAX_NAME_CHARS
        and name[-1] != ":"
        and bool(is_project_slug or opens_name(name[0]))
        and not _CLASS_NAME.match(name.rpartition(" ")[2])
        and (name.isupper() or lowered not in lists.FOREIGN_STOPWORDS)
        and lowered not in lists.STOPWORDS
        and (lowered in lists.GIVEN or lowered not in lists.HONORIFICS)
    )


def _is_noise(name: str, its_slug: str) -> bool:
    """Return whether it is an error, an escape, a count or date, a hash, code or a phrase."""
    return its_slug in lists.ERRORS or bool(
        _ERROR_NAME.match(name)
        or _HTTP_STATUS.match(its_slug)
        or _ESCAPE.search(its_slug)
        or _COUNT.match(its_slug)
        or _HEX.search(its_slug)
        or _CODE.search(name)
        or _DOTTED_CODE.match(name)
        or _GENERATED.match(its_slug)
    )


def _has_sense(category: str, words: Sequence[str]) -> bool:
    """Return whether the words of a slug are more than actions, generic and abstract words."""
    if len(words) == 1:
        is_vague = words[0] in _VAGUE_ALONE or bool(_ABSTRACT.match(words[0]))
        return not is_vague or (category == "people" and words[0] in lists.GIVEN)
    return not (
        words[0] in lists.ARTICLES
        or (words[0] in lists.VERBS and category != "people")
        or _VAGUE.issuperset(words)
        or _ACTIONS.issuperset(words)
        or (category == "organizations" and words[-1] in _GENERIC_ENDINGS)
        or (category == "concepts" and len(words) > _MAX_CONCEPT_WORDS)
    )


def _is_person(name: str) -> bool:
    tokens = name.split()
    return (
        _PERSON_LETTERS.match(name) is not None
        and not any(_is_technical(token, tokens) for token in tokens)
        and _name_shaped(tokens)
    )


def _is_technical(token: str, tokens: list[str]) -> bool:
    word, is_alone = token.lower().strip("."), len(tokens) == 1
    if word in lists.GIVEN or word in lists.PARTICLES or _INITIAL.match(token):
        return False
    if word in lists.TOOLS_AND_GIVEN and not is_alone:
        return False
    return (
        word in lists.KNOWN
        or word in _NOT_IN_NAMES
        or (word in lists.ORG_ENDINGS and token is tokens[-1] and not is_alone)
        or (word in lists.GENERIC and (is_alone or tokens[0].lower() not in lists.GIVEN))
    )


def _name_shaped(tokens: list[str]) -> bool:
    """Return whether these are one or two names, with initials and particles between them."""
    names = [
        token
        for token in tokens
        if token.lower() not in lists.PARTICLES and not _INITIAL.match(token)
    ]
    return (
        len(names) in (1, 2)
        and len(tokens) <= len(names) + 3
        and all(_is_name_part(part) for name in names for part in name.split("-"))
        and len({name.lower() for name in names}) == len(names)
    )


def _is_name_part(part: str) -> bool:
    return (
        _NAME_TOKEN.match(part) is not None
        and opens_name(part[0])
        and (len(part) == 1 or not part.isupper())
        and (not any(map(str.isupper, part[1:])) or _INNER_CAPITAL.match(part) is not None)
    )
