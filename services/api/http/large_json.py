"""JSON of large bodies and files: parse and serialize it without blocking the event loop.

json.loads and json.dumps hold the interpreter's lock for a whole text, in a thread too. Here a
thread takes the elements of an object's arrays one at a time, so that the event loop runs in
between while a thread parses a batch of several megabytes.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from shared.errors import InvalidInput

# Work on a body of this size holds the event loop for a millisecond or two.
_LARGE_BYTES = 256 * 1024
_CHUNK_CHARS = 256 * 1024
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_AFTER_VALUE = frozenset(" \t\r\n,:]}")
# A single row of a backup (a memory with all its metadata) stays far below this.
_MAX_VALUE_CHARS = 16 * 1024 * 1024
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
        except BrokenJson:
            return json.loads(text)  # it raises the error, or parses another value than an object
    except (ValueError, RecursionError) as error:
        first_line = str(error).partition("\n")[0][:200]
        raise InvalidInput(f"The body is not valid JSON: {first_line}") from error


def _object_by_elements(text: str) -> dict[str, Any]:
    """Parse an object. Raises: BrokenJson for anything else."""
    reader = JsonReader(io.StringIO(text))
    members: dict[str, Any] = {}
    for key, value in reader.members():
        if not isinstance(key, str):
            raise BrokenJson("a key is no text")
        members[key] = list(value) if isinstance(value, Iterator) else value
    if not reader.is_at_end():
        raise BrokenJson("more than one value")
    return members


class BrokenJson(ValueError):
    """The text is no JSON object."""


class JsonReader:
    """Reads a JSON object from a text, of its arrays one element at a time.

    Accepts all that Python's `json` writes, NaN and lone surrogates included: other parsers would
    reject the whole file or change the text; here only the row that has one is refused later.
    """

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._at = 0

    def members(self) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values; use an array's iterator before the next. Raises: BrokenJson."""
        self._expect("{")
        for _ in self._items("}"):
            key = self._value()
            self._expect(":")
            yield key, self._elements() if self._skip("[") else self._value()

    def is_at_end(self) -> bool:
        return not self._next()

    def _elements(self) -> Iterator[Any]:
        return (self._value() for _ in self._items("]"))

    def _items(self, closing: str) -> Iterator[None]:
        """Yield before each item of a comma-separated list, and consume its `closing`."""
        if self._skip(closing):
            return
        yield
        while self._skip(","):
            yield
        self._expect(closing)

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                end = len(self._buffer)
            except RecursionError as error:
                raise BrokenJson("its JSON is nested too deep") from error
            # `1` may be the beginning of `1.5e3`: a number is whole when something follows it.
            if end < len(self._buffer) and self._buffer[end] in _AFTER_VALUE:
                self._at = end
                return value
            if not self._more():
                raise BrokenJson("its JSON ends early")

    def _expect(self, character: str) -> None:
        if not self._skip(character):
            raise BrokenJson(f"its JSON lacks a {character!r}")

    def _skip(self, character: str) -> bool:
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _next(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end."""
        while not (found := _NO_SPACE.search(self._buffer, self._at)):
            self._at = len(self._buffer)
            if not self._more():
                return ""
        self._at = found.start()
        return found[0]

    def _more(self) -> bool:
        """Read on; False at the end of the text.

        What is left of the buffer is parsed again after this, so it doubles: a long row then
        takes linear time.
        """
        unparsed = len(self._buffer) - self._at
        if unparsed > _MAX_VALUE_CHARS:
            raise BrokenJson("a row is too long")
        chunk = self._text.read(max(_CHUNK_CHARS, unparsed))
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)


def canonical(value: object) -> Iterator[str]:
    """Yield the pieces of json.dumps(value, sort_keys=True)."""
    if not isinstance(value, dict):
        yield json.dumps(value, sort_keys=True)
        return
    yield "{"
    for at, (key, member) in enumerate(sorted(value.items())):
        yield f"{', ' if at else ''}{json.dumps(key)}: "
        if isinstance(member, list):
            yield "["
            for index, element in enumerate(member):
                yield (", " if index else "") + json.dumps(element, sort_keys=True)
            yield "]"
        else:
            yield json.dumps(member, sort_keys=True)
    yield "}"
