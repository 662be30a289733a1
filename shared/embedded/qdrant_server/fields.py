"""Strict reading of JSON: a value has the expected type or the request is refused.

Readers take the path of the value (`where`) only to name it in the refusal. A
JSON null counts as absent, as Qdrant's clients send it for "not set".
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from math import isfinite, isnan
from typing import TypeVar, cast

from pydantic_core import from_json

from .errors import invalid, malformed, wrong_input

JsonObject = dict[str, object]
T = TypeVar("T")
D = TypeVar("D")

_F32_MAX = 3.4028235e38
_MAX_DEPTH = 64


def parse(body: bytes) -> object:
    """Return the value of a JSON text; NaN, Infinity and excessive depth are refused."""
    try:
        return from_json(body, allow_inf_nan=False) if body else {}
    except ValueError as error:
        raise malformed(str(error)) from error


def fields(value: object, where: str, known: AbstractSet[str]) -> JsonObject:
    """Return the object's set members; a member outside `known` is refused."""
    if not isinstance(value, dict):
        raise malformed(f"{where}: expected an object")
    unknown = value.keys() - known
    if unknown:
        names = ", ".join(f"`{name}`" for name in sorted(known))
        raise malformed(f"{where}: unknown field `{min(unknown)}`, expected one of {names}")
    return {name: member for name, member in value.items() if member is not None}


def objects(value: object, where: str) -> JsonObject:
    """Return an object whose members' names are the caller's, such as a map of vectors."""
    if not isinstance(value, dict):
        raise malformed(f"{where}: expected an object")
    return value


def payload(value: object, where: str) -> JsonObject:
    members = objects(value, where)
    shallow(members, where)
    return members


def shallow(value: object, where: str) -> None:
    """Refuse what nests so deeply that the engine could not read it back.

    It writes any depth into its write-ahead log, but reading stops at 128 levels: the
    collection would not open again after a kill.
    """
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise wrong_input(f"{where} nests deeper than {_MAX_DEPTH} levels")


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def items(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise malformed(f"{where}: expected a list")
    return value


def one_or_many(value: object, where: str) -> list[object]:
    return value if isinstance(value, list) else [objects(value, where)]


def required(body: JsonObject, name: str, where: str) -> object:
    if name not in body:
        raise malformed(f"{where}: missing field `{name}`")
    return body[name]


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise malformed(f"{where}: expected a string")
    return value


def texts(value: object, where: str) -> list[str]:
    return [text(item, where) for item in items(value, where)]


def boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise malformed(f"{where}: expected a boolean")
    return value


def whole(value: object, where: str, minimum: int = 0) -> int:
    """Return an integer of at most 64 bits, `minimum` or larger."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"{where}: expected an unsigned integer")
    if value < minimum:
        raise invalid(f"{where}: value {value} invalid, must be {minimum} or larger")
    if value >= 2**64:
        raise malformed(f"{where}: integer `{value}` is out of range")
    return value


def number(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise malformed(f"{where}: expected a finite number")
    return value


def numbers(value: object, where: str) -> list[float]:
    """Return a list whose numbers are all finite as 32-bit floats."""
    values = cast("list[float]", items(value, where))
    try:
        # One pass in C per check; a NaN in the list makes the sum NaN.
        total = sum(values)
        bounded = not values or (min(values) >= -_F32_MAX and max(values) <= _F32_MAX)
    except TypeError as error:
        raise malformed(f"{where}: expected a list of numbers") from error
    if isnan(total) or not bounded:
        raise wrong_input(f"{where} must hold finite numbers of 32 bits")
    return values


def optional(body: JsonObject, name: str, read: Callable[[object, str], T], default: D) -> T | D:
    """Return `read(body[name])`, or the default where the field is not set."""
    return read(body[name], name) if name in body else default


def chosen(value: object, where: str, choices: dict[str, T]) -> T:
    """Return what the string stands for among `choices`."""
    found = choices.get(value) if isinstance(value, str) else None
    if found is None:
        expected = ", ".join(f"`{name}`" for name in choices)
        raise malformed(f"{where}: unknown variant `{value}`, expected one of {expected}")
    return found
