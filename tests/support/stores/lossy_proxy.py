"""A TCP proxy that loses an answer: the command ran, and its client never learns of it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from shared.config import RedisSettings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.stream import Stream


class LossyProxy:
    """Forwards to a server; may swallow one answer and cut the connection instead."""

    def __init__(self, settings: RedisSettings, streams: StreamSettings) -> None:
        self._settings = settings
        self._streams = streams
        self._server: asyncio.Server | None = None
        self._clients: RedisClients | None = None
        self.swallow_next_answer = False
        self.swallowed = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        url = urlsplit(self._settings.url)._replace(netloc=f"127.0.0.1:{port}").geturl()
        through = RedisSettings(REDIS_URL=url, EUNOE_REDIS_PREFIX=self._settings.prefix)
        self._clients = RedisClients.open(through, self._streams)
        await self._clients.ping()

    async def close(self) -> None:
        assert self._clients is not None
        assert self._server is not None
        await self._clients.close()
        self._server.close()
        await self._server.wait_closed()

    def stream(self, stream: Stream) -> Stream:
        """The same stream, reached through the proxy."""
        assert self._clients is not None
        return Stream(self._clients, stream.policy)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self._settings.url)
        from_server, to_server = await asyncio.open_connection(target.hostname, target.port)
        forward = asyncio.create_task(self._pump(reader, to_server), name="proxy-forward")
        try:
            while answer := await from_server.read(65536):
                if self.swallow_next_answer:
                    self.swallow_next_answer = False
                    self.swallowed += 1
                    break
                writer.write(answer)
                await writer.drain()
        finally:
            forward.cancel()
            await asyncio.wait({forward})
            for each in (writer, to_server):
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent := await reader.read(65536):
            writer.write(sent)
            await writer.drain()
        writer.close()
