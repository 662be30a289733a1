"""What of a backup's rows can be stored: pure, and suspicious of every value.

A backup may be AutoMem's or edited by hand. What cannot be stored, or could not be read again
afterwards, raises InvalidInput: its row is refused, the others are restored.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
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
from shared.graph.upkeep.restore import Restored

# Edge labels of older AutoMem graphs: the same edge by today's name (spec 2.2).
_LEGACY = {
    "EXPLAINS": "explains",
    "SHARES_THEME": "shares_theme",
    "PARALLEL_CONTEXT": "parallel_context",
}
# Every property of a memory besides its id, content and flags, by what it must be.
_TIMES = (
    *("timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid", "enriched_at"),
    "archived_at",
)
_VERSIONS = (
    *("version", "payload_version", "enriched_version", "embedded_version", "related_version"),
)
_TEXTS = (
    *("type", "project", "layer", "session_id", "speaker", "summary", "text_hash"),
    "protected_reason",
)
_LISTS = ("tags", "entity_tags", "meta_terms")
_JSON = ("metadata", "entities", "enrichment")
_UNIT = ("importance", "confidence")
# The first millisecond of year 1, before which nothing can be shown as a date.
_FIRST_MS = -62_135_596_800_000
_INT64 = 1 << 63
# What entities and patterns are read by.
_KINDS: Mapping[tuple[str, ...], type] = {
    ("slug", "category", "name", "identity", "type", "content"): str,
    ("aliases", "key_terms"): list,
}


def node_of(row: Mapping[str, Any]) -> tuple[int | str, list[Any], Mapping[str, Any]]:
    """The backup's own id of a node, its labels and properties. Raises: InvalidInput."""
    key, labels, properties = row.get("id"), row.get("labels"), row.get("properties")
    if not isinstance(key, int | str):
        raise InvalidInput("without an id of the backup")
    if not isinstance(labels or [], list):
        raise InvalidInput("labels are no list")
    if not isinstance(properties or {}, dict):
        raise InvalidInput("properties are no object")
    return key, labels or [], properties or {}


def restored(properties: Mapping[str, Any], now: int) -> Restored:
    """A backup's memory, at a version of now: nothing of it is taken as embedded.

    Raises: InvalidInput for what cannot be stored.
    """
    given = {name: properties.get(name) for name in PROPERTIES}
    given["id"] = _uuid(given["id"])
    given["content"] = check_text(_text(given["content"], "content"), "content")
    for names, read in _READERS.items():
        for name in names:
            given[name] = read(given[name], name)
    memory = _dated(memory_of([given[name] for name in PROPERTIES]), now)
    return Restored(_renewed(memory, now), memory.version, _supplied(properties))


def _supplied(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """The client's own vector with its model; one that cannot be read is made anew."""
    vector, model = properties.get("embedding"), properties.get("embedding_model")
    if not (isinstance(vector, str) and isinstance(model, str)):
        return None
    try:
        embedding_of(vector, check_text(model, "embedding_model"))
    except (ValueError, InvalidInput):
        return None
    return vector, model


def _dated(memory: Memory, now: int) -> Memory:
    """With what AutoMem's nodes lack, and without the workers' blocks in its metadata."""
    timestamp = memory.timestamp or now
    metadata = dict(memory.metadata)
    block = metadata.get(Derived.ENRICHMENT)
    if isinstance(block, dict) and "last_run" in block:
        metadata = {k: v for k, v in metadata.items() if k not in tuple(Derived)}
    session = memory.session_id or metadata.get("session_id")
    return replace(
        memory,
        timestamp=timestamp,
        updated_at=memory.updated_at or timestamp,
        last_accessed=memory.last_accessed or timestamp,
        metadata=metadata,
        session_id=session[:200] if isinstance(session, str) and session.strip() else None,
        speaker=memory.speaker or speaker_of(memory.content, metadata),
        meta_terms=terms(metadata),
    )


def _renewed(memory: Memory, now: int) -> Memory:
    version = next_version(max(memory.version, memory.payload_version), now)
    finished = memory.enriched and memory.enriched_version > 0
    return replace(
        memory,
        version=version,
        payload_version=version,
        enriched_version=version if finished else 0,
        embedded_version=0,
        related_version=0,
        text_hash=None,
    )


def plain(properties: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Another node's properties: times in ms, pending work due now. Raises: InvalidInput."""
    read = {name: _property(name, value, now) for name, value in properties.items()}
    found = {name: value for name, value in read.items() if value is not None}
    check_key(_text(found.get("id"), "an id"), "id")
    for names, kind in _KINDS.items():
        if not all(isinstance(found.get(name, kind()), kind) for name in names):
            raise InvalidInput(f"one of {', '.join(names)} is no {kind.__name__}")
    return found


def _property(name: str, value: object, now: int) -> Any:
    """None for what the graph does not keep."""
    if name.endswith(("_at", "timestamp")):
        return _ms(value, name)
    if name.endswith("_due"):
        return (now if value < NEVER_MS else NEVER_MS) if isinstance(value, int) else None
    if isinstance(value, str):
        return check_text(value, name)
    storable = all(map(_storable, value)) if isinstance(value, list) else _storable(value)
    return value if storable else None


def _storable(value: object) -> bool:
    """Whether the graph keeps it as it is: a valid text, a 64-bit or a finite number."""
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


def _uuid(value: object) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise InvalidInput("id is no UUID") from error


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"without {what}")
    return value


def _ms(value: object, what: str) -> int | None:
    """Milliseconds as they are, ISO texts as milliseconds; only what can be shown again."""
    if value is None or value == "":
        return None
    try:
        ms = value if type(value) is int else parse_time(value)
    except InvalidInput as error:
        raise InvalidInput(f"{what} is no time") from error
    if not _FIRST_MS <= ms < NEVER_MS:
        raise InvalidInput(f"{what} is no time")
    return ms


def _version(value: object, what: str) -> int | None:
    if value is None or (type(value) is int and 0 <= value < NEVER_MS):
        return value
    raise InvalidInput(f"{what} is no version")


def _short(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is no text")
    return check_text(value, what)


def _list(value: object, what: str) -> list[str]:
    """A lone text is a list of it. Numbers among texts are texts, as AutoMem's tags may be."""
    given = [value] if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(each, str | int) for each in given):
        raise InvalidInput(f"{what} are no list of texts")
    return [check_text(str(each), what) for each in given]


def _json_text(value: object, what: str) -> str | None:
    """An object's JSON text; what is no object is left out."""
    try:
        if isinstance(value, str):
            value = _loaded(value)
        if not isinstance(value, dict) or not value:
            return None
        return check_text(json.dumps(value, ensure_ascii=False, allow_nan=False), what)
    except ValueError as error:
        raise InvalidInput(f"{what} is not finite") from error
    except RecursionError as error:
        raise InvalidInput(f"{what} is nested too deeply") from error


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _number(value: object, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _storable(value):
        raise InvalidInput(f"{what} is no number")
    return float(value)


def _unit(value: object, what: str) -> float | None:
    number = _number(value, what)
    return None if number is None else min(1.0, max(0.0, number))


_READERS: Mapping[tuple[str, ...], Callable[[object, str], Any]] = {
    _TIMES: _ms,
    _VERSIONS: _version,
    _TEXTS: _short,
    _LISTS: _list,
    _JSON: _json_text,
    _UNIT: _unit,
    ("relevance_score",): _number,
}
