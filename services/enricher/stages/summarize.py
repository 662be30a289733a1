"""The one-line summary of a memory: its first sentence, cut at a word."""

from __future__ import annotations

import re

MAX_CHARS = 240
_ELLIPSIS = "…"

# A sentence ends with these marks and the closing quotes after them, before a space or the end of
# the text; Chinese and Japanese marks need no space after them.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”“’‘»«)\]]*+(?=\s|$)|[。！？]+[」』）]*")
# Words whose full stop does not end a sentence: titles, initials, `e.g.`, `z. B.`.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“„])(?:mr|mrs|ms|dr|prof|st|sr|jr|vs|approx|vol|fig|ca|bzw|usw|vgl|nr|str"
    r"|inkl|evtl|ggf|mme|mlle|cf|al|inc|ltd|co|corp|dept|est|u\.s|[^\W\d_]"
    r"|(?:[^\W\d_]\.[ ]?){1,11}[^\W\d_])\.$",
    re.IGNORECASE,
)
_LEADING_MARKUP = re.compile(r"^(?:#{1,6}\s+|[-*•>]\s+|\d+[.)]\s+(?=\S))")
_SPACES = re.compile(r"\s+")
_BLANK_LINE = re.compile(r"\n\s*\n")
_ORDINAL = re.compile(r"(?:^|\s)\d{1,3}\.$")


def summarize(content: str) -> str | None:
    """Return the first sentence in at most 240 characters, on one line; None if there is none.

    Headings and list marks at its start are dropped; a longer sentence ends at a word with `…`.
    """
    paragraph = _BLANK_LINE.split(content.strip(), maxsplit=1)[0]
    text = _SPACES.sub(" ", _LEADING_MARKUP.sub("", paragraph)).strip()
    if not any(map(str.isalnum, text)):
        return None
    return cut(text[: _sentence_end(text)].rstrip())


def _sentence_end(text: str) -> int:
    for match in _END.finditer(text, 0, MAX_CHARS * 4):
        end = match.end()
        if end == len(text) or not _goes_on(text, end):
            return end
    return len(text)


def _goes_on(text: str, end: int) -> bool:
    """Return whether the full stop before `end` ends an abbreviation, an ordinal or a number."""
    before = text[max(0, end - 24) : end]
    return text[end:].lstrip()[:1].islower() or bool(
        _ABBREVIATION.search(before) or _ORDINAL.search(before)
    )


def cut(sentence: str, limit: int = MAX_CHARS) -> str:
    """Return at most `limit` characters: a longer sentence is cut after a word and ends in `…`."""
    if len(sentence) <= limit:
        return sentence
    room = sentence[: limit - 1]
    if not sentence[limit - 1].isspace() and " " in room:
        room = room[: room.rindex(" ")]
    return room.rstrip(" ,;:-–—") + _ELLIPSIS
