"""The type of a memory by the words in it: rules only, so a request can afford it.

Types are tried in a fixed order and the first with any trigger wins. A trigger counts at the
start of a word, and once however often it occurs. Asking a chat model where no rule applies
is the enricher's part.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.domain.memory import FALLBACK_TYPE

FALLBACK_CONFIDENCE = 0.3
_ONE_TRIGGER = 0.6
_PER_TRIGGER = 0.1
_MOST = 0.95


class _Trigger(NamedTuple):
    """`pattern` is searched only where `needle` occurs: that is what makes it quick."""

    needle: str
    pattern: re.Pattern[str]


# A plain trigger is a needle; `needle: pattern` where words may stand between.
_VOCABULARY: dict[str, tuple[str, ...]] = {
    "Decision": (
        "decided to",
        r"chose: \bchose\b.{1,80}?\bover\b",
        "going with",
        "picked",
        "selected",
        "will use",
        "choosing",
        "opted for",
    ),
    "Pattern": (
        "usually",
        "typically",
        r"tend: \btend(?:s|ed)? to\b",
        "pattern i noticed",
        "often",
        "frequently",
        "regularly",
        "consistently",
    ),
    "Preference": (
        "prefer",
        r"like: \blike[sd]?\b.{1,80}?\bbetter\b",
        "favorite",
        "favourite",
        r"always use: \balways uses?\b",
        "rather than",
        "instead of",
        r"favo: \bfavou?r(?:s|ed|ing)?\b",
    ),
    "Style": (
        r"wrote: \bwrote\b.{1,80}?\bin\b.{1,80}?\bstyle\b",
        "communicated",
        "responded to",
        "formatted as",
        r"using: \busing\b.{1,80}?\btone\b",
        "expressed as",
    ),
    "Habit": (
        r"always: \balways\b(?! uses?\b)",
        "every time",
        "habitually",
        "routine",
        "daily",
        "weekly",
        "monthly",
    ),
    "Insight": (
        r"realiz: \brealiz",
        r"realis: \brealis(?:ed|es|ing|e)\b",
        "discovered",
        "learned that",
        "understood",
        "figured out",
        "insight",
        "revelation",
    ),
    "Context": (
        "during",
        "while working on",
        "in the context of",
        r"when: \bwhen\b",
        "at the time",
        "situation was",
    ),
}


def _trigger(written: str) -> _Trigger:
    needle, colon, pattern = written.partition(": ")
    return _Trigger(needle, re.compile(pattern if colon else rf"\b{re.escape(needle)}"))


_TRIGGERS = tuple((kind, tuple(map(_trigger, words))) for kind, words in _VOCABULARY.items())


def classify(content: str) -> tuple[str, float]:
    """Return (type, confidence); `Memory` and 0.3 where no rule applies.

    Confidence is 0.6 for one trigger, then 0.6 + 0.1 for each distinct one, 0.95 at most.
    """
    lowered = content.lower()
    for kind, triggers in _TRIGGERS:
        hits = sum(
            1 for needle, pattern in triggers if needle in lowered and pattern.search(lowered)
        )
        if hits == 1:
            return kind, _ONE_TRIGGER
        if hits:
            return kind, min(_MOST, round(_ONE_TRIGGER + _PER_TRIGGER * hits, 2))
    return FALLBACK_TYPE, FALLBACK_CONFIDENCE


def has_fallback_type(kind: str, confidence: float) -> bool:
    """Whether a memory's type is only the fallback: nobody gave it, and no rule found it.

    Who authors exactly the fallback's type and confidence asks for no more than it.
    """
    return (kind, confidence) == (FALLBACK_TYPE, FALLBACK_CONFIDENCE)
