"""Request bodies: what the spec allows, with AutoMem's own messages for what it refuses.

Validators raise InvalidInput themselves, so that a client reads one sentence rather than a
list of pydantic errors. Unknown keys are ignored, as AutoMem's clients expect.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.api.http.validation import _undefaulted, required
from shared.domain.memory import LAYERS, check_json, check_key, check_text, finite, parse_time
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
    # Only spaces and line ends: other control characters are stored as they came.
    return check_text(value.strip(" \t\r\n"), "'content'")


def _tags(value: object) -> list[str]:
    if value is None:
        return []
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise InvalidInput("'tags' must be a list of strings or a single string")
    tags = [check_key(tag.strip(), "'tags'") for tag in given if tag.strip()]
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"'tags' must not hold more than {MAX_TAGS} tags")
    if any(len(tag) > MAX_TAG_CHARS for tag in tags):
        raise InvalidInput(f"'tags' must not exceed {MAX_TAG_CHARS} characters each")
    return list(dict.fromkeys(tags))


def _split_tags(value: object) -> list[str]:
    """As AutoMem's PATCH reads them: a text is a comma list (in POST it is one tag)."""
    return _tags(value.split(",") if isinstance(value, str) else value)


def unit(name: str) -> Any:
    """A number or numeric string in 0..1, called `name` in the error text."""

    def check(value: object) -> float | None:
        if value is None:
            return None
        try:
            number = float(value) if not isinstance(value, bool) else None  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or not finite(number):
            raise InvalidInput(f"'{name}' must be a number")
        if not 0 <= number <= 1:
            raise InvalidInput(f"'{name}' must be between 0 and 1")
        return number

    return BeforeValidator(check, json_schema_input_type=Annotated[float, Field(ge=0, le=1)] | None)


def _metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("'metadata' must be an object")
    check_json(value, "'metadata'", max_bytes=METADATA_BYTES, max_depth=MAX_DEPTH)
    return value


def label(name: str, limit: int = 128) -> Any:
    def check(value: object) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > limit:
            raise InvalidInput(f"'{name}' must be a string of at most {limit} characters")
        return check_key(value.strip(), f"'{name}'") or None

    return BeforeValidator(
        check, json_schema_input_type=Annotated[str, Field(max_length=limit)] | None
    )


def session_label(value: str) -> str:
    """`metadata.session_id` as a session's name. Raises: InvalidInput as `session_id` does."""
    if len(value) > SESSION_CHARS:
        raise InvalidInput(f"'session_id' must be a string of at most {SESSION_CHARS} characters")
    return check_key(value.strip(), "'session_id'")


# ISO 8601; without an offset it is UTC, which is more than `date-time` allows.
Moment = Annotated[str, Field(examples=["2026-11-21T06:30:00Z"])]


def _time(name: str) -> Any:
    def check(value: object) -> int | None:
        if value is None:
            return None
        try:
            return parse_time(value)
        except InvalidInput as error:
            raise (
                error if name == "timestamp" else InvalidInput(f"Invalid {name}: {error}")
            ) from error

    return BeforeValidator(check, json_schema_input_type=Moment | None)


def parse_embedding(value: object) -> list[float] | None:
    """A list of numbers or AutoMem's comma string; the size is checked against the model."""
    if value is None:
        return None
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list):
        raise InvalidInput("Embedding must be a list of floats or a comma-separated string")
    try:
        numbers = [float(part) for part in given if not isinstance(part, bool)]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput("Embedding must contain numeric values") from error
    if len(numbers) != len(given):
        raise InvalidInput("Embedding must contain numeric values")
    _check_length(numbers)
    return numbers


def _check_length(numbers: list[float]) -> None:
    """Raises: InvalidInput where single precision has no unit vector in that direction."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        length = float(np.linalg.norm(np.asarray(numbers, np.float32)))
    if numbers and not (finite(length) and length > 0):
        raise InvalidInput("Embedding must contain numeric values that are finite and not all zero")


def _layer(value: object) -> str | None:
    if value is None:
        return None
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
Embedding = Annotated[
    list[float] | None,
    BeforeValidator(parse_embedding, json_schema_input_type=list[float] | str | None),
]
Layer = Annotated[
    str | None,
    BeforeValidator(
        _layer,
        json_schema_input_type=Annotated[
            str, WithJsonSchema({"type": "string", "enum": sorted(LAYERS)})
        ]
        | None,
    ),
]
_CheckedContent = BeforeValidator(
    _content, json_schema_input_type=Annotated[str, Field(pattern=r"\S")]
)


class Authored(BaseModel):
    """The keys of a memory that a client may give besides its content.

    Times are ISO 8601 on the wire, milliseconds UTC inside.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    timestamp: Annotated[int | None, _time("timestamp")] = None
    updated_at: Annotated[int | None, _time("updated_at")] = None
    last_accessed: Annotated[int | None, _time("last_accessed")] = None
    t_valid: Annotated[int | None, _time("t_valid")] = None
    t_invalid: Annotated[int | None, _time("t_invalid")] = None
    tags: Tags = []
    importance: Annotated[float | None, unit("importance")] = None
    metadata: Metadata = {}
    type: Annotated[str | None, label("type", 64)] = None
    confidence: Annotated[float | None, unit("importance")] = None
    embedding: Embedding = None
    session_id: Annotated[str | None, label("session_id", SESSION_CHARS)] = None
    project: Annotated[str | None, label("project")] = None
    layer: Layer = None


class MemoryIn(Authored):
    """POST /memory. An `id` is ignored: a UUIDv4 is always minted."""

    # The default is refused by our own sentence: 'content' is required.
    model_config = ConfigDict(json_schema_extra=required("content"))

    content: Annotated[str, _CheckedContent] = Field(validate_default=True, default="")


class MemoryPatch(Authored):
    """PATCH /memory/{id}: only the keys that are present change; null clears a time."""

    model_config = ConfigDict(json_schema_extra=_undefaulted)

    # Absent is None; null is refused.
    content: Annotated[str | None, _CheckedContent] = None
    tags: SplitTags = []
