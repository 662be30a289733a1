"""JSON of large bodies: parse and serialize it without blocking the event loop.

json.loads and json.dumps hold the interpreter's lock for a whole text, in a thread too. Here a
thread takes the elements of an object's arrays one at a time, so that the event loop runs in
between while a thread parses a batch of several megabytes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from shared.errors import InvalidInput

# Work on a body of this size holds the event loop for a millisecond or two.
_LARGE_BYTES = 256 * 1024
_SPACE = re.compile(r"[ \t\n\r]*")
_value_at = json.JSONDecoder().raw_decode
_T = TypeVar("_T")


async def in_thread_if_large(size: int, work: Callable[[], _T]) -> _T:
    """Return what `work` returns; run it in a thread if a body of that `size` would block."""
    return await asyncio.to_thread(work) if size > _LARGE_BYTES else work()


def parse_json(raw: bytes) -> object:
    """Return the value of a body. Raises: InvalidInput for malformed JSON, or too deep a one."""
    try:
        if len(raw) <= _LARGE_BYTES:
            return json.loads(raw)
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        try:
            return _object_by_elements(text)
        except (ValueError, IndexError):
            return json.loads(text)  # it raises the error, or parses another value than an object
    except (ValueError, RecursionError) as error:
        first_line = str(error).partition("\n")[0][:200]
        raise InvalidInput(f"The body is not valid JSON: {first_line}") from error


def _object_by_elements(text: str) -> dict[str, Any]:
    """Parse an object. Raises: ValueError or IndexError for anything else."""
    members: dict[str, Any] = {}
    at = _after(text, 0, "{")
    while text[at] != "}":
        key, at = _value_at(text, at)
        if not isinstance(key, str):
            raise ValueError("a key is no text")  # noqa: TRY004
        at = _after(text, at, ":")
        members[key], at = _array(text, at) if text[at] == "[" else _value_at(text, at)
        at = _next(text, at, "}")
    if _space(text, at + 1) != len(text):
        raise ValueError("more than one value")
    return members


def _array(text: str, at: int) -> tuple[list[Any], int]:
    elements: list[Any] = []
    at = _space(text, at + 1)
    while text[at] != "]":
        element, at = _value_at(text, at)
        elements.append(element)
        at = _next(text, at, "]")
    return elements, at + 1


def _next(text: str, at: int, end: str) -> int:
    """Return where the next element or `end` begins. Raises: ValueError for `,` before `end`."""
    at = _space(text, at)
    if text[at] == end:
        return at
    at = _after(text, at, ",")
    if text[at] == end:
        raise ValueError("a comma before the end")
    return at


def _after(text: str, at: int, mark: str) -> int:
    at = _space(text, at)
    if text[at] != mark:
        raise ValueError(f"no {mark}")
    return _space(text, at + 1)


def _space(text: str, at: int) -> int:
    spaces = _SPACE.match(text, at)
    return at if spaces is None else spaces.end()


def canonical(value: object) -> Iterator[str]:
    """Yield the pieces of json.dumps(value, sort_keys=True)."""
    if not isinstance(value, dict):
        yield json.dumps(value, sort_keys=True)
        return
    yield "{"
    for at, (key, member) in enumerate(sorted(value.items())):
        yield f"{', ' if at else ''}{json.dumps(key)}: "
        if not isinstance(member, list):
            yield json.dumps(member, sort_keys=True)
            continue
        yield "["
        for index, element in enumerate(member):
            yield (", " if index else "") + json.dumps(element, sort_keys=True)
        yield "]"
    yield "}"
