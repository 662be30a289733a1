"""The backup's file format: a tar.gz of gzipped JSON files, each an object of long arrays.

A backup may be larger than memory, so it is written and read row by row. A tar header names
its member's size, so members are spooled to disk first. Everything here blocks: call it in a
thread.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from shared.compact_json import compact_json
from shared.errors import InvalidInput

_CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_AFTER_VALUE = frozenset(" \t\r\n,:]}")
# A single row (a memory with all its metadata) stays far below this.
_MAX_ROW_CHARS = 16 * 1024 * 1024


class Member:
    """A JSON object that is being written: plain keys, and arrays that grow row by row."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=5, mtime=0)
        self._gzip.write(b"{")
        self._keys = 0
        self._rows = 0

    def put(self, key: str, value: object) -> None:
        self._gzip.write(f"{self._next()}{json.dumps(key)}:{compact_json(value)}".encode())

    def begin(self, key: str) -> None:
        """Begin the array `key`: `add` its rows, then `end` it."""
        self._rows = 0
        self._gzip.write(f"{self._next()}{json.dumps(key)}:[".encode())

    def add(self, rows: Iterable[object]) -> None:
        for row in rows:
            self._gzip.write(("," if self._rows else "").encode() + compact_json(row).encode())
            self._rows += 1

    def end(self) -> int:
        """End the array; return how many rows it has."""
        self._gzip.write(b"]")
        return self._rows

    def finish(self) -> None:
        self._gzip.write(b"}\n")
        self._gzip.close()

    def close(self) -> None:
        """Free the disk space, whether the member is finished or not."""
        self._gzip.close()
        self._file.close()

    @property
    def size(self) -> int:
        return self._file.seek(0, io.SEEK_END)

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    def _next(self) -> str:
        self._keys += 1
        return "," if self._keys > 1 else ""


def packed(members: Iterable[Member], *, mtime: int) -> Iterator[bytes]:
    """Yield the tar.gz of finished members, piece by piece."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)  # its members are compressed already
    for member in members:
        header = tarfile.TarInfo(member.name)
        header.size, header.mtime, header.mode = member.size, mtime, 0o600
        yield packer.compress(header.tobuf())
        for chunk in member.chunks():
            yield packer.compress(chunk)
        yield packer.compress(b"\0" * (-header.size % tarfile.BLOCKSIZE))
    yield packer.compress(b"\0" * tarfile.BLOCKSIZE * 2)
    yield packer.flush()


def rows_of(file: Path, folder: str, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of the array `key` in the first member under `folder`.

    `file` may also be the member itself, gzipped or plain JSON.

    Raises: InvalidInput if the file is no backup, or has no such member.
    """
    try:
        if tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                yield from _rows(_opened(archive, folder), key)
        else:
            with file.open("rb") as plain:
                yield from _rows(plain, key)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise InvalidInput(f"the backup is damaged: {type(error).__name__}") from error


def _opened(archive: tarfile.TarFile, folder: str) -> IO[bytes]:
    for member in archive:
        if member.isfile() and member.name.startswith(f"{folder}/"):
            opened = archive.extractfile(member)
            if opened is not None:
                return opened
    raise InvalidInput(f"the backup has no member under {folder}/")


def _rows(raw: IO[bytes], key: str) -> Iterator[Mapping[str, Any]]:
    head = raw.read(2)
    raw.seek(0)
    plain: Any = gzip.GzipFile(fileobj=raw) if head == b"\x1f\x8b" else raw
    with io.TextIOWrapper(plain, encoding="utf-8") as text:
        for found, row in _Reader(text).rows():
            if found == key and isinstance(row, dict):
                yield row


class _Reader:
    """Yields the elements of the arrays in a JSON object, one in memory at a time.

    Accepts all that Python's `json` writes, NaN and lone surrogates included: other parsers would
    reject the whole file or change the text; here only the row that has one is refused later.
    """

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._at = 0

    def rows(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        for _ in self._items("}"):
            key = str(self._value())
            self._expect(":")
            if not self._skip("["):
                self._value()
                continue
            for _ in self._items("]"):
                yield key, self._value()

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
            # `1` may be the beginning of `1.5e3`: a number is whole when something follows it.
            if end < len(self._buffer) and self._buffer[end] in _AFTER_VALUE:
                self._at = end
                return value
            if not self._more():
                raise InvalidInput("the backup is damaged: its JSON ends early")

    def _expect(self, character: str) -> None:
        if not self._skip(character):
            raise InvalidInput(f"the backup is damaged: its JSON lacks a {character!r}")

    def _skip(self, character: str) -> bool:
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _next(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on; False at the end of the text.

        What is left of the buffer is parsed again after this, so it doubles: a long row then
        takes linear time.
        """
        unparsed = len(self._buffer) - self._at
        if unparsed > _MAX_ROW_CHARS:
            raise InvalidInput("the backup is damaged: a row is too long")
        chunk = self._text.read(max(_CHUNK_BYTES, unparsed))
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)
