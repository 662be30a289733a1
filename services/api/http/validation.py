"""Models of request bodies: their base classes, and the fields that many routes share.

Every refusal is an InvalidInput whose message names the key at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from shared.errors import InvalidInput

_M = TypeVar("_M", bound=BaseModel)


class Body(BaseModel):
    """A JSON object. Unknown keys are ignored, as AutoMem's clients expect."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AbsentBody(Body):
    """A body that may be left out: every key has a default."""


def validate(model: type[_M], body: object) -> _M:
    """Return the `model` of a body. Raises: InvalidInput, which names the key at fault."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInput(f"'{where}': {first['msg']}") from error


def required(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return a change of a model's schema: these keys are required.

    In the model they have defaults, which our own validators refuse in their own words.
    """

    def amend(schema: dict[str, Any]) -> None:
        schema["required"] = list(names)
        for name in names:
            schema["properties"][name].pop("default", None)

    return amend


def clamped(name: str, least: int, most: int | None = None) -> Any:
    """Accept a whole number or its text, and move it into `least`..`most`; null counts as 0."""

    def check(value: object) -> int:
        number = value.strip() if isinstance(value, str) else value
        try:
            # int() refuses to read longer texts, or takes long.
            whole = int(number) if isinstance(number, str) and len(number) <= 32 else number or 0
        except ValueError:
            whole = None
        if isinstance(whole, bool) or not isinstance(whole, int):
            raise InvalidInput(f"'{name}' must be an integer")
        return max(least, whole if most is None else min(most, whole))

    return BeforeValidator(check, json_schema_input_type=int | None)


def switch(name: str) -> Any:
    """Accept true or false, as such or as a text; null counts as false."""

    def check(value: object) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0"):
            return value.strip().lower() in ("true", "1")
        raise InvalidInput(f"'{name}' must be true or false")

    return BeforeValidator(check, json_schema_input_type=bool | None)
