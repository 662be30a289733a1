"""The bodies that store and change memories, with AutoMem's messages for refused values.

Validators raise InvalidInput themselves, so that a client reads one sentence rather than a
list of pydantic errors.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.api.http.body import Body, nullable, required, validate
from shared.domain.memory import LAYERS, check_json, check_key, check_text, parse_time
from shared.errors import InvalidInput

MAX_TAGS = 100
MAX_TAG_CHARS = 200
METADATA_BYTES = 64 * 1024
MAX_DEPTH = 20
BATCH_ROWS = 500
SESSION_CHARS = 200


def _content(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("'content' is required")
    return check_text(_trimmed(value), "'content'")


def _trimmed(content: str) -> str:
    """Remove spaces and line ends only: other white space is stored as it came."""
    return content.strip(" \t\r\n")


def _tags(value: object) -> list[str]:
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput("'tags' must be a list of strings or a single string")
    tags = [check_key(text.strip(), "'tags'") for text in texts if text.strip()]
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"'tags' must not hold more than {MAX_TAGS} tags")
    if any(len(tag) > MAX_TAG_CHARS for tag in tags):
        raise InvalidInput(f"'tags' must not exceed {MAX_TAG_CHARS} characters each")
    return list(dict.fromkeys(tags))


def _split_tags(value: object) -> list[str]:
    """Split a text at its commas, as AutoMem's PATCH does; in POST a text is one tag."""
    return _tags(value.split(",") if isinstance(value, str) else value)


def _ratio(value: object) -> float:
    """As AutoMem does, the text says 'importance' for a confidence and a strength too."""
    try:
        number = float(value) if not isinstance(value, bool) else None  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not math.isfinite(number):
        raise InvalidInput("'importance' must be a number")
    if not 0 <= number <= 1:
        raise InvalidInput("'importance' must be between 0 and 1")
    return number


def _metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("'metadata' must be an object")
    check_json(value, "'metadata'", max_bytes=METADATA_BYTES, max_depth=MAX_DEPTH)
    return value


def label(name: str, most_chars: int = 128) -> Any:
    return nullable(
        lambda value: check_label(value, name, most_chars),
        Annotated[str, Field(max_length=most_chars)],
    )


def check_label(value: object, name: str, most_chars: int) -> str | None:
    """Return a short text without surrounding space; None for an empty one."""
    if not isinstance(value, str) or len(value) > most_chars:
        raise InvalidInput(f"'{name}' must be a string of at most {most_chars} characters")
    return check_key(value.strip(), f"'{name}'") or None


# ISO 8601; without an offset it is UTC, which is more than `date-time` allows.
Moment = Annotated[str, Field(examples=["2026-11-21T06:30:00Z"])]


def _time(name: str) -> Any:
    def check(value: object) -> int:
        try:
            return parse_time(value)
        except InvalidInput as error:
            prefix = "" if name == "timestamp" else f"Invalid {name}: "
            raise InvalidInput(f"{prefix}{error}") from error

    return nullable(check, Moment)


def parse_embedding(value: object) -> list[float]:
    """Return a list of numbers, or AutoMem's comma string, as a vector of any size."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise InvalidInput("Embedding must be a list of floats or a comma-separated string")
    try:
        numbers = [float("" if isinstance(part, bool) else part) for part in parts]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput("Embedding must contain numeric values") from error
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        length = float(np.linalg.norm(np.asarray(numbers, np.float32)))
    # Otherwise single precision has no unit vector in that direction.
    if numbers and not (math.isfinite(length) and length > 0):
        raise InvalidInput("Embedding must contain numeric values that are finite and not all zero")
    return numbers


def _layer(value: object) -> str:
    if not isinstance(value, str) or value not in LAYERS:
        raise InvalidInput(f"'layer' must be one of {', '.join(sorted(LAYERS))}")
    return value


_Tag = Annotated[str, Field(max_length=MAX_TAG_CHARS)]
_TagsGiven = Annotated[list[_Tag], Field(max_length=MAX_TAGS)]
Tags = Annotated[list[str], BeforeValidator(_tags, json_schema_input_type=_TagsGiven | _Tag | None)]
SplitTags = Annotated[
    list[str], BeforeValidator(_split_tags, json_schema_input_type=_TagsGiven | str | None)
]
Metadata = Annotated[
    dict[str, Any], BeforeValidator(_metadata, json_schema_input_type=dict[str, Any] | None)
]
# A number or numeric string in 0..1.
Ratio = Annotated[float | None, nullable(_ratio, Annotated[float, Field(ge=0, le=1)])]
Embedding = Annotated[list[float] | None, nullable(parse_embedding, list[float] | str)]
_LayerName = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(LAYERS)})]
Layer = Annotated[str | None, nullable(_layer, _LayerName)]
_CheckedContent = BeforeValidator(
    _content, json_schema_input_type=Annotated[str, Field(pattern=r"\S")]
)


class Authored(Body):
    """The keys of a memory that a client may send besides its content.

    Times are ISO 8601 on the wire, and milliseconds UTC inside.
    """

    timestamp: Annotated[int | None, _time("timestamp")] = None
    updated_at: Annotated[int | None, _time("updated_at")] = None
    last_accessed: Annotated[int | None, _time("last_accessed")] = None
    t_valid: Annotated[int | None, _time("t_valid")] = None
    t_invalid: Annotated[int | None, _time("t_invalid")] = None
    tags: Tags = Field(default=[])
    importance: Ratio = None
    metadata: Metadata = Field(default={})
    type: Annotated[str | None, label("type", 64)] = None
    confidence: Ratio = None
    embedding: Embedding = None
    session_id: Annotated[str | None, label("session_id", SESSION_CHARS)] = None
    project: Annotated[str | None, label("project")] = None
    layer: Layer = None


class MemoryIn(Authored):
    """POST /memory. An `id` is ignored: a UUIDv4 is always minted."""

    model_config = ConfigDict(json_schema_extra=required("content"))

    content: Annotated[str, _CheckedContent] = Field(validate_default=True, default="")


def _without_defaults(schema: dict[str, Any]) -> None:
    """Document no defaults: a key that is absent leaves its property unchanged."""
    for described in schema["properties"].values():
        described.pop("default", None)


class MemoryPatch(Authored):
    """PATCH /memory/{id}: only the keys that are present change; null clears a time."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    # Absent is None; null is refused.
    content: Annotated[str | None, _CheckedContent] = None
    tags: SplitTags = Field(default=[])


class BatchItem(Body):
    """One memory of a batch, as documented; its keys are checked as a MemoryIn."""

    content: Annotated[str, Field(pattern=r"\S")]
    tags: Tags = Field(default=[])
    importance: Ratio = None
    timestamp: Moment | None = None
    metadata: Metadata = Field(default={})
    type: str | None = None
    confidence: Ratio = None
    session_id: str | None = None
    project: str | None = None
    layer: Layer = None


class BatchIn(Body):
    """POST /memory/batch."""

    memories: list[BatchItem] = Field(min_length=1, max_length=BATCH_ROWS)


def parse_batch(body: object, *, content_chars: int) -> tuple[list[MemoryIn], list[str]]:
    """Return the memories of a batch, and warnings that name the parts that are left out.

    As in AutoMem a bad timestamp, or metadata that is no object, does not refuse the batch.

    Raises: InvalidInput for the first memory that is wrong; then nothing is stored.
    """
    if not isinstance(body, dict) or "memories" not in body:
        raise InvalidInput("JSON body with 'memories' array required")
    items = body["memories"]
    if not isinstance(items, list) or not items:
        raise InvalidInput("'memories' must be a non-empty array")
    if len(items) > BATCH_ROWS:
        raise InvalidInput(f"Batch size limit is {BATCH_ROWS} memories per request")
    warnings: list[str] = []
    memories = [_memory(at, item, content_chars, warnings) for at, item in enumerate(items)]
    return memories, warnings


def _memory(at: int, item: object, content_chars: int, warnings: list[str]) -> MemoryIn:
    if not isinstance(item, dict):
        raise InvalidInput(f"Memory at index {at} must be an object")
    content = item.get("content")
    if not isinstance(content, str) or not content.strip():
        raise InvalidInput(f"Memory at index {at} missing 'content'")
    length = len(_trimmed(content))
    if length > content_chars:
        raise InvalidInput(f"Memory at index {at} exceeds content limit ({length}/{content_chars})")
    members = {name: item[name] for name in BatchItem.model_fields if name in item}
    try:
        return validate(MemoryIn, _mended(at, members, warnings))
    except InvalidInput as error:
        raise InvalidInput(f"{error} (memory at index {at})") from error


def _mended(at: int, members: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    if not isinstance(members.get("metadata", {}), dict | None):
        warnings.append(f"Memory at index {at}: 'metadata' was no object and is left out")
        del members["metadata"]
    if members.get("timestamp") is not None:
        try:
            parse_time(members["timestamp"])
        except InvalidInput as error:
            warnings.append(f"Memory at index {at}: {error}; the time of storing is used")
            del members["timestamp"]
    return members
