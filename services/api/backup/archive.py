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

from services.api.http.large_json import BrokenJson, JsonReader
from shared.compact_json import compact_json
from shared.errors import InvalidInput

_CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class Member:
    """A JSON object that is being written: plain keys, and arrays that grow row by row."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=5, mtime=0)
        self._gzip.write(b"{")
        self._keys = 0
        self._rows = 0

    def put(self, values: Mapping[str, object]) -> None:
        for key, value in values.items():
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
    except BrokenJson as error:
        raise InvalidInput(f"the backup is damaged: {error}") from error
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
        for found, value in JsonReader(text).members():
            for row in value if isinstance(value, Iterator) else ():
                if found == key and isinstance(row, dict):
                    yield row
