"""Memory and the pure rules about it: tags, times, hashes, which text may be stored.

Nothing here calls a store. Times are integer milliseconds UTC inside the product (the
graph returns floats with 15 digits) and ISO 8601 with `+00:00` on the wire.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from shared.errors import InvalidInput

DEFAULT_PROJECT = "default"
DEFAULT_LAYER = "episodic"
LAYERS = frozenset({"episodic", "semantic", "reflective", "working", "sensory"})
TYPES = ("Decision", "Pattern", "Preference", "Style", "Habit", "Insight", "Context")
FALLBACK_TYPE = "Memory"
# The due time of a stage that has failed for good: the relay never reaches it, and the memory
# still counts as not embedded. It is 9999-01-01 in milliseconds.
NEVER_MS = 253_370_764_800_000
# A point's text_hash is half a hash of its text and half a hash of the text before it.
HASH_HALF = 16

# A word of a name: a letter, then what `\w` takes and what it leaves out of names: the marks
# of decomposed and of Indic, Hebrew and Arabic letters, and the dot between parts (约翰·史密斯).
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u109f\u200c\u200d·・"
_NAME = rf"[^\W\d_][\w.'{_MARKS}-]{{0,30}}"
# The wide colon stands without a space.
_SENTENCE = re.compile(rf"^\s*({_NAME}(?: {_NAME})?)(?::\s+|：\s*)\S")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Derived(StrEnum):
    """Keys of `metadata` under which answers show the workers' blocks over the client's own."""

    ENTITIES = "entities"
    ENRICHMENT = "enrichment"


# The keys of those blocks.
DERIVED_KEYS = {
    Derived.ENTITIES: ("tools", "projects", "people", "concepts", "organizations"),
    Derived.ENRICHMENT: (
        *("last_run", "forced", "temporal_links", "patterns_detected", "semantic_neighbors"),
    ),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """One remembered statement as the graph holds it.

    `version` rises with every authored change, `payload_version` with every change of what
    a point carries (so it is never below `version`); both are at least the milliseconds of
    their change. `tags` are authored, `entity_tags` are the enricher's; `meta_terms` are the words
    of `metadata` that are searched. `<stage>_version` is the version that the stage has reached;
    `embed_anew` requests new vectors although the text is the same.
    """

    id: str
    version: int
    payload_version: int
    content: str
    type: str = FALLBACK_TYPE
    confidence: float = 0.3
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    entity_tags: tuple[str, ...] = ()
    timestamp: int = 0
    updated_at: int = 0
    last_accessed: int = 0
    t_valid: int | None = None
    t_invalid: int | None = None
    project: str = DEFAULT_PROJECT
    layer: str = DEFAULT_LAYER
    session_id: str | None = None
    speaker: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    meta_terms: tuple[str, ...] = ()
    entities: Mapping[str, list[str]] = field(default_factory=dict)
    enrichment: Mapping[str, Any] = field(default_factory=dict)
    summary: str | None = None
    enriched_at: int | None = None
    enriched_version: int = 0
    embedded_version: int = 0
    embed_anew: bool = False
    related_version: int = 0
    text_hash: str | None = None
    relevance_score: float | None = None
    archived: bool = False
    archived_at: int | None = None
    protected: bool = False
    protected_reason: str | None = None

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Authored tags in their order, then the enricher's, without repeats."""
        return tuple(dict.fromkeys((*self.tags, *self.entity_tags)))

    @property
    def enriched(self) -> bool:
        return self.enriched_version >= self.version

    @property
    def embedded(self) -> bool:
        return self.embedded_version >= self.payload_version

    @property
    def related(self) -> bool:
        return self.embedded_version > 0 and self.related_version > 0

    @property
    def shown_metadata(self) -> dict[str, Any]:
        """The client's metadata with the workers' keys on top, as AutoMem shows it."""
        metadata = dict(self.metadata)
        blocks = {Derived.ENTITIES: self.entities, Derived.ENRICHMENT: self.enrichment}
        for key, block in blocks.items():
            own = metadata.get(key)
            if block:
                metadata[key] = {**own, **block} if isinstance(own, Mapping) else dict(block)
        return metadata


def summary_marks(original: str) -> dict[str, Any]:
    """Return the metadata keys of a memory whose content was shortened from `original`."""
    return {"original_content": original, "was_summarized": True, "original_length": len(original)}


def marks_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return those keys of `metadata`; empty where they are not those of a shortened memory."""
    original = metadata.get("original_content")
    marks = summary_marks(original) if isinstance(original, str) else {}
    return marks if marks.items() <= metadata.items() else {}


def next_version(version: int, now_ms: int) -> int:
    """Return a higher version, above old points too after a restore that lost the last second."""
    return max(version + 1, now_ms)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=1024)  # an answer holds the same few times again and again
def iso(ms: int | None) -> str | None:
    """Return `ms` as ISO 8601 UTC with `+00:00`, the form AutoMem's clients read."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def parse_time(text: object) -> int:
    """Return the milliseconds of an ISO 8601 text; naive means UTC.

    Raises: InvalidInput for anything else (numbers too), and for years beyond 1..9998.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("Timestamp must be a non-empty ISO formatted string")
    try:
        when = datetime.fromisoformat(text.strip())
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        ms = round(when.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("Invalid ISO timestamp") from error
    if not -62_135_596_800_000 <= ms < NEVER_MS:
        raise InvalidInput("Invalid ISO timestamp")
    return ms


def tag_prefixes(tags: Iterable[str]) -> tuple[str, ...]:
    """`Proj/Alpha:db` → proj, proj:alpha, proj:alpha:db; lower-cased, unique, in order."""
    found: dict[str, None] = {}
    for tag in tags:
        parts = [part for part in re.split(r"[:/]", tag.strip().lower()) if part]
        for end in range(1, len(parts) + 1):
            found[":".join(parts[:end])] = None
    return tuple(found)


def tag_keys(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the forms that exact matching compares: stripped, lower-cased, unique, in order."""
    return tuple(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))


def text_hash(model: str, text: str) -> str:
    """Return the identity of a vector: a hash of the model and the text that was embedded."""
    return hashlib.blake2b(f"{model}\0{text}".encode(), digest_size=16).hexdigest()


def same_text(one: str | None, other: str) -> bool:
    """Return whether two hashes are of one text and model, regardless of the text before it.

    A stored hash has two halves, of the text and of its context; `other` may be a `text_hash`.
    """
    return (one or "")[:HASH_HALF] == other[:HASH_HALF]


def speaker_of(content: str, metadata: Mapping[str, Any]) -> str | None:
    """`metadata.speaker`, else a leading `Name:` of the content (one or two words)."""
    named = metadata.get("speaker")
    if isinstance(named, str) and 0 < len(named.strip()) <= 64:
        return named.strip()
    leading = _SENTENCE.match(content)
    if leading is None or not all(opens_name(word[0]) for word in leading[1].split(" ")):
        return None
    return leading[1]


def opens_name(letter: str) -> bool:
    """Return whether a name may begin with it: a capital, or a letter that has no capital."""
    return letter.isupper() or letter.istitle() or caseless(letter)


def caseless(letter: str) -> bool:
    """Return whether a letter has no two cases (Georgian capitals do not begin words)."""
    return letter.isalpha() and letter == letter.title() == letter.title().lower()


def check_text(text: str, what: str) -> str:
    """Return `text` unchanged: a text is stored exactly or refused here.

    Raises: InvalidInput for NUL and lone surrogates, which the graph cannot keep.
    """
    if "\0" in text:
        raise InvalidInput(f"{what} must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} contains a lone surrogate, which is no valid text") from error
    return text


def check_key(text: str, what: str) -> str:
    """Return `text`, by which rows are looked up.

    Raises: InvalidInput for control characters, which the graph's index cannot find again.
    """
    if _CONTROL.search(text):
        raise InvalidInput(f"{what} must not contain control characters")
    return check_text(text, what)


def check_json(value: object, what: str, *, max_bytes: int, max_depth: int) -> str:
    """Return `value` as JSON text.

    Raises: InvalidInput for NaN, infinities, lone surrogates, depth or size past the limit.
    """
    _check_depth(value, what, max_depth)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, UnicodeEncodeError) as error:
        raise InvalidInput(f"{what} must be finite numbers and valid text") from error
    if size > max_bytes:
        raise InvalidInput(f"{what} exceeds {max_bytes} bytes ({size} provided)")
    return text


def _check_depth(value: object, what: str, left: int) -> None:
    if left < 0:
        raise InvalidInput(f"{what} is nested too deeply")
    if isinstance(value, Mapping | list):
        for child in value.values() if isinstance(value, Mapping) else value:
            _check_depth(child, what, left - 1)
