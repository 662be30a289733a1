"""Events: tell the clients of GET /stream what the product does.

Every process appends to one Redis stream per tenant, a feed that is trimmed and expires (no
work is in it). Emitting never delays or fails a request: events wait in a bounded buffer and
are sent in the background; what cannot be sent is dropped and counted. Events carry previews
of content (AutoMem's contract), so only their tenant's clients see them, and no log does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

from shared.compact_json import compact_json
from shared.config import EventSettings
from shared.domain.memory import Memory, iso, now_ms
from shared.errors import EunoeError
from shared.redis.client import RedisClients, translated
from shared.telemetry import metrics
from shared.waiting import wait

FIELD = "event"
_BUFFERED = 2_000
_FLUSHED_AT_ONCE = 500
# Waiting for so long sends the events of a burst of requests in one round trip.
_GATHER_S = 0.02
# Between a failed flush and the next try: the first pause, and the longest.
_PAUSES_S = (0.5, 10.0)


class Event(StrEnum):
    STORE = "memory.store"
    RECALL = "memory.recall"
    ENRICHMENT_START = "enrichment.start"
    ENRICHMENT_COMPLETE = "enrichment.complete"
    ENRICHMENT_FAILED = "enrichment.failed"


def feed_key(prefix: str, tenant: str) -> str:
    return f"{prefix}:events:{tenant}"


class Events:
    """Buffers events; `run` sends them."""

    def __init__(self, clients: RedisClients, settings: EventSettings) -> None:
        self._clients = clients
        self._settings = settings
        self._buffer: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._some = asyncio.Event()

    def emit(self, tenant: str, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        """Buffer an event for the tenant's clients; returns at once and never raises.

        `data` must not be changed afterwards. A full buffer drops its oldest event.
        """
        if len(self._buffer) >= _BUFFERED:
            self._buffer.popleft()
            metrics.EVENTS_DROPPED.labels(reason="buffer").inc()
        event = {"type": type, "timestamp": iso(now_ms()), "data": data}
        self._buffer.append((tenant, event))
        self._some.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Flush in the background until `stopping`, then once more."""
        stop = asyncio.create_task(stopping.wait(), name="events-stop")
        stop.add_done_callback(lambda _: self._some.set())  # ends the wait for an event
        try:
            while not stopping.is_set():
                if not self._buffer:
                    await self._some.wait()
                if await wait(stopping, _GATHER_S):
                    break
                if not await self.flush():
                    await self._until_redis_answers(stopping)
        finally:
            stop.cancel()
        await self.flush()

    async def _until_redis_answers(self, stopping: asyncio.Event) -> None:
        """Try Redis after longer and longer pauses; buffered events stay in the buffer."""
        pause_s, longest_s = _PAUSES_S
        while not await wait(stopping, pause_s):
            with suppress(EunoeError):
                await self._clients.ping()
                return
            pause_s = min(longest_s, pause_s * 2)

    async def flush(self) -> bool:
        """Send the buffered events; False where Redis refused a batch, which is then dropped.

        The events after that batch stay in the buffer.
        """
        self._some.clear()
        sent = True
        while self._buffer and sent:
            size = min(_FLUSHED_AT_ONCE, len(self._buffer))
            by_tenant: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for tenant, event in (self._buffer.popleft() for _ in range(size)):
                by_tenant[tenant].append(event)
            for tenant, events in by_tenant.items():
                sent = await self._send(tenant, events) and sent
        return sent

    async def _send(self, tenant: str, events: Sequence[Mapping[str, Any]]) -> bool:
        key = feed_key(self._clients.prefix, tenant)
        kept = self._settings.kept
        try:
            with translated():
                # One transaction: a feed always has a time-to-live.
                async with self._clients.command.pipeline(transaction=True) as pipe:
                    for event in events[-kept:]:
                        text = compact_json(event, default=str)
                        pipe.xadd(key, {FIELD: text}, maxlen=kept, approximate=True)
                    pipe.expire(key, self._settings.ttl_s)
                    await pipe.execute()
        except (EunoeError, TypeError, ValueError):
            metrics.EVENTS_DROPPED.labels(reason="redis").inc(len(events))
            return False
        return True


def preview(text: str, limit: int) -> str:
    """Return at most `limit` characters; of a longer text the last three are dots."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def stored(memory: Memory, elapsed_ms: float) -> dict[str, Any]:
    """Return the data of `memory.store`, as AutoMem's monitor reads it."""
    return {
        "id": memory.id,
        "content_preview": preview(memory.content, 100),
        "type": memory.type,
        "importance": memory.importance,
        "tags": list(memory.tags[:5]),
        "size_bytes": len(memory.content.encode(errors="replace")),
        "elapsed_ms": round(elapsed_ms, 2),
    }
