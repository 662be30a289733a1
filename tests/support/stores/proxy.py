"""A TCP proxy before a server: it holds answers back, loses one, or breaks a connection.

The server has done its work then, and its client does not know.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class Proxy:
    """Forwards to the server at `url`; between `hold()` and `release()` no answer passes."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._last_request: bytes | None = None
        self._losing = False
        self.cut = asyncio.Event()  # set once `cut_after_request` has hung up on both sides
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._target._replace(netloc=f"127.0.0.1:{port}").geturl()

    async def close(self) -> None:
        assert self._server is not None
        self.release()
        self._server.close()
        await self._server.wait_closed()

    def hold(self) -> None:
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def cut_after_request(self, text: bytes) -> None:
        """Pass the next request that holds `text` on, and hang up on both sides."""
        self._last_request = text
        self.cut.clear()

    def lose_answer(self) -> None:
        """Drop the next answer, and hang up on both sides."""
        self._losing = True

    @property
    def lost(self) -> bool:
        """Whether the answer that was to be lost has been lost."""
        return not self._losing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(
            self._target.hostname, self._target.port
        )
        requests = asyncio.create_task(self._requests(reader, to_server), name="proxy-requests")
        answers = asyncio.create_task(self._answers(from_server, writer), name="proxy-answers")
        await asyncio.wait({requests, answers}, return_when=asyncio.FIRST_COMPLETED)
        for task in (requests, answers):
            task.cancel()
        await asyncio.wait({requests, answers})
        writer.close()
        to_server.close()
        if self._last_request is None:
            self.cut.set()

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while sent := await reader.read(65536):
            server.write(sent)
            if self._last_request is not None and self._last_request in sent:
                self._last_request = None
                return
            await server.drain()

    async def _answers(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent := await server.read(65536):
            await self._flowing.wait()
            if self._losing:
                self._losing = False
                return
            writer.write(sent)
            await writer.drain()
