"""The backup's file: rows written page by page come back one by one, and damage is reported."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.backup.archive import Member, packed, rows_of
from services.api.http import large_json
from services.api.http.large_json import JsonReader
from shared.errors import InvalidInput

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _member(name: str, **arrays: list[Any]) -> Member:
    member = Member(name)
    member.put({"timestamp": "2026-01-01"})
    for key, rows in arrays.items():
        member.begin(key)
        for at in range(0, len(rows), 3):
            member.add(rows[at : at + 3])
        assert member.end() == len(rows)
    member.put({"stats": {"node_count": 1}})
    member.finish()
    return member


def test_the_file_is_a_tar_of_gzipped_json(tmp_path: Path) -> None:
    members = [_member("falkordb/f.json.gz", nodes=[{"a": 1}] * 7), _member("qdrant/q.json.gz")]
    raw = b"".join(packed(members, mtime=1_700_000_000))
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        assert opened.getnames() == ["falkordb/f.json.gz", "qdrant/q.json.gz"]
        inner = opened.extractfile("falkordb/f.json.gz")
        assert inner is not None
        body = json.loads(gzip.decompress(inner.read()))
    assert body == {
        "timestamp": "2026-01-01",
        "nodes": [{"a": 1}] * 7,
        "stats": {"node_count": 1},
    }
    file = tmp_path / "backup.tar.gz"
    file.write_bytes(raw)
    assert list(rows_of(file, "falkordb", "nodes")) == [{"a": 1}] * 7
    for member in members:
        member.close()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(), _VALUES, max_size=4), max_size=6),
    chunk=st.integers(min_value=1, max_value=40),
    indent=st.sampled_from([None, 2]),
)
def test_rows_come_back_whatever_the_chunks_cut(
    rows: list[Any], chunk: int, indent: int | None
) -> None:
    text = json.dumps({"a": 1.5, "nodes": rows, "b": [1, {"x": []}], "links": [{}]}, indent=indent)

    class _Chunked(io.StringIO):
        def read(self, _size: int | None = -1, /) -> str:
            return super().read(chunk)

    found = {
        key: list(value) if isinstance(value, Iterator) else value
        for key, value in JsonReader(_Chunked(text)).members()
    }
    assert found == {"a": 1.5, "nodes": rows, "b": [1, {"x": []}], "links": [{}]}


def test_a_bare_member_can_be_read_too(tmp_path: Path) -> None:
    body = json.dumps({"nodes": [{"id": 1}], "relationships": [{"type": "X"}]})
    plain, zipped = tmp_path / "falkordb.json", tmp_path / "falkordb.json.gz"
    plain.write_text(body)
    zipped.write_bytes(gzip.compress(body.encode()))
    for file in (plain, zipped):
        assert list(rows_of(file, "falkordb", "nodes")) == [{"id": 1}]
        assert list(rows_of(file, "falkordb", "relationships")) == [{"type": "X"}]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"not json",
        b'{"nodes": [{"a": 1}',
        b'{"nodes": [{"a": 1} {"b": 2}]}',
        b'{"nodes": [{"a": 1}]',
        gzip.compress(b'{"nodes": [{"a": 1}]}', mtime=0)[:-9],
        gzip.compress(b'{"nodes"', mtime=0)[:12],
        b'{"nodes": ["\xff"]}',
    ],
)
def test_damage_is_reported(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "backup"
    file.write_bytes(raw)
    with pytest.raises(InvalidInput, match="damaged"):
        list(rows_of(file, "falkordb", "nodes"))


def test_a_backup_without_its_graph_is_refused(tmp_path: Path) -> None:
    member = _member("qdrant/q.json.gz", points=[])
    file = tmp_path / "backup.tar.gz"
    file.write_bytes(b"".join(packed([member], mtime=0)))
    member.close()
    with pytest.raises(InvalidInput, match="no member under falkordb/"):
        list(rows_of(file, "falkordb", "nodes"))


def test_a_long_row_is_parsed_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of many chunks was parsed again for every chunk that was read."""
    parsed_chars = 0

    class _Counting(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
            nonlocal parsed_chars
            parsed_chars += len(s) - idx
            return super().raw_decode(s, idx)

    monkeypatch.setattr(json, "JSONDecoder", _Counting)
    monkeypatch.setattr(large_json, "_CHUNK_CHARS", 1_000)
    text = json.dumps({"nodes": [{"text": "x" * 1_000_000}, {"id": 2}]})
    rows = [row for _, value in JsonReader(io.StringIO(text)).members() for row in value]
    assert [len(row) for row in rows] == [1, 1]
    assert parsed_chars < 5 * len(text)


def test_a_row_without_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_json, "_MAX_VALUE_CHARS", 10_000)
    monkeypatch.setattr(large_json, "_CHUNK_CHARS", 1_000)
    file = tmp_path / "backup"
    file.write_text('{"nodes": ["' + "x" * 50_000 + '"]}')
    with pytest.raises(InvalidInput, match="too long"):
        list(rows_of(file, "falkordb", "nodes"))


def test_a_row_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text('{"nodes": [' + "[" * 20_000 + "]" * 20_000 + "]}")
    with pytest.raises(InvalidInput, match="too deep"):
        list(rows_of(file, "falkordb", "nodes"))
