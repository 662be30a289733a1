"""Query parameters: each Param is named, parsed, clamped and documented in one place.

A route lists its parameters once, and its handler reads the parsed values by them:

    LIMIT = integer("limit", "Most results", default=5, least=1, most=lambda s: s.recall.max_limit)
    TAGS = texts("tags", "Only memories with these tags")
    Route("GET", "/notes", find_notes, "Find notes", query=(LIMIT, TAGS))
    async def find_notes(request): query = Query.of(request); query[LIMIT]  # an int, clamped

A default or a limit may be a function of the settings; the served document names what holds.
An empty value counts as absent. A number or time that cannot be parsed is refused with 400; a
flag or choice that is none of its words is the default, as in AutoMem, unless the choice has a
refusal of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload

from aiohttp import web

from shared.config import Settings
from shared.domain.memory import check_text, parse_time
from shared.errors import InvalidInput

SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
Schema = Mapping[str, Any]
_T = TypeVar("_T")
_YES = frozenset({"1", "true", "yes", "y", "on"})
_NO = frozenset({"0", "false", "no", "n", "off"})
_MOST_VALUES = 100


class Values(Protocol):
    """The request's query string: the values of a name, in order."""

    def getall(self, key: str, default: list[str]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Param(Generic[_T]):
    """A parameter of the query or a header; a header is only documented by it.

    `parse` gets the stripped values under the name, or under the first alias that is given;
    `schema` is JSON Schema of one value.
    """

    name: str
    parse: Callable[[Sequence[str], Settings], _T]
    schema: Callable[[Settings], Schema]
    description: str = ""
    aliases: tuple[str, ...] = ()
    required: bool = False
    # How often the parameter may occur; None: only the first value counts.
    most_values: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The parsed values of one request: `query[PARAM]`. Raises: InvalidInput."""

    values: Values
    settings: Settings

    @classmethod
    def of(cls, request: web.Request) -> Query:
        return cls(request.query, request.app[SETTINGS])

    def __getitem__(self, param: Param[_T]) -> _T:
        for name in (param.name, *param.aliases):
            if given := self.values.getall(name, []):
                return param.parse([value.strip() for value in given], self.settings)
        return param.parse([], self.settings)


# A fixed value, or one that the settings give.
_Given: TypeAlias = _T | Callable[[Settings], _T]


def _value(given: _Given[_T], settings: Settings) -> _T:
    return given(settings) if callable(given) else given


def parsed(
    name: str,
    description: str,
    parse: Callable[[str], _T],
    *,
    schema: Schema,
    aliases: tuple[str, ...] = (),
) -> Param[_T | None]:
    """A parameter that `parse` reads; None where it is absent."""

    def read(values: Sequence[str], _settings: Settings) -> _T | None:
        return parse(values[0]) if values and values[0] else None

    return Param(name, read, lambda _settings: schema, description, aliases)


def text(
    name: str,
    description: str,
    *,
    most_chars: int | None = None,
    aliases: tuple[str, ...] = (),
    schema: Schema | None = None,
) -> Param[str | None]:
    """A text that the graph can keep; `schema` adds to what the document says of it."""
    limit = {} if most_chars is None else {"maxLength": most_chars}
    return parsed(
        name,
        description,
        lambda value: checked(value, name, most_chars),
        schema={"type": "string", **limit, **(schema or {})},
        aliases=aliases,
    )


def checked(value: str, name: str, most_chars: int | None = None) -> str:
    """`value` as it came. Raises: InvalidInput where it is too long or no valid text."""
    if most_chars is not None and len(value) > most_chars:
        raise InvalidInput(f"'{name}' must not exceed {most_chars} characters")
    return check_text(value, f"'{name}'")


def texts(
    name: str,
    description: str,
    *,
    repeated: bool = True,
    commas: bool = False,
    most_chars: int | None = None,
    required: bool = False,
) -> Param[tuple[str, ...]]:
    """At most 100 texts, without duplicates: `repeated` parameters, `commas` in one, or both."""

    def read(values: Sequence[str], _settings: Settings) -> tuple[str, ...]:
        given = values if repeated else values[:1]
        parts = [part for value in given for part in (value.split(",") if commas else [value])]
        found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if required and not found:
            raise InvalidInput(f"'{name}' query parameter is required")
        if len(found) > _MOST_VALUES:
            raise InvalidInput(f"'{name}' must not hold more than {_MOST_VALUES} values")
        return tuple(checked(value, name, most_chars) for value in found)

    limit = {"maxLength": most_chars} if most_chars is not None and not commas else {}
    return Param(
        name,
        read,
        lambda _settings: {"type": "string", **limit},
        f"{description}; separated by commas" if commas else description,
        required=required,
        most_values=_MOST_VALUES if repeated else None,
    )


def flag(
    name: str,
    description: str = "",
    *,
    default: _Given[bool] = False,
    aliases: tuple[str, ...] = (),
) -> Param[bool]:
    """true or false in AutoMem's words, in any case; the default for other words."""

    def read(values: Sequence[str], settings: Settings) -> bool:
        word = values[0].lower() if values else ""
        return word in _YES if word in _YES | _NO else _value(default, settings)

    def schema(settings: Settings) -> Schema:
        return {"type": "boolean", "default": _value(default, settings)}

    return Param(name, read, schema, description, aliases)


_C = TypeVar("_C", bound=str)


def choice(
    name: str,
    description: str,
    *words: _C,
    default: _Given[_C],
    aliases: tuple[str, ...] = (),
    refusal: str | None = None,
) -> Param[_C]:
    """One of `words`, in any case; for another word the default, or `refusal` with 400."""

    def read(values: Sequence[str], settings: Settings) -> _C:
        given = values[0].lower() if values else ""
        found = next((word for word in words if word == given), None)
        if found is None and given and refusal is not None:
            raise InvalidInput(refusal)
        return _value(default, settings) if found is None else found

    def schema(settings: Settings) -> Schema:
        return {"type": "string", "enum": list(words), "default": _value(default, settings)}

    return Param(name, read, schema, description, aliases)


def moment(name: str, description: str, *, complaint: str) -> Param[int | None]:
    """Milliseconds of an ISO 8601 time; `complaint` begins the refusal of what is none."""

    def parse(value: str) -> int:
        # A `+` that the client did not escape arrives as a space; between date and time
        # either is read.
        try:
            return parse_time(value.replace(" ", "+"))
        except InvalidInput as error:
            raise InvalidInput(f"{complaint}: {error}") from error

    return parsed(name, description, parse, schema={"type": "string", "format": "date-time"})


def integer(
    name: str,
    description: str = "",
    *,
    default: _Given[int],
    least: int | None = None,
    most: _Given[int] | None = None,
    aliases: tuple[str, ...] = (),
) -> Param[int]:
    """A whole number, clamped into `least`..`most`."""

    def parse(text: str) -> int:
        try:
            # A longer text is a number too, but int() refuses to read it from 4 300 digits on.
            if len(text) <= 32:
                return int(text)
        except ValueError:
            pass
        raise InvalidInput(f"'{name}' must be an integer")

    read, schema = _numeric("integer", parse, default, least, most)
    return Param(name, read, schema, description, aliases)


@overload
def number(
    name: str,
    description: str,
    *,
    default: _Given[float],
    least: float | None = None,
    most: float | None = None,
) -> Param[float]: ...
@overload
def number(
    name: str,
    description: str,
    *,
    default: None,
    least: float | None = None,
    most: float | None = None,
) -> Param[float | None]: ...
def number(
    name: str,
    description: str,
    *,
    default: _Given[float] | None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A finite number, clamped into `least`..`most`; without a default it may be absent."""

    def parse(text: str) -> float:
        try:
            if math.isfinite(value := float(text)):
                return value
        except ValueError:
            pass
        raise InvalidInput(f"'{name}' must be a number")

    read, schema = _numeric("number", parse, default, least, most)
    return Param(name, read, schema, description)


def _numeric(
    kind: str, parse: Callable[[str], Any], default: Any, least: Any, most: Any
) -> tuple[Callable[[Sequence[str], Settings], Any], Callable[[Settings], Schema]]:
    """Reads a number and clamps it; the schema names the limits, though none is refused."""

    def read(values: Sequence[str], settings: Settings) -> Any:
        given = values[0] if values else ""
        value = parse(given) if given else _value(default, settings)
        if value is None:
            return None
        highest = _value(most, settings)
        value = value if highest is None else min(highest, value)
        return value if least is None else max(least, value)

    def schema(settings: Settings) -> Schema:
        named = {"default": default, "minimum": least, "maximum": most}
        given = {key: _value(value, settings) for key, value in named.items()}
        return {"type": kind} | {key: value for key, value in given.items() if value is not None}

    return read, schema
