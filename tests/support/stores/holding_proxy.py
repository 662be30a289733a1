"""A TCP proxy that can keep a server's answers to itself: the work is done, nobody knows."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class HoldingProxy:
    """Forwards to the server at `url`; between `hold()` and `release()` no answer passes."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut: bytes | None = None
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

    def cut(self, text: bytes) -> None:
        """Pass the next question that holds `text` on, and hang up on both sides."""
        self._cut = text

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(self._target.hostname, self._target.port)
        questions = asyncio.create_task(self._pump(reader, server[1]), name="proxy-questions")
        answers = asyncio.create_task(
            self._pump(server[0], writer, self._flowing), name="proxy-answers"
        )
        await asyncio.wait({questions, answers}, return_when=asyncio.FIRST_COMPLETED)
        for task in (questions, answers):
            task.cancel()
        await asyncio.wait({questions, answers})
        writer.close()
        server[1].close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event | None = None,
    ) -> None:
        while sent := await reader.read(65536):
            if flowing is not None:
                await flowing.wait()
            writer.write(sent)
            if flowing is None and self._cut is not None and self._cut in sent:
                self._cut = None
                return
            await writer.drain()
