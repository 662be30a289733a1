"""What the graph store takes and returns, and memories as node properties and back.

Property keys are this fixed list (past 65 536 keys FalkorDB mixes values up silently), so
metadata, entities and enrichment are JSON strings.
"""

from __future__ import annotations

import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple
from zlib import crc32

from shared.compact_json import compact_json
from shared.domain.memory import FALLBACK_TYPE, Memory, tag_keys, tag_prefixes
from shared.errors import InvalidInput
from shared.streams.job import Stage

Convert = Callable[[Any], Any]
PROPERTIES = tuple(each.name for each in fields(Memory))
COLUMNS = ", ".join(f"m.{name}" for name in PROPERTIES)

_JSON = ("metadata", "entities", "enrichment")
# What a client authors, and PATCH may change; workers write the rest.
AUTHORED = (
    *("version", "payload_version", "content", "type", "confidence", "importance", "tags"),
    *("timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid", "project", "layer"),
    *("session_id", "speaker", "metadata", "meta_terms"),
)
# What a memory is created with.
CREATED = (
    *PROPERTIES,
    *("slot", "tag_keys", "tag_prefixes", "embedding", "embedding_model"),
    *("enrich_due", "embed_due"),
)
# Of these, what a memory may lack.
NULLABLE = frozenset(
    {each.name for each in fields(Memory) if each.default is None}
    | {*_JSON, "embedding", "embedding_model", "enrich_due", "embed_due"}
)

# The version that a stage's jobs carry and that guards its results.
VERSION_OF = {
    Stage.ENRICH: "version",
    Stage.ASK: "version",
    Stage.EMBED: "payload_version",
    Stage.RELATE: "payload_version",
}


@dataclass(frozen=True, slots=True)
class Due:
    """A memory that is due in a stage, with the versions that its job may carry."""

    id: str
    version: int
    payload_version: int

    def job_version(self, stage: Stage) -> int:
        return self.version if VERSION_OF[stage] == "version" else self.payload_version


class Text(NamedTuple):
    """The content of a memory, or its beginning."""

    id: str
    content: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """A supplied vector and the model it belongs to; kept as 32-bit floats."""

    model: str
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class Idem:
    """What an Idempotency-Key was answered; the store sets `created_at` (ms) if it is 0."""

    key: str
    body_hash: str
    ids: Sequence[str]
    answer_json: str
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A related memory as answers show it; `content` only where there is no summary.

    At most 161 characters of content (one more than is shown) and five tags.
    """

    id: str
    type: str
    timestamp: int
    summary: str | None
    content: str | None
    importance: float
    confidence: float
    tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class Relation:
    """An edge as seen from one memory; `strength` is the first value the edge has."""

    type: str
    strength: float
    kind: str | None
    other: Summary


@dataclass(frozen=True, slots=True)
class Hydrated:
    """A memory with its outgoing relations, newest first."""

    memory: Memory
    relations: tuple[Relation, ...]


# Sweeps and pages go over this number, not over the id: an index range over strings also
# returns rows outside its bounds (4.16.3: up to sixty times as many).
SLOTS = 1 << 32
_MAX_KEY_BYTES = 1024


def slot(memory_id: str) -> int:
    """Return the place of an id among SLOTS: a UUID's first 32 bits, so in the order of ids."""
    try:
        return int(memory_id[:8], 16)
    except ValueError:
        return crc32(memory_id.encode())


def check_key(value: str, what: str) -> str:
    """Return a value that may be a unique key.

    Raises: InvalidInput for an empty text, white space at its ends, control characters and
    more than 1024 bytes: FalkorDB 4.16.3 dies of a unique value that is empty, that its index
    trims or splits, or that is longer than 4096 bytes (FalkorDB#1340, #2440).
    """
    if not value or value != value.strip() or not value.isprintable():
        raise InvalidInput(f"{what} must be printable text without blanks at its ends")
    if len(value.encode()) > _MAX_KEY_BYTES:
        raise InvalidInput(f"{what} exceeds {_MAX_KEY_BYTES} bytes")
    return value


def columns(memory: Memory, names: tuple[str, ...] = PROPERTIES) -> list[Any]:
    """Return the values of `names` in order, as the graph stores them."""
    values_of, json_places = _getter(names)
    values = list(values_of(memory))
    for at in json_places:
        values[at] = compact_json(values[at]) if values[at] else None
    return values


@lru_cache(maxsize=8)
def _getter(names: tuple[str, ...]) -> tuple[Convert, tuple[int, ...]]:
    """Return what reads the fields `names` of a memory, and which of them are stored as JSON."""
    return attrgetter(*names), tuple(at for at, name in enumerate(names) if name in _JSON)


def tag_columns(memory: Memory) -> list[list[str]]:
    """`tag_keys` and `tag_prefixes` of all its tags."""
    tags = memory.all_tags
    return [list(tag_keys(tags)), list(tag_prefixes(tags))]


def created_columns(
    memory: Memory, embedding: Iterable[str | None], enrich_due: int | None, embed_due: int
) -> list[Any]:
    """Return the values of CREATED in order; `embedding` as `embedding_columns` returns it."""
    derived = [slot(memory.id), *tag_columns(memory), *embedding]
    return [*columns(memory), *derived, enrich_due, embed_due]


def embedding_columns(embedding: Embedding | None) -> list[str | None]:
    """`embedding` (little-endian 32-bit floats in base64) and `embedding_model`."""
    if embedding is None:
        return [None, None]
    return [b64encode(array("f", embedding.vector).tobytes()).decode(), embedding.model]


def embedding_of(text: str | None, model: str | None) -> Embedding | None:
    if text is None or model is None:
        return None
    vector = array("f")
    vector.frombytes(b64decode(text))
    return Embedding(model, vector.tolist())


def _or(default: Any, convert: Convert) -> Convert:
    return lambda value: default if value is None else convert(value)


# Properties whose stored value is not the field's own, or may be missing on nodes that
# consolidation made (a cluster's summary has no importance).
_CONVERSIONS: Mapping[str, Convert] = {
    name: convert
    for names, convert in (
        (("tags", "entity_tags", "meta_terms"), lambda value: tuple(value or ())),
        (_JSON, lambda value: json.loads(value) if value else {}),
        (("confidence", "importance"), _or(0.5, float)),
        (("content",), _or("", str)),
        (("type",), _or(FALLBACK_TYPE, str)),
        (("project",), _or("default", str)),
        (("layer",), _or("episodic", str)),
        (("version", "payload_version", "timestamp", "updated_at", "last_accessed"), _or(0, int)),
        (("enriched_version", "embedded_version", "related_version"), _or(0, int)),
        (("relevance_score",), _or(None, float)),
        (("archived", "protected", "embed_anew"), bool),
    )
    for name in names
}


@lru_cache(maxsize=8)
def _reader(names: tuple[str, ...]) -> tuple[Convert, tuple[tuple[int, Convert], ...]]:
    """What takes the values of `names` from a row, and which of them are converted how."""
    used = ((at, _CONVERSIONS[name]) for at, name in enumerate(names) if name in _CONVERSIONS)
    return itemgetter(*names), tuple(used)


def memory_of(row: Mapping[str, Any], names: tuple[str, ...] = PROPERTIES) -> Memory:
    """Return the Memory of a row with the columns `names`; its other fields are unset."""
    values_of, conversions = _reader(names)
    values = list(values_of(row))
    for at, convert in conversions:
        values[at] = convert(values[at])
    if names is PROPERTIES:  # By position, which takes half the time.
        return Memory(*values)
    return Memory(**dict(zip(names, values, strict=True)))


def summary_cells(other: str) -> str:
    """Expressions of the node `other`: the fields of a Summary, in their order."""
    o = other
    return (
        f"{o}.id, coalesce({o}.type, '{FALLBACK_TYPE}'), coalesce({o}.timestamp, 0), {o}.summary,"
        f" CASE WHEN {o}.summary IS NULL THEN left(coalesce({o}.content, ''), 161) ELSE null END,"
        f" toFloat(coalesce({o}.importance, 0.5)), toFloat(coalesce({o}.confidence, 0.5)),"
        f" coalesce({o}.tags, [])[0..5]"
    )


def is_current_condition(node: str) -> str:
    """Condition that a memory is neither archived nor outside its time of validity at `$at`."""
    return (
        f"(({node}.archived IS NULL OR {node}.archived = false)"
        f" AND ({node}.t_valid IS NULL OR {node}.t_valid <= $at)"
        f" AND ({node}.t_invalid IS NULL OR {node}.t_invalid > $at))"
    )


def relation_cells(edge: str, other: str) -> str:
    """Expressions of an edge and its far node, in the order `relation_of` reads them."""
    values = ", ".join(
        f"{edge}.{name}" for name in ("strength", "score", "confidence", "similarity", "count")
    )
    strength = f"toFloat(coalesce({values}, 0))"
    return f"type({edge}), {strength}, {edge}.kind, {summary_cells(other)}"


def relation_of(cells: Sequence[Any]) -> Relation:
    type_, strength, kind, *other = cells
    return Relation(type_, strength, kind, Summary(*other))
