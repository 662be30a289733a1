"""The known names (names.txt) and the words that decide about other names (words.txt).

Everything is looked up in lower case.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shared.word_lists import read_lists, read_words

_WORDS = read_words(Path(__file__).with_name("words.txt"))

PARTICLES = _WORDS["particles"]
HONORIFICS = _WORDS["honorifics"]
GIVEN = _WORDS["given"]
GIVEN_AND_ORDINARY = _WORDS["given_and_ordinary"]
AFTER_AN_ORDINARY_WORD = _WORDS["after_an_ordinary_word"]
NO_SPEAKER = _WORDS["no_speaker"]
HUMAN_VERBS = _WORDS["human_verbs"]
BEFORE_PEOPLE = _WORDS["before_people"]
AFTER_A_SUBJECT = _WORDS["after_a_subject"]
INSIDE_NAMES = _WORDS["inside_names"]
NOT_IN_NAMES = _WORDS["not_in_names"]

TOOLS_AND_GIVEN = _WORDS["tools_and_given"]
ORDINARY_WORD_TOOLS = _WORDS["ordinary_word_tools"]
AFTER_A_TOOL = _WORDS["after_a_tool"]
ORG_ENDINGS = _WORDS["org_endings"]
BEFORE_ORGANIZATIONS = _WORDS["before_organizations"]
BEFORE_PLACES = _WORDS["before_places"]
PLACE_PREPOSITIONS = _WORDS["place_prepositions"]

STOPWORDS = _WORDS["stopwords"]
FOREIGN_STOPWORDS = _WORDS["foreign_stopwords"]
ERRORS = _WORDS["errors"]
ACTIONS = _WORDS["actions"]
VERBS = _WORDS["verbs"]
GENERIC = _WORDS["generic"]
ARTICLES = _WORDS["articles"]

_PATTERN_WORDS = read_lists(Path(__file__).with_name("pattern_words.txt"))
_CATEGORY_OF_SECTION = {"places": "concepts", "organizations": "organizations", "tools": "tools"}
_NAMES = read_lists(Path(__file__).with_name("names.txt"))
# lower-case name → (category, its usual spelling); a tool wins over a place of the same name
KNOWN = {
    name.lower(): (category, name)
    for section, category in _CATEGORY_OF_SECTION.items()
    for name in _NAMES[section]
}
KNOWN_FIRST_WORDS = frozenset(name.split()[0] for name in KNOWN)
KNOWN_MOST_WORDS = max(len(name.split()) for name in KNOWN)


def any_of(section: str) -> str:
    """Return a pattern that matches each word of that section of pattern_words.txt."""
    return "|".join(" ".join(_PATTERN_WORDS[section]).split())


def is_foreign(lowered: Iterable[str]) -> bool:
    """Return whether German or French function words outnumber English ones (two at least)."""
    foreign = english = 0
    for word in lowered:
        foreign += word in _WORDS["foreign_function_words"]
        english += word in _WORDS["english_function_words"]
    return foreign >= 2 and foreign > english
