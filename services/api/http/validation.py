"""Read request bodies: JSON, and the fields that many routes share.

Every refusal is an InvalidInput whose message names the key at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from services.api.http.large_json import parse_json
from shared.errors import InvalidInput


def required(*names: str) -> Callable[[dict[str, Any]], None]:
    """Says of a model's schema that these keys, which have defaults to be refused, are needed."""

    def amend(schema: dict[str, Any]) -> None:
        schema["required"] = list(names)
        for name in names:
            schema["properties"][name].pop("default", None)

    return amend


def _undefaulted(schema: dict[str, Any]) -> None:
    """What is absent from a change is left as it is: nothing has a default."""
    for named in schema["properties"].values():
        named.pop("default", None)


class AbsentBody(BaseModel):
    """A body that may be left out: every key has a default. Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def clamped(name: str, least: int, most: int | None = None) -> Any:
    """A whole number or its text, moved into `least`..`most`; null is 0 before that."""

    def check(value: object) -> int:
        given = value.strip() if isinstance(value, str) else value
        try:
            # Longer texts than any number meant: int() refuses to read them, or takes long.
            whole = int(given) if isinstance(given, str) and len(given) <= 32 else given or 0
        except ValueError:
            whole = None
        if isinstance(whole, bool) or not isinstance(whole, int):
            raise InvalidInput(f"'{name}' must be an integer")
        return max(least, whole if most is None else min(most, whole))

    return BeforeValidator(check, json_schema_input_type=int | None)


def switch(name: str) -> Any:
    """true or false, as such or as a text; null is false."""

    def check(value: object) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0"):
            return value.strip().lower() in ("true", "1")
        raise InvalidInput(f"'{name}' must be true or false")

    return BeforeValidator(check, json_schema_input_type=bool | None)


_M = TypeVar("_M", bound=BaseModel)


def parse_object(raw: bytes) -> dict[str, Any]:
    return object_of(parse_json(raw))


def object_of(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("JSON body is required")
    return value


def parse_optional(raw: bytes) -> dict[str, Any]:
    """An absent body is an empty object."""
    return parse_object(raw) if raw.strip() else {}


def validate(model: type[_M], body: object) -> _M:
    """Build `model`; every refusal is an InvalidInput that names the key at fault."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInput(f"'{where}': {first['msg']}") from error
