"""Decide whether a name may be an entity, by its shape and by the words of its slug.

`refusal` returns the first rule that a name breaks, in a fixed order, so that a test can tell
one rule from another. The rules are AutoMem's shape filter and quality validator; the word
lists are our own.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache

from services.enricher.entities import words as lists

CATEGORIES = ("tools", "projects", "people", "concepts", "organizations")
MAX_NAME_CHARS = 80
MAX_CONCEPT_WORDS = 6


class Refusal(StrEnum):
    """Why a name is no entity."""

    CATEGORY = "unknown category"
    LENGTH = "shorter than 3 or longer than 80 characters"
    NO_LETTER = "no letter"
    MARKUP = "markup, quote or code at its start"
    COLON = "ends with a colon"
    JSON_LITERAL = "JSON literal"
    ENV_VAR = "environment variable"
    LOWER_CASE = "does not start upper-case"
    CLASS_NAME = "name of a class"
    STOPWORD = "stopword"
    ERROR = "error phrase"
    ESCAPE = "unicode escape"
    COUNT = "duration, count or date"
    ACTION = "action or status"
    ABSTRACT = "abstract noun"
    HEX = "hexadecimal fragment"
    CODE = "code or markdown"
    GENERATED = "generated phrase"
    GENERIC = "generic word"
    ARTICLE = "led by an article"
    VERB = "led by a verb"
    WORDS = "too many words"
    NOT_LETTERS = "a person's name has letters only"
    TECHNICAL = "technical or common word in a person's name"
    NOT_NAME_SHAPED = "not shaped like a person's name"


_FOLDED = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
_MARKS_ON_LATIN = re.compile(r"([a-z])[\u0300-\u036f]+")
_NOT_SLUG = re.compile(r"[\W_]+")

_JSON_LITERAL = re.compile(
    r"(?:true|false|null|none|nan|undefined)$|[{\[].*[}\]]$", re.IGNORECASE | re.DOTALL
)
_ENV_VAR = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$|\$\{?\w+\}?$")
_CLASS_NAME = re.compile(rf"[A-Za-z0-9]*(?:{lists.any_of('class_endings')})$")
_SLUG_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*$")
_ERROR_NAME = re.compile(r"\w*(?:Error|Exception|Warning|Fault)s?$|E[A-Z]{4,}$|SIG[A-Z]{3,}$")
_HTTP_STATUS = re.compile(r"(?:http|error|status|code)-?[1-5]\d\d(?:-|$)|[1-5]\d\d-[a-z]")
_ESCAPE = re.compile(r"\\[ux][0-9a-f]{2}|(?:^|-)u(?=[0-9a-f]*\d)[0-9a-f]{4}(?:-|$)", re.IGNORECASE)
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
def refusal(category: str, name: str) -> Refusal | None:
    """Return the first rule that `name` breaks as an entity of `category`, or None."""
    if category not in CATEGORIES:
        return Refusal.CATEGORY
    return _shape_refusal(category, name) or _sense_refusal(category, name)


def _shape_refusal(category: str, name: str) -> Refusal | None:
    if not 3 <= len(name) <= MAX_NAME_CHARS:
        return Refusal.LENGTH
    if not any(map(str.isalpha, name)):
        return Refusal.NO_LETTER
    if name[-1] == ":":
        return Refusal.COLON
    if _JSON_LITERAL.match(name):
        return Refusal.JSON_LITERAL
    if _ENV_VAR.match(name):
        return Refusal.ENV_VAR
    if not name[0].isalnum():
        return Refusal.MARKUP
    return _case_refusal(category, name)


def _case_refusal(category: str, name: str) -> Refusal | None:
    is_project_slug = category == "projects" and _SLUG_NAME.match(name)
    if not (name[0].isupper() or is_project_slug or _caseless(name[0])):
        return Refusal.LOWER_CASE
    if _CLASS_NAME.match(name.rpartition(" ")[2]):
        return Refusal.CLASS_NAME
    lowered = name.lower()
    if lowered in lists.FOREIGN_STOPWORDS and not name.isupper():
        return Refusal.STOPWORD
    if lowered in lists.STOPWORDS or (lowered in lists.HONORIFICS and lowered not in lists.GIVEN):
        return Refusal.STOPWORD
    return None


def _caseless(letter: str) -> bool:
    return letter.isalpha() and letter.lower() == letter.upper()


def _sense_refusal(category: str, name: str) -> Refusal | None:
    its_slug = slug(name)
    if len(its_slug) < 3:
        return Refusal.LENGTH
    known = lists.KNOWN.get(name.lower())
    if known is not None and known[0] == category:
        return None
    return (
        _noise_refusal(name, its_slug)
        or _word_refusal(category, its_slug)
        or (_person_refusal(name) if category == "people" else None)
    )


def _noise_refusal(name: str, its_slug: str) -> Refusal | None:
    if its_slug in lists.ERRORS or _ERROR_NAME.match(name) or _HTTP_STATUS.match(its_slug):
        return Refusal.ERROR
    if _ESCAPE.search(name) or _ESCAPE.search(its_slug):
        return Refusal.ESCAPE
    if _COUNT.match(its_slug):
        return Refusal.COUNT
    if _HEX.search(its_slug):
        return Refusal.HEX
    if _CODE.search(name) or _DOTTED_CODE.match(name):
        return Refusal.CODE
    if _GENERATED.match(its_slug):
        return Refusal.GENERATED
    return None


def _word_refusal(category: str, its_slug: str) -> Refusal | None:
    words = its_slug.split("-")
    if len(words) == 1:
        return _single_word_refusal(category, words[0])
    if words[0] in lists.ARTICLES:
        return Refusal.ARTICLE
    if words[0] in lists.VERBS and category != "people":
        return Refusal.VERB
    if all(
        word in lists.GENERIC or word in lists.STOPWORDS or word in lists.ERRORS for word in words
    ):
        return Refusal.GENERIC
    if (
        category == "organizations"
        and words[-1] in lists.GENERIC
        and words[-1] not in lists.ORG_ENDINGS
    ):
        return Refusal.GENERIC
    if all(word in lists.ACTIONS or word in lists.STOPWORDS for word in words):
        return Refusal.ACTION
    if category == "concepts" and len(words) > MAX_CONCEPT_WORDS:
        return Refusal.WORDS
    return None


def _single_word_refusal(category: str, word: str) -> Refusal | None:
    if category == "people" and word in lists.GIVEN:
        return None
    if word in lists.ACTIONS or word in lists.VERBS:
        return Refusal.ACTION
    if word in lists.GENERIC or word in lists.STOPWORDS:
        return Refusal.GENERIC
    if _ABSTRACT.match(word):
        return Refusal.ABSTRACT
    return None


def _person_refusal(name: str) -> Refusal | None:
    if not _PERSON_LETTERS.match(name):
        return Refusal.NOT_LETTERS
    tokens = name.split()
    if any(_is_technical(token, tokens) for token in tokens):
        return Refusal.TECHNICAL
    return None if _name_shaped(tokens) else Refusal.NOT_NAME_SHAPED


def _is_technical(token: str, tokens: list[str]) -> bool:
    word = token.lower().strip(".")
    if word in lists.GIVEN or word in lists.PARTICLES or _INITIAL.match(token):
        return False
    if word in lists.TOOLS_AND_GIVEN and len(tokens) > 1:
        return False
    if (
        word in lists.KNOWN
        or word in lists.NOT_IN_NAMES
        or word in lists.STOPWORDS
        or word in lists.ERRORS
    ):
        return True
    if word in lists.ORG_ENDINGS and token is tokens[-1] and len(tokens) > 1:
        return True
    return word in lists.GENERIC and not (len(tokens) > 1 and tokens[0].lower() in lists.GIVEN)


def _name_shaped(tokens: list[str]) -> bool:
    """Return whether these are one or two names, with initials and particles between them."""
    minor = [token.lower() in lists.PARTICLES or bool(_INITIAL.match(token)) for token in tokens]
    names = [token for token, is_minor in zip(tokens, minor, strict=True) if not is_minor]
    if not names or len(names) > 2 or len(tokens) > len(names) + 3:
        return False
    if not all(_is_name_token(token) for token in names):
        return False
    return len(names) == 1 or names[0].lower() != names[1].lower()


def _is_name_token(token: str) -> bool:
    for part in token.split("-"):
        if not _NAME_TOKEN.match(part) or (part.isupper() and len(part) > 1):
            return False
        if any(map(str.isupper, part[1:])) and not _INNER_CAPITAL.match(part):
            return False
        if not (part[0].isupper() or _caseless(part[0])):
            return False
    return True
