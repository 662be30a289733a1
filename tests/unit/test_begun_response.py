"""A response that has begun is never followed by another one: it is cut off."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web

from services.api.http.graph_circuit import GraphCircuit
from services.api.http.route import Route
from shared.errors import Unavailable
from tests.support.stack.in_process import API_TOKEN, make_app, probes, served, tokens


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"the first part")
    return response


async def _transferred(handler: object, circuit: GraphCircuit, *, cut: bool) -> bytes:
    """All that the server sends for one request, until it closes the connection."""
    app = make_app([Route("GET", "/file", handler, "A file")], tokens(), circuit)  # type: ignore[arg-type]
    async with served(app) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        headers = f"Host: x\r\nConnection: close\r\nX-API-Key: {API_TOKEN}\r\n\r\n"
        writer.write(f"GET /file HTTP/1.1\r\n{headers}".encode())
        found = await reader.readuntil(b"the first part")
        if cut:
            circuit._cancel_waiting()
        with suppress(ConnectionError):
            while chunk := await reader.read(1024):
                found += chunk
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return found


@pytest.mark.parametrize("error", [Unavailable("graph", "down"), RuntimeError("a bug")])
async def test_an_error_after_the_first_byte_cuts_the_response_off(error: Exception) -> None:
    async def failing(request: web.Request) -> web.StreamResponse:
        await _begun(request)
        raise error

    found = await _transferred(failing, GraphCircuit(probes()), cut=False)
    assert found.count(b"HTTP/1.1") == 1
    assert not found.endswith(b"0\r\n\r\n"), "the transfer looks complete"


async def test_a_graph_that_goes_down_cuts_a_begun_response_off() -> None:
    async def waiting(request: web.Request) -> web.StreamResponse:
        await _begun(request)
        await asyncio.Event().wait()
        raise AssertionError

    found = await _transferred(waiting, GraphCircuit(probes()), cut=True)
    assert found.count(b"HTTP/1.1") == 1
    assert not found.endswith(b"0\r\n\r\n"), "the transfer looks complete"


async def test_a_response_that_ends_is_complete() -> None:
    found = await _transferred(_begun, GraphCircuit(probes()), cut=False)
    assert found.endswith(b"0\r\n\r\n")
