"""What the caller is working on, as tags, types and a language to prefer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.api.recall.request import Hints
from services.api.recall.words import QUERY_WORDS, query_tokens
from shared.domain.memory import Memory, tag_keys
from shared.word_lists import read_words

TAG_BOOST = 0.45
TYPE_BOOST = 0.25
LANGUAGE_BOOST = 0.2
PRIORITY_BOOST = 0.9
_MOST_TAGS = 10
_LANGUAGES = {
    spelling: language
    for language, spellings in read_words(Path(__file__).with_name("languages.txt")).items()
    for spelling in spellings
}
_STYLE_TAGS = ("coding-style", "style", "style-guide", "preferences", "preference:coding")
_STYLE_TYPES = ("Style", "Preference")


@dataclass(frozen=True, slots=True)
class Profile:
    """Which memories to prefer for one caller."""

    language: str | None
    context: str | None
    tags: tuple[str, ...]
    types: tuple[str, ...]
    ids: tuple[str, ...]

    def fit(self, memory: Memory) -> float:
        """Return the boost of one memory, to be added to its score."""
        boost = TAG_BOOST * self.prefers_tags_of(memory) + TYPE_BOOST * (memory.type in self.types)
        texts = (value.lower() for value in memory.metadata.values() if isinstance(value, str))
        if self.language and any(self.language in text for text in texts):
            boost += LANGUAGE_BOOST
        return boost + PRIORITY_BOOST * (memory.id in self.ids)

    def prefers_tags_of(self, memory: Memory) -> bool:
        """Return whether a tag contains a preferred one; `/` and `:` count as the same."""
        held = [key.replace("/", ":") for key in tag_keys(memory.all_tags)]
        return any(tag in key for tag in self.tags for key in held)

    def matches(self, memory: Memory) -> bool:
        return self.prefers_tags_of(memory) or memory.type in self.types or memory.id in self.ids


def profile_of(hints: Hints, query: str) -> Profile | None:
    """Return the profile of a request; None where nothing is known of its context."""
    tokens = query_tokens([query])
    language = _language(hints, tokens)
    # A query that only names a language asks about it, and not for style guides.
    styled = (language is not None and bool(hints)) or not QUERY_WORDS["style"].isdisjoint(tokens)
    if not hints and language is None and not styled:
        return None
    tags = list(hints.tags)
    if language:
        tags += [language, f"{language}-style", f"{language}:style"]
    if styled:
        tags += _STYLE_TAGS
    elif hints.context:
        tags.append(hints.context)
    keys = tuple(tag.replace("/", ":") for tag in tag_keys(tags))[:_MOST_TAGS]
    types = tuple(dict.fromkeys((*hints.types, *(_STYLE_TYPES if styled else ()))))
    return Profile(language, hints.context, keys, types, hints.ids)


def _language(hints: Hints, tokens: list[str]) -> str | None:
    """Read it from `language`, the context, the open file's ending or the query, in this order."""
    ending = hints.active_path.rpartition(".")[2].lower() if hints.active_path else ""
    named = [(hints.language or "").lower(), (hints.context or "").lower(), ending]
    named += [token for token in tokens if token not in QUERY_WORDS["no_language"]]
    return next((_LANGUAGES[name] for name in named if name in _LANGUAGES), None)
