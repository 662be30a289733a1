"""Request bodies: read up to the limit of their route, parsed as JSON, and validated.

aiohttp's `client_max_size` applies to all routes; here each handler names its own limit, and a
body whose Content-Length exceeds it is refused before any of it is read. Every refusal of a
value is an InvalidInput whose message names the key at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from services.api.http.large_json import in_thread_if_large, parse_json
from services.api.http.parameters import FLAGS, SETTINGS
from shared.errors import InvalidInput

# aiohttp decodes these by itself; a body in another encoding would be read as if it were JSON.
_ENCODINGS = ("identity", "gzip", "deflate")
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JsonBody:
    """The bytes of a body, and the value that they encode."""

    raw: bytes
    value: Any

    def members(self) -> dict[str, Any]:
        """Return the members of the object that the body is. Raises: InvalidInput."""
        if not isinstance(self.value, dict):
            raise InvalidInput("JSON body is required")
        return self.value


async def read_model(request: web.Request, model: type[_M], *, optional: bool = False) -> _M:
    """Return the body as a `model`; an `optional` one that is absent counts as `{}`."""
    body = await read_json(request, optional=optional)
    return validate(model, body.members())


async def read_json(
    request: web.Request, most_bytes: int | None = None, *, optional: bool = False
) -> JsonBody:
    """Return the body of at most `most_bytes`. Raises: as `_read` and `parse_json`."""
    raw = await _read(request, most_bytes or request.app[SETTINGS].api.body_bytes)
    if optional and not raw.strip():
        return JsonBody(raw, {})
    return JsonBody(raw, await in_thread_if_large(len(raw), lambda: parse_json(raw)))


async def _read(request: web.Request, most_bytes: int) -> bytes:
    """Raises: HTTPRequestEntityTooLarge, InvalidInput for an encoding that is not decoded."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise InvalidInput(f"Content-Encoding must be one of {', '.join(_ENCODINGS)}")
    declared = request.content_length or 0
    if declared > most_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=declared)
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > most_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=len(body))
    return bytes(body)


class Body(BaseModel):
    """A JSON object. Unknown keys are ignored, as AutoMem's clients expect."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


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
    """Accept true or false, also as the query's words for them; null counts as false."""

    def check(value: object) -> bool:
        word = "false" if value is None else str(value).strip().lower()
        if word not in FLAGS:
            raise InvalidInput(f"'{name}' must be true or false")
        return FLAGS[word]

    return BeforeValidator(check, json_schema_input_type=bool | None)


def nullable(check: Callable[[Any], Any], documented: Any) -> Any:
    """Return a validator that calls `check` unless the value is null; the document names both."""
    return BeforeValidator(
        lambda value: None if value is None else check(value),
        json_schema_input_type=documented | None,
    )
