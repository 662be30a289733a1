"""Query parameters: each Param is named, parsed, clamped and documented in one place.

A route lists its parameters once, and its handler reads the parsed values by them:

    LIMIT = integer("limit", "Most results", default=5, least=1, most=lambda s: s.recall.max_limit)
    TAGS = texts("tags", "Only memories with these tags")
    Route("GET", "/notes", find_notes, "Find notes", query=(LIMIT, TAGS))
    async def find_notes(request): query = Query.of(request); query[LIMIT]  # an int, clamped

A default or a limit may be a function of the settings; the served document names its value.
An empty value counts as absent. A number or time that cannot be parsed is refused with 400. Any
other word for a flag or a choice is the default, as in AutoMem, unless the choice has a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from aiohttp import web
from multidict import MultiMapping

from shared.config import Settings
from shared.domain.memory import check_text, parse_time
from shared.errors import InvalidInput

SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
Schema = Mapping[str, Any]
_T = TypeVar("_T")
# AutoMem's words.
FLAGS = dict.fromkeys(("1", "true", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "n", "off"), False
)
_MOST_VALUES = 100


@dataclass(frozen=True, slots=True, eq=False)
class Param(Generic[_T]):
    """A parameter of the query; or a header, which it documents and does not parse.

    `parse` gets the stripped values under the name, or else under the first alias that the
    request has, and no values where it has none. `schema` is the JSON Schema of one value.
    """

    name: str
    parse: Callable[[Sequence[str], Settings], _T]
    schema: Callable[[Settings], Schema]
    description: str = ""
    aliases: tuple[str, ...] = ()
    required: bool = False
    # How often the parameter may occur, as documented; None: only the first value counts.
    most_values: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The parsed values of one request: `query[PARAM]`. Raises: InvalidInput."""

    values: MultiMapping[str]
    settings: Settings

    @classmethod
    def of(cls, request: web.Request) -> Query:
        return cls(request.query, request.app[SETTINGS])

    def __getitem__(self, param: Param[_T]) -> _T:
        for name in (param.name, *param.aliases):
            if values := self.values.getall(name, []):
                return param.parse([value.strip() for value in values], self.settings)
        return param.parse([], self.settings)


# A value, or a function that reads it from the settings.
_Setting: TypeAlias = _T | Callable[[Settings], _T]


def _value(setting: _Setting[_T], settings: Settings) -> _T:
    return setting(settings) if callable(setting) else setting


def _single(
    name: str,
    description: str,
    parse: Callable[[str], Any],
    schema: Schema,
    default: Any = None,
    least: Any = None,
    most: Any = None,
    aliases: tuple[str, ...] = (),
) -> Param[Any]:
    """Return a parameter with one value, which is clamped into `least`..`most`.

    `parse` returns None for a text that counts as absent, and raises ValueError for one that is
    no value of the schema's type.
    """

    def read(values: Sequence[str], settings: Settings) -> Any:
        try:
            value = parse(values[0]) if values and values[0] else None
        except ValueError as error:
            kind = schema["type"]
            article = "an" if kind == "integer" else "a"
            raise InvalidInput(f"'{name}' must be {article} {kind}") from error
        value = _value(default, settings) if value is None else value
        highest = _value(most, settings)
        if value is not None and highest is not None:
            value = min(highest, value)
        return value if value is None or least is None else max(least, value)

    def described(settings: Settings) -> Schema:
        limits = {"default": default, "minimum": least, "maximum": most}
        values = {key: _value(limit, settings) for key, limit in limits.items()}
        return {**schema, **{key: value for key, value in values.items() if value is not None}}

    return Param(name, read, described, description, aliases)


def parsed(
    name: str,
    description: str,
    parse: Callable[[str], _T],
    *,
    schema: Schema,
    aliases: tuple[str, ...] = (),
) -> Param[_T | None]:
    """Return a parameter that `parse` reads; its value is None where it is absent."""
    return _single(name, description, parse, schema, aliases=aliases)


def text(
    name: str,
    description: str,
    *,
    most_chars: int | None = None,
    aliases: tuple[str, ...] = (),
    schema: Schema | None = None,
) -> Param[str | None]:
    """Return a parameter for a text that the graph can store; `schema` adds to its schema."""
    limit = {} if most_chars is None else {"maxLength": most_chars}
    return parsed(
        name,
        description,
        lambda value: checked(value, name, most_chars),
        schema={"type": "string", **limit, **(schema or {})},
        aliases=aliases,
    )


def checked(value: str, name: str, most_chars: int | None) -> str:
    """Return `value` unchanged. Raises: InvalidInput where it is too long or no valid text."""
    if most_chars is not None and len(value) > most_chars:
        raise InvalidInput(f"'{name}' must not exceed {most_chars} characters")
    return check_text(value, f"'{name}'")


def texts(
    name: str,
    description: str,
    *,
    repeated: bool = True,
    commas: bool = False,
    required: bool = False,
    most_used: int = _MOST_VALUES,
    most_chars: int | None = None,
) -> Param[tuple[str, ...]]:
    """Return a parameter for at most 100 texts, without duplicates.

    The request gives `repeated` parameters, texts between `commas` in one, or both. `most_used`
    is the number that the document names where the route uses the first ones only.
    """

    def read(values: Sequence[str], _settings: Settings) -> tuple[str, ...]:
        used = values if repeated else values[:1]
        parts = [part for value in used for part in (value.split(",") if commas else [value])]
        unique = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if required and not unique:
            raise InvalidInput(f"'{name}' query parameter is required")
        if len(unique) > _MOST_VALUES:
            raise InvalidInput(f"'{name}' must not hold more than {_MOST_VALUES} values")
        return tuple(checked(value, name, most_chars) for value in unique)

    return Param(
        name,
        read,
        lambda _settings: {"type": "string"},
        f"{description}; separated by commas" if commas else description,
        required=required,
        most_values=most_used if repeated else None,
    )


def flag(
    name: str,
    description: str = "",
    *,
    default: _Setting[bool] = False,
    aliases: tuple[str, ...] = (),
) -> Param[bool]:
    """Return a parameter for AutoMem's words of true and false, in any case."""

    def parse(word: str) -> bool | None:
        return FLAGS.get(word.lower())

    return _single(name, description, parse, {"type": "boolean"}, default, aliases=aliases)


def without_default(param: Param[_T]) -> Param[_T]:
    """Return the parameter as the document shows it where its default depends on the request."""

    def described(settings: Settings) -> Schema:
        return {key: value for key, value in param.schema(settings).items() if key != "default"}

    return replace(param, schema=described)


_C = TypeVar("_C", bound=str)


def choice(
    name: str,
    description: str,
    *words: _C,
    default: _Setting[_C],
    aliases: tuple[str, ...] = (),
    refusal: str | None = None,
) -> Param[_C]:
    """Return a parameter for one of `words`, in any case; another is the default or refused."""
    schema = {"type": "string", "enum": list(words)}

    def parse(text: str) -> str | None:
        if text.lower() in words:
            return text.lower()
        if refusal is not None:
            raise InvalidInput(refusal)
        return None

    return _single(name, description, parse, schema, default, aliases=aliases)


def moment(name: str, description: str, *, complaint: str) -> Param[int | None]:
    """Return a parameter for an ISO 8601 time, in ms; its error text begins with `complaint`."""

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
    default: _Setting[int],
    least: int | None = None,
    most: _Setting[int] | None = None,
    aliases: tuple[str, ...] = (),
    refusal: str | None = None,
) -> Param[int]:
    """Return a parameter for a whole number; with a text `refusal` one below `least` is refused."""

    def parse(text: str) -> int:
        # A longer text is a number too, but int() refuses to read it from 4 300 digits on.
        if len(text) > 32:
            raise ValueError("too many digits")
        value = int(text)
        if refusal is not None and least is not None and value < least:
            raise InvalidInput(refusal)
        return value

    return _single(name, description, parse, {"type": "integer"}, default, least, most, aliases)


_N = TypeVar("_N", float, float | None)


def number(
    name: str,
    description: str,
    *,
    default: _Setting[_N],
    least: float | None = None,
    most: float | None = None,
) -> Param[_N]:
    """Return a parameter for a finite number."""

    def parse(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError("not finite")
        return value

    return _single(name, description, parse, {"type": "number"}, default, least, most)
