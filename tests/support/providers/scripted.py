"""A scripted model provider: a real HTTP server on loopback that answers as its test scripts it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

Answer = Callable[[web.Request, dict[str, Any]], Any]


@dataclass
class Provider:
    """Pops one scripted answer per request; past the script it answers `otherwise`."""

    otherwise: Answer
    script: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        answer = self.script.pop(0) if self.script else self.otherwise
        given = answer(request, body)
        found = given if isinstance(given, web.StreamResponse) else await given
        assert isinstance(found, web.StreamResponse)
        if not found.prepared:
            found.force_close()  # an idle connection would be a task that outlives its test
        return found


@asynccontextmanager
async def running(provider: Provider) -> AsyncIterator[Provider]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/{path:.*}", provider.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    provider.url = f"http://{host}:{port}/v1"
    try:
        yield provider
    finally:
        await runner.cleanup()


def vectors(body: dict[str, Any], *, dimension: int = 8) -> list[dict[str, Any]]:
    """A distinct vector, not of unit length, per input; last one first."""
    rows = []
    for index, text in enumerate(body["input"]):
        numbers = np.arange(1, dimension + 1, dtype="<f4") + len(text) + index
        packed = base64.b64encode(numbers.tobytes()).decode()
        shown = packed if body.get("encoding_format") == "base64" else numbers.tolist()
        rows.append({"object": "embedding", "index": index, "embedding": shown})
    return rows[::-1]


def vector_of(text: str, dimension: int = 8) -> NDArray[np.float32]:
    """What `faithful` answers for this text whatever it is asked with: its own unit vector."""
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    numbers = np.random.default_rng(seed).standard_normal(dimension, np.float32)
    unit: NDArray[np.float32] = numbers / np.linalg.norm(numbers)
    return unit


def faithful(*, dimension: int = 8, refusing: str = "") -> Answer:
    """`vector_of` each input; HTTP 400 for a whole request of which one contains `refusing`."""

    def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        if refusing and any(refusing in text for text in body["input"]):
            return web.json_response({"error": {"code": "content_refused"}}, status=400)
        data = [
            {"index": index, "embedding": vector_of(text, dimension).tolist()}
            for index, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
        return web.json_response({"data": data, "model": body["model"], "usage": usage})

    return answer


def embeddings(dimension: int = 8) -> Answer:
    def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        rows = vectors(body, dimension=body.get("dimensions") or dimension)
        usage = {"prompt_tokens": 3 * len(rows), "total_tokens": 3 * len(rows)}
        return web.json_response(
            {"object": "list", "data": rows, "model": body["model"], "usage": usage}
        )

    return answer


def rows(change: Callable[[list[dict[str, Any]]], Any]) -> Answer:
    """The right answer with its rows spoiled by `change`."""

    def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response({"data": change(vectors(body)), "model": "m", "usage": {}})

    return answer


def status(code: int, *, error: Any = None, headers: dict[str, str] | None = None) -> Answer:
    body = {"error": error if error is not None else {"message": "sk-secret", "code": None}}

    def answer(request: web.Request, request_body: dict[str, Any]) -> web.Response:
        return web.json_response(body, status=code, headers=headers)

    return answer


def raw(content: bytes, content_type: str = "application/json") -> Answer:
    def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(body=content, content_type=content_type)

    return answer


def cut(request: web.Request, body: dict[str, Any]) -> Any:
    """Announces a long body and closes the connection within it."""

    async def respond() -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10000"})
        response.content_type = "application/json"
        await response.prepare(request)
        await response.write(b'{"data": [')
        assert request.transport is not None
        request.transport.close()
        return response

    return respond()


def silent(request: web.Request, body: dict[str, Any]) -> Any:
    """Sends its headers, and then nothing for longer than any test waits."""

    async def respond() -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(3600)  # its client, or the end of the server, cancels it
        return response

    return respond()


def completion(content: str | None, **changes: Any) -> Answer:
    message = {"role": "assistant", "content": content, "refusal": changes.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **changes}

    def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        shown = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**shown, "choices": [choice], "usage": usage})

    return answer
