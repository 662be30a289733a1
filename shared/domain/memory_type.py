"""The type of a memory by the words in it: rules only, so a request can afford it.

The words and their order are in memory_types.txt. The enricher asks a chat model where no
rule applies.
"""

from __future__ import annotations

import re
from pathlib import Path

from shared.domain.memory import FALLBACK_TYPE
from shared.word_lists import read_lists

FALLBACK_CONFIDENCE = 0.3
_ONE_TRIGGER = 0.6
_PER_TRIGGER = 0.1
_MOST = 0.95


def _trigger(line: str) -> tuple[str, re.Pattern[str]]:
    """Return a phrase, and the pattern that is searched where the phrase occurs at all."""
    phrase, colon, pattern = line.partition(": ")
    return phrase, re.compile(pattern if colon else rf"\b{re.escape(phrase)}")


_TRIGGERS = {
    kind: [_trigger(line) for line in lines]
    for kind, lines in read_lists(Path(__file__).with_name("memory_types.txt")).items()
}


def classify(content: str) -> tuple[str, float]:
    """Return (type, confidence); `Memory` and 0.3 where no rule applies.

    Confidence is 0.6 for one trigger, then 0.6 + 0.1 for each distinct one, 0.95 at most.
    """
    lowered = content.lower()
    for kind, triggers in _TRIGGERS.items():
        occurring = [pattern for phrase, pattern in triggers if phrase in lowered]
        hits = sum(pattern.search(lowered) is not None for pattern in occurring)
        if hits == 1:
            return kind, _ONE_TRIGGER
        if hits:
            return kind, min(_MOST, round(_ONE_TRIGGER + _PER_TRIGGER * hits, 2))
    return FALLBACK_TYPE, FALLBACK_CONFIDENCE


def has_fallback_type(kind: str, confidence: float) -> bool:
    """Return whether nobody gave the memory a type and no rule found one.

    A client that gives exactly the fallback's type and confidence is treated the same.
    """
    return (kind, confidence) == (FALLBACK_TYPE, FALLBACK_CONFIDENCE)
