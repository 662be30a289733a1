"""A lean HTTP/1.1 client in a process of its own, so that measuring costs little.

`python -m tests.bench.lean PORT CONNECTIONS COUNT SEED` stores COUNT notes over keep-alive
connections, each sending its next request when it has its answer, and prints one JSON line:
the seconds it took, every latency, and how many answers were no 201.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tests.bench.notes import notes


class Connection(asyncio.Protocol):
    """One keep-alive connection; sends the next of `requests` as soon as it is answered."""

    def __init__(self, requests: list[bytes], seconds: list[float], refused: list[str]) -> None:
        self._requests = requests
        self._seconds = seconds
        self._refused = refused
        self._buffer = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if not self._requests:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests.pop())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._seconds.append(time.perf_counter() - self._sent_at)
        if not head.startswith(b"HTTP/1.1 201"):
            self._refused.append(rest[:200].decode(errors="replace"))
        self._buffer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))


def request(port: int, content: str, number: int) -> bytes:
    body = json.dumps(
        {"content": content, "tags": ["bench", f"run:{number % 7}"], "importance": 0.6}
    ).encode()
    head = (
        f"POST /memory HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def store(port: int, connections: int, count: int, seed: int) -> dict[str, object]:
    requests = [request(port, text, at) for at, text in enumerate(notes(count, seed=seed))]
    seconds: list[float] = []
    refused: list[str] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened = [
        (
            await loop.create_connection(
                lambda: Connection(requests, seconds, refused), "127.0.0.1", port
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(each.done for each in opened))
    took = time.perf_counter() - began
    return {"took_s": took, "seconds": seconds, "refused": len(refused), "first": refused[:1]}


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(store(*map(int, sys.argv[1:5])))))
