"""Large bodies: the same values, errors and hashes, while the event loop keeps its turns."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from services.api.http.body import JsonBody
from services.api.http.large_json import _LARGE_BYTES, canonical, in_thread_if_large, parse_json
from services.api.http.middleware import TENANT
from services.api.memory.idempotency import Write, keyed
from shared.errors import InvalidInput

# Space that JSON ignores: it makes any text a large one.
PADDING = " \n" * _LARGE_BYTES
REQUEST = make_mocked_request("POST", "/memory/batch")
REQUEST[TENANT] = "default"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        ' { "a" : [ ] , "b" : [ 1 , {"c": [2, "x,]}"]} , "ü\\u00e9" ] , "a" : null } ',
        '{"numbers": [1, 2.50, -0, 1e5, NaN, true], "text": "\\ud83d\\ude00"}',
        "[1, 2]",
        '"a text"',
        "7",
    ],
)
def test_a_large_body_is_parsed_as_a_small_one(text: str) -> None:
    parsed = parse_json((text + PADDING).encode())
    assert repr(parsed) == repr(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": [1, 2}',
        '{"a": [1,]}',
        '{"a": 1,}',
        '{"a" 1}',
        '{1: "a"}',
        '{"a": 1} {}',
        '{"a": [1 2]}',
        '{"a": [',
        '{"a": "\x01"}',
    ],
)
def test_a_large_body_is_refused_as_a_small_one(text: str) -> None:
    padded = text + PADDING
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(padded)
    with pytest.raises(InvalidInput) as refused:
        parse_json(padded.encode())
    assert str(refused.value) == f"The body is not valid JSON: {expected.value}"


@pytest.mark.parametrize("raw", [b"\xff" * 2 * _LARGE_BYTES, b"[" * 2 * _LARGE_BYTES])
def test_what_is_no_text_or_too_deep_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="The body is not valid JSON"):
        parse_json(raw)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"b": [1, {"z": "ü", "a": None}], "a": [], "ä": {"y": 1, "x": [True]}, "": "\ud800"},
        [1, {"b": 1, "a": 2}],
        "text",
        None,
    ],
)
def test_the_canonical_form_is_that_of_the_first_version(value: Any) -> None:
    assert "".join(canonical(value)) == json.dumps(value, sort_keys=True)


async def test_a_key_s_hash_is_that_of_the_first_version() -> None:
    value = {"memories": [{"content": "x", "a": 1}]}
    head = b"POST /memory/batch\0"
    expected = hashlib.blake2b(head + json.dumps(value, sort_keys=True).encode(), digest_size=16)
    for raw in (json.dumps(value), json.dumps(value) + PADDING):
        write = await keyed(REQUEST, "k", JsonBody(raw.encode(), value))
        assert write.body_hash == expected.hexdigest()


async def _longest_pause(work: Awaitable[object]) -> float:
    """The longest time without a turn of the event loop, as a part of the time that `work` took."""
    task = asyncio.ensure_future(work)
    began = last = time.perf_counter()
    longest = 0.0
    while not task.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await task
    return longest / (last - began)


async def test_a_batch_of_megabytes_leaves_the_event_loop_its_turns() -> None:
    memory = {"content": "word " * 3000, "metadata": {"numbers": list(range(500))}}
    raw = json.dumps({"memories": [memory] * 480}).encode()
    assert 7_000_000 < len(raw) < 9_000_000

    async def parsed() -> Write:
        value = await in_thread_if_large(len(raw), lambda: parse_json(raw))
        return await keyed(REQUEST, "k", JsonBody(raw, value))

    assert await _longest_pause(parsed()) < 0.5
