"""Bad input: every malformed body, number and header gets a reason, and never a 500.

Asked of the whole API in this process; tests/integration/test_stack_refusals.py asks a stack.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import TOKEN
from tests.support.stack.client import Answer, Client, refused
from tests.support.stack.whole_api import WholeApi
from tests.support.stores.graphs import cypher
from tests.support.waiting.conditions import limited

HUGE = 10**400


def body(**fields: Any) -> bytes:
    return json.dumps({"content": "c", **fields}).encode()


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"k": value}
    return value


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"content": "x"',
    "no json": b"content=x",
    "list": b"[]",
    "null": b"null",
    "string": b'"content"',
    "number": b"5",
    "not utf-8": b'{"content": "\xff\xfe"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "huge integer": b'{"content": "x", "importance": ' + b"9" * 5000 + b"}",
    "no content": b"{}",
    "raw control character": b'{"content": "a\nb"}',
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "content null": (body(content=None), "content"),
    "content blank": (body(content=" \n\t "), "content"),
    "content number": (body(content=5), "content"),
    "content list": (body(content=["x"]), "content"),
    "content object": (body(content={"a": 1}), "content"),
    "content too long": (body(content="x" * 2001), "2000"),
    "content of long emoji": (body(content="👩‍🚀" * 700), "2000"),
    "content with NUL": (body(content="a\0b"), "NUL"),
    "content with a lone surrogate": (b'{"content": "a\\ud800b"}', "surrogate"),
    "tags number": (body(tags=5), "tags"),
    "tags object": (body(tags={"a": 1}), "tags"),
    "tags of numbers": (body(tags=[1]), "tags"),
    "tags of nulls": (body(tags=[None]), "tags"),
    "tags of lists": (body(tags=[["a"]]), "tags"),
    "too many tags": (body(tags=[f"t{n}" for n in range(101)]), "tags"),
    "tag too long": (body(tags=["x" * 201]), "tags"),
    "tag with NUL": (body(tags=["a\0"]), "tags"),
    "tag with surrogate": (b'{"content": "c", "tags": ["\\udfff"]}', "tags"),
    "importance text": (body(importance="high"), "importance"),
    "importance boolean": (body(importance=True), "importance"),
    "importance list": (body(importance=[0.5]), "importance"),
    "importance object": (body(importance={}), "importance"),
    "importance negative": (body(importance=-0.01), "importance"),
    "importance above one": (body(importance=1.01), "importance"),
    "importance NaN": (body(importance=float("nan")), "importance"),
    "importance infinite": (body(importance=float("inf")), "importance"),
    "importance 1e999": (b'{"content": "c", "importance": 1e999}', "importance"),
    "importance of 400 digits": (body(importance=HUGE), "importance"),
    "importance 'nan'": (body(importance="nan"), "importance"),
    "confidence of 400 digits": (body(type="Insight", confidence=HUGE), "importance"),
    "confidence text": (body(type="Insight", confidence="x"), "importance"),
    "metadata list": (body(metadata=[]), "metadata"),
    "metadata text": (body(metadata="{}"), "metadata"),
    "metadata NaN": (body(metadata={"a": float("nan")}), "metadata"),
    "metadata infinite": (body(metadata={"a": [float("-inf")]}), "metadata"),
    "metadata too deep": (body(metadata=nested(21)), "metadata"),
    "metadata far too deep": (body(metadata=nested(400)), "metadata"),
    "metadata too big": (body(metadata={"a": "x" * 65_536}), "metadata"),
    "metadata with surrogate": (b'{"content": "c", "metadata": {"a": "\\ud800"}}', "metadata"),
    "metadata key with surrogate": (b'{"content": "c", "metadata": {"\\ud800": 1}}', "metadata"),
    "timestamp number": (body(timestamp=1700000000), "ISO"),
    "timestamp empty": (body(timestamp=""), "ISO"),
    "timestamp text": (body(timestamp="last week"), "ISO"),
    "timestamp impossible": (body(timestamp="2024-02-30"), "ISO"),
    "timestamp year 0": (body(timestamp="0000-01-01"), "ISO"),
    "timestamp year 9999": (body(timestamp="9999-12-31T23:59:59-12:00"), "ISO"),
    "timestamp before year 1": (body(timestamp="0001-01-01T00:00:00+14:00"), "ISO"),
    "timestamp list": (body(timestamp=[]), "ISO"),
    "updated_at wrong": (body(updated_at="x"), "updated_at"),
    "last_accessed wrong": (body(last_accessed={}), "last_accessed"),
    "t_valid wrong": (body(t_valid=True), "t_valid"),
    "t_invalid wrong": (body(t_invalid="31.12.2024"), "t_invalid"),
    "embedding object": (body(embedding={"0": 1}), "Embedding"),
    "embedding number": (body(embedding=1), "Embedding"),
    "embedding short": (body(embedding=[0.1, 0.2]), "384"),
    "embedding empty": (body(embedding=[]), "384"),
    "embedding long": (body(embedding=[0.1] * 385), "384"),
    "embedding text": (body(embedding="a,b"), "numeric"),
    "embedding of lists": (body(embedding=[[0.1]] * 384), "numeric"),
    "embedding of booleans": (body(embedding=[True] * 384), "numeric"),
    "embedding NaN": (body(embedding=[float("nan")] * 384), "numeric"),
    "embedding zeros": (body(embedding=[0] * 384), "zero"),
    "embedding below float32": (body(embedding=[1e-300] * 384), "mbedding"),
    "embedding past float32": (body(embedding=[1e308] * 384), "mbedding"),
    "embedding of 400 digits": (body(embedding=[HUGE] * 384), "mbedding"),
    "layer unknown": (body(layer="outer"), "layer"),
    "layer list": (body(layer=["episodic"]), "layer"),
    "layer object": (body(layer={}), "layer"),
    "layer number": (body(layer=1), "layer"),
    "type number": (body(type=1), "type"),
    "type list": (body(type=[]), "type"),
    "type too long": (body(type="x" * 65), "type"),
    "type with NUL": (body(type="\0x"), "type"),
    "project object": (body(project={}), "project"),
    "project too long": (body(project="x" * 129), "project"),
    "session_id number": (body(session_id=7), "session_id"),
    "session_id too long": (body(session_id="x" * 201), "session_id"),
}


@pytest.fixture(autouse=True)
def no_task_left() -> None:
    """Not looked for: the API beside the tests begins and ends tasks all the time."""


@pytest.fixture(scope="module")
def tenant(tenants: Iterator[str]) -> str:
    """One for all tests: what is refused leaves nothing, and the others know their ids."""
    return next(tenants)


@pytest.fixture
async def api(whole: WholeApi, tenant: str) -> AsyncIterator[Client]:
    async with whole.client(TOKEN, tenant) as client:
        yield client


async def post(api: Client, raw: bytes, **headers: str) -> Answer:
    given = {"Content-Type": "application/json"} | headers
    return await api.ask("POST", "/memory", data=raw, headers=given)


@pytest.mark.parametrize("case", BROKEN)
async def test_a_body_that_is_no_object_is_refused(api: Client, case: str) -> None:
    refused(await post(api, BROKEN[case]), 400)


@pytest.mark.parametrize("case", REFUSED)
async def test_a_wrong_value_is_refused_by_name(api: Client, case: str) -> None:
    raw, named = REFUSED[case]
    reason = refused(await post(api, raw), 400)
    assert named in reason
    assert len(reason) < 500


@pytest.mark.parametrize("case", REFUSED)
async def test_a_wrong_change_is_refused_and_changes_nothing(api: Client, case: str) -> None:
    memory_id = await api.stored("unchanged", type="Habit")
    before = await api.memory(memory_id)
    raw, _ = REFUSED[case]
    answer = await api.ask("PATCH", f"/memory/{memory_id}", data=raw)
    refused(answer, 400)
    after = await api.memory(memory_id)
    # What workers add meanwhile is not the change's doing.
    for name in ("content", "importance", "confidence", "type", "project", "layer", "timestamp"):
        assert after[name] == before[name]


async def test_a_refused_write_stores_nothing(api: Client, whole: WholeApi, tenant: str) -> None:
    async def memories() -> int:
        rows = await cypher(whole.graph, "MATCH (m:Memory) RETURN count(m)", tenant)
        return int(rows[0][0])

    await api.stored("the first one")
    before = await memories()
    for raw, _ in REFUSED.values():
        assert (await post(api, raw)).status == 400
    await api.stored("the only other one")
    assert await memories() == before + 1


async def test_unknown_keys_and_odd_content_types_are_accepted(api: Client) -> None:
    raw = body(unknown=1, another={"x": None})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense", ""):
        assert (await post(api, raw, **{"Content-Type": kind})).status == 201


async def test_a_body_over_the_limit_is_refused_unread(api: Client) -> None:
    for raw in (body(content="x" * (1024 * 1024)), b" " * (3 * 1024 * 1024)):
        refused(await api.ask("POST", "/memory", data=io.BytesIO(raw)), 413)

    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    refused(await api.ask("POST", "/memory", data=chunks()), 413)


async def test_a_body_just_below_the_limit_is_read(api: Client) -> None:
    padding = b" " * (1024 * 1024 - 200)
    answer = await api.ask("POST", "/memory", data=io.BytesIO(padding + body()))
    assert answer.status == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    api: Client, encoding: str
) -> None:
    answer = await post(api, b"this was never compressed", **{"Content-Encoding": encoding})
    assert 400 <= answer.status < 500, answer


async def test_a_compressed_body_counts_as_long_as_it_is_unpacked(api: Client) -> None:
    bomb = zlib.compress(b" " * (64 * 1024 * 1024))
    answer = await post(api, bomb, **{"Content-Encoding": "deflate"})
    assert answer.status in (400, 413), answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no/such/route", 404),
        ("GET", "/memory", 405),
        ("PUT", "/recall", 405),
        ("POST", "/recall", 405),
        ("DELETE", "/health", 405),
        ("GET", "//", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%00", 404),
        ("PROPFIND", "/memory", 405),
    ],
)
async def test_an_unknown_route_or_method_has_the_shape_of_all_errors(
    api: Client, method: str, path: str, status: int
) -> None:
    refused(await api.ask(method, path), status)


@pytest.mark.parametrize("given", ["x" * 65, "ключ", "a\tb", "", " "])
async def test_an_odd_request_id_is_replaced(api: Client, given: str) -> None:
    answer = await api.ask("GET", "/recall", headers={"X-Request-Id": given})
    assert answer.status == 200
    assert answer.headers["X-Request-Id"] not in ("", given)


async def test_a_request_id_comes_back(api: Client) -> None:
    answer = await api.ask("GET", "/recall?limit=x", headers={"X-Request-Id": "abc-123"})
    assert answer.headers["X-Request-Id"] == "abc-123"
    refused(answer, 400)


RAW: dict[str, bytes] = {
    "no http": b"\x00\x01\x02\x03\r\n\r\n",
    "no host": b"GET /recall HTTP/1.1\r\n\r\n",
    "bad length": b"POST /memory HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "negative length": b"POST /memory HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"POST /memory HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "length and chunks": b"POST /memory HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /memory HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "bad header": b"GET /recall HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
    "long header": b"GET /recall HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
    "long path": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in header": b"GET /recall HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "bytes in tenant": b"GET /recall HTTP/1.1\r\nHost: x\r\nX-Tenant-Id: \xff\r\nX-API-Key: "
    + TOKEN.encode()
    + b"\r\n\r\n",
    "bytes in path": b"GET /memory/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in origin": b"GET /recall HTTP/1.1\r\nHost: x\r\nOrigin: \xff\r\n\r\n",
    "bytes in request id": b"GET /recall HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\r\n\r\n",
}


@pytest.mark.parametrize("case", RAW)
async def test_a_malformed_request_is_answered_with_a_client_error(
    whole: WholeApi, case: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", whole.port)
    writer.write(RAW[case])
    async with limited():
        status = await reader.readline()
    writer.close()
    await whole.left()
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", status), status


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**320)
    | st.floats()
    | st.text(max_size=20)
    | st.text(st.characters(categories=("Cs", "Cc", "Lo")), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = (
    *("tags", "importance", "metadata", "type", "confidence", "embedding", "session_id"),
    *("project", "layer", "timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid"),
)
BODIES = st.fixed_dictionaries(
    {"content": st.text(min_size=1, max_size=50) | JSON}, optional=dict.fromkeys(KEYS, JSON)
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(given_body=BODIES)
async def test_any_json_is_stored_as_it_came_or_refused(
    api: Client, given_body: dict[str, Any]
) -> None:
    answer = await post(api, json.dumps(given_body).encode())
    if answer.status != 201:
        refused(answer, 400)
        return
    memory = await api.memory(answer.body["memory_id"])
    assert memory["content"] == given_body["content"].strip(" \t\r\n")
    changed = await api.ask("PATCH", f"/memory/{memory['id']}", data=json.dumps(given_body))
    assert changed.status == 200


@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(
        [
            "limit",
            "query",
            "tags",
            "start",
            "min_score",
            "time_query",
            "sort",
            "priority_ids",
            "context_tags",
            "queries",
            "layer",
        ]
    ),
    value=st.text(max_size=30),
)
async def test_any_parameter_is_understood_or_refused(api: Client, name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    answer = await api.recall("x", **{name: value}) if name != "query" else await api.recall(value)
    if answer.status != 200:
        refused(answer, 400)
