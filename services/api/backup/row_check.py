"""Check every value of a backup's rows, and convert the rows to what the graph stores.

A backup may be AutoMem's or edited by hand. What cannot be stored, or could not be read again
afterwards, raises InvalidInput: its row is refused, the others are restored.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from services.api.memory.metadata import terms
from shared.domain.memory import (
    NEVER_MS,
    Derived,
    Memory,
    check_text,
    next_version,
    parse_time,
    speaker_of,
)
from shared.errors import InvalidInput
from shared.graph.records import PROPERTIES, check_key, embedding_of, memory_of
from shared.graph.upkeep.backup import Restored

# Edge labels of older AutoMem graphs → the kind of the DISCOVERED edge that replaces them.
_LEGACY = {
    "EXPLAINS": "explains",
    "SHARES_THEME": "shares_theme",
    "PARALLEL_CONTEXT": "parallel_context",
}
# The first millisecond of year 1: no earlier time can be written as a date.
_FIRST_MS = -62_135_596_800_000
_INT64 = 1 << 63
# The types of the properties that entities and patterns are read with.
_KINDS: Mapping[tuple[str, ...], type] = {
    ("slug", "category", "name", "identity", "type", "content"): str,
    ("aliases", "key_terms"): list,
}


def node_of(row: Mapping[str, Any]) -> tuple[int | str, list[Any], Mapping[str, Any]]:
    """Return the backup's own id of a node, its labels and properties. Raises: InvalidInput."""
    key, labels, properties = row.get("id"), row.get("labels"), row.get("properties")
    if not isinstance(key, int | str):
        raise InvalidInput("without an id of the backup")
    if not isinstance(labels or [], list):
        raise InvalidInput("labels are no list")
    if not isinstance(properties or {}, dict):
        raise InvalidInput("properties are no object")
    return key, labels or [], properties or {}


def restored(properties: Mapping[str, Any], now: int) -> Restored:
    """Return a backup's memory with a new version, not embedded yet. Raises: InvalidInput."""
    given = {name: properties.get(name) for name in PROPERTIES}
    try:
        given["id"] = str(uuid.UUID(str(given["id"])))
    except ValueError as error:
        raise InvalidInput("id is no UUID") from error
    given["content"] = check_text(_present(given["content"], "content"), "content")
    for read, names in _READERS.items():
        for name in names:
            given[name] = None if given[name] is None else read(given[name], name)
    memory = memory_of(given)
    return Restored(_renewed(memory, now), memory.version, _supplied(properties))


def _supplied(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the client's own vector with its model; None where it cannot be read."""
    vector, model = properties.get("embedding"), properties.get("embedding_model")
    if not (isinstance(vector, str) and isinstance(model, str)):
        return None
    try:
        embedding_of(vector, check_text(model, "embedding_model"))
    except (ValueError, InvalidInput):
        return None
    return vector, model


def _renewed(memory: Memory, now: int) -> Memory:
    """Return the memory with a new version, without the workers' blocks in its metadata."""
    timestamp = memory.timestamp or now
    metadata = dict(memory.metadata)
    block = metadata.get(Derived.ENRICHMENT)
    if isinstance(block, dict) and "last_run" in block:
        metadata = {k: v for k, v in metadata.items() if k not in tuple(Derived)}
    session = memory.session_id or metadata.get("session_id")
    version = next_version(max(memory.version, memory.payload_version), now)
    return replace(
        memory,
        timestamp=timestamp,
        updated_at=memory.updated_at or timestamp,
        last_accessed=memory.last_accessed or timestamp,
        metadata=metadata,
        session_id=session[:200] if isinstance(session, str) and session.strip() else None,
        speaker=memory.speaker or speaker_of(memory.content, metadata),
        meta_terms=terms(metadata),
        version=version,
        payload_version=version,
        enriched_version=version if memory.enriched and memory.enriched_version > 0 else 0,
        embedded_version=0,
        related_version=0,
        text_hash=None,
    )


def plain(properties: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return another node's properties: times in ms, pending work due now. Raises: InvalidInput."""
    read = {name: _property(name, value, now) for name, value in properties.items()}
    found = {name: value for name, value in read.items() if value is not None}
    check_key(_present(found.get("id"), "an id"), "id")
    for names, kind in _KINDS.items():
        if not all(isinstance(found.get(name, kind()), kind) for name in names):
            raise InvalidInput(f"one of {', '.join(names)} is no {kind.__name__}")
    return found


def _property(name: str, value: object, now: int) -> Any:
    """Convert one property; None for what the graph cannot store."""
    if name.endswith(("_at", "timestamp")):
        return _ms(value, name)
    if name.endswith("_due"):
        return (now if value < NEVER_MS else NEVER_MS) if isinstance(value, int) else None
    if isinstance(value, str):
        return check_text(value, name)
    storable = all(map(_storable, value)) if isinstance(value, list) else _storable(value)
    return value if storable else None


def _storable(value: object) -> bool:
    """Return whether the graph can store it: a valid text, a 64-bit or a finite number."""
    if isinstance(value, str):
        try:
            check_text(value, "a property")
        except InvalidInput:
            return False
        return True
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    return isinstance(value, float) and math.isfinite(value)


def relation_of(kind: str, properties: object) -> tuple[str, dict[str, Any]]:
    given = properties if isinstance(properties, dict) else {}
    found = {name: value for name, value in given.items() if _storable(value)}
    try:
        found["updated_at"] = _ms(found.get("updated_at"), "updated_at")
    except InvalidInput:
        del found["updated_at"]
    if kind in _LEGACY:
        return "DISCOVERED", {"kind": _LEGACY[kind], **found}
    return kind, found


def _present(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"without {what}")
    return value


def _ms(value: object, what: str) -> int | None:
    """Return a time in milliseconds (as it is) or ISO 8601 (converted) in milliseconds."""
    if value is None or value == "":
        return None
    try:
        ms = value if type(value) is int else parse_time(value)
    except InvalidInput as error:
        raise InvalidInput(f"{what} is no time") from error
    if not _FIRST_MS <= ms < NEVER_MS:
        raise InvalidInput(f"{what} is no time")
    return ms


def _version(value: object, what: str) -> int:
    if type(value) is int and 0 <= value < NEVER_MS:
        return value
    raise InvalidInput(f"{what} is no version")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is no text")
    return check_text(value, what)


def _list(value: object, what: str) -> list[str]:
    """Convert a single text to a list, and numbers to texts: AutoMem's tags may be either."""
    given = [value] if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(each, str | int) for each in given):
        raise InvalidInput(f"{what} are no list of texts")
    return [check_text(str(each), what) for each in given]


def _json_text(value: object, what: str) -> str | None:
    """Return an object as JSON text; None if the value is no object."""
    try:
        if isinstance(value, str):
            with suppress(ValueError):
                value = json.loads(value)
        if not isinstance(value, dict) or not value:
            return None
        return check_text(json.dumps(value, ensure_ascii=False, allow_nan=False), what)
    except ValueError as error:
        raise InvalidInput(f"{what} is not finite") from error
    except RecursionError as error:
        raise InvalidInput(f"{what} is nested too deeply") from error


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _storable(value):
        raise InvalidInput(f"{what} is no number")
    return float(value)


def _unit(value: object, what: str) -> float:
    return min(1.0, max(0.0, _number(value, what)))


# Every property of a memory besides its id, content and flags, with what reads it.
_READERS: Mapping[Callable[[object, str], Any], tuple[str, ...]] = {
    _ms: (
        *("timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
        *("enriched_at", "archived_at"),
    ),
    _version: (
        *("version", "payload_version", "enriched_version", "embedded_version"),
        "related_version",
    ),
    _text: (
        *("type", "project", "layer", "session_id", "speaker", "summary", "text_hash"),
        "protected_reason",
    ),
    _list: ("tags", "entity_tags", "meta_terms"),
    _json_text: ("metadata", "entities", "enrichment"),
    _unit: ("importance", "confidence"),
    _number: ("relevance_score",),
}
