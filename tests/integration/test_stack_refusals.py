"""Bad input from end to end; tests/integration/test_refusals.py has every case."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, Stack, refused
from tests.support.waiting.conditions import limited


@pytest.mark.parametrize(
    "raw",
    [
        b'{"content": "x"',
        b'{"content": "\xff\xfe"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"content": " "}',
        b'{"content": "c", "importance": 1e999}',
        b'{"content": "c", "metadata": {"a": "\\ud800"}}',
    ],
)
async def test_a_wrong_body_is_refused(api: Client, raw: bytes) -> None:
    refused(await api.ask("POST", "/memory", data=raw), 400)


async def test_a_refused_write_stores_and_changes_nothing(
    api: Client, stack: Stack, tenant: str
) -> None:
    memory_id = await api.stored(f"{CANARY} unchanged", importance=0.5)
    wrong = b'{"content": "changed", "importance": 2}'
    for method, path in (("POST", "/memory"), ("PATCH", f"/memory/{memory_id}")):
        refused(await api.ask(method, path, data=wrong), 400)
    rows = await stack.stores(tenant).rows("MATCH (m:Memory) RETURN m.content")
    assert rows == [[f"{CANARY} unchanged"]]


async def test_a_body_over_the_limit_is_refused(api: Client) -> None:
    refused(await api.ask("POST", "/memory", data=io.BytesIO(b" " * (3 * 1024 * 1024))), 413)


async def test_an_unknown_route_is_refused(api: Client) -> None:
    refused(await api.ask("GET", "/no/such/route"), 404)


async def test_what_is_no_request_is_answered_with_a_client_error(stack: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.one("api").ports["http"])
    writer.write(b"POST /memory HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
    async with limited():
        # aiohttp answers what it cannot parse as HTTP/1.0.
        assert re.match(rb"HTTP/1\.\d 4\d\d ", await reader.readline())
    writer.close()
    await writer.wait_closed()
