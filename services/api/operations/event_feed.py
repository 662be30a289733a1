"""Feed: delivers events to the subscribers of GET /stream.

One task and one connection per process read the feeds of all watched tenants, however many
clients there are. A subscription holds a bounded number of entries; one that does not keep up
is ended, and its client may come back with the id of the last event that it saw.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.config import EventSettings
from shared.errors import EunoeError, InvalidInput, Overloaded
from shared.events.emitter import FIELD, feed_key
from shared.redis.client import RedisClients, translated
from shared.telemetry import log, metrics
from shared.waiting import wait

_PAGE = 100
_PAUSE_S = 1.0
_ID = re.compile(r"(\d{1,19})-(\d{1,19})")
_log = log.get_logger(__name__)

Entry = tuple[str, str]


def parse_id(text: str) -> str:
    """Raises: InvalidInput for what no event can have as its id."""
    if not _ID.fullmatch(text):
        raise InvalidInput("Last-Event-ID must be the id of an event")
    return text


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return what the ids of a Redis stream are ordered by."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


@dataclass(slots=True, eq=False)
class Subscription:
    """One client's events: `next()` returns them in order, each once, until it `ended`."""

    _feed: Feed
    tenant: str
    _last_id: str
    _most: int
    # Whether events before the subscription must be read from Redis first, page by page.
    _behind: bool
    ended: bool = False
    too_slow: bool = False
    _waiting: deque[Entry] = field(default_factory=deque)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, entries: Iterable[Entry]) -> None:
        """Take live entries; with more than `most` waiting the subscription ends as too slow."""
        self._waiting.extend(entries)
        if len(self._waiting) > self._most:
            metrics.EVENTS_DROPPED.labels(reason="slow").inc(len(self._waiting))
            self.too_slow = True
            self.end()
        self._some.set()

    def end(self) -> None:
        self.ended = True
        self._waiting.clear()
        self._some.set()

    async def next(self, timeout_s: float) -> list[Entry]:
        """Return the entries since the last call; none after `timeout_s`, or once ended."""
        if self._behind:
            page = await self._feed.since(self.tenant, self._last_id, _PAGE)
            self._behind = len(page) == _PAGE
            if page:
                return self._unseen(page)
        if not self._waiting and not self.ended:
            await wait(self._some, timeout_s)
        self._some.clear()
        entries, self._waiting = self._waiting, deque()
        return self._unseen(entries)

    def _unseen(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries after the last one: a page and the live feed may overlap."""
        after = entry_order(self._last_id)
        fresh = [entry for entry in entries if entry_order(entry[0]) > after]
        if fresh:
            self._last_id = fresh[-1][0]
        return fresh


class Feed:
    """Reads the watched tenants' feeds; `run` it, and `close` it before the server stops."""

    def __init__(self, clients: RedisClients, settings: EventSettings, *, block_s: float) -> None:
        self._command = clients.command
        self._blocking = clients.blocking
        self._prefix = clients.prefix
        self.settings = settings
        self._block_ms = max(1, int(block_s * 1000))
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._read_to: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def count(self, tenant: str) -> int:
        """Return how many subscriptions the tenant has in this process."""
        return len(self._subscriptions.get(tenant, ()))

    async def subscribe(self, tenant: str, after: str | None = None) -> Subscription:
        """Subscribe from now on, or from the event after `after` where it is still kept.

        Every event that is emitted after this returned is delivered. `leave` it in the end.

        Raises: Overloaded for one too many, Unavailable without Redis.
        """
        self._admit()
        newest = await self._newest(tenant)
        self._admit()  # others may have subscribed in the meantime
        read_to = self._read_to.setdefault(tenant, newest)
        subscription = Subscription(
            self, tenant, after or read_to, self.settings.queue, after is not None
        )
        self._subscriptions.setdefault(tenant, set()).add(subscription)
        metrics.EVENT_SUBSCRIBERS.set(self._total())
        self._changed.set()
        return subscription

    def leave(self, subscription: Subscription) -> None:
        others = self._subscriptions.get(subscription.tenant, set())
        others.discard(subscription)
        if not others:
            self._subscriptions.pop(subscription.tenant, None)
            self._read_to.pop(subscription.tenant, None)
        metrics.EVENT_SUBSCRIBERS.set(self._total())

    async def close(self, _app: object = None) -> None:
        """End every subscription, which would delay a shutdown, and accept no other."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()
        self._changed.set()

    async def since(self, tenant: str, event_id: str, limit: int) -> list[Entry]:
        """Return up to `limit` entries after `event_id`, oldest first."""
        with translated():
            rows: Any = await self._command.xrange(
                feed_key(self._prefix, tenant), min=f"({event_id}", max="+", count=limit
            )
        return _entries(rows)

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver entries until `stopping`, also after Redis was down."""
        while not stopping.is_set() and not self._closed:
            try:
                await self._read_once()
            except EunoeError as error:
                _log.warning("feed.unread", error=str(error))
                await wait(stopping, _PAUSE_S)

    async def _read_once(self) -> None:
        """Read until an event comes, the block is over, or another tenant is watched."""
        subscribed = self._changed.is_set()
        self._changed.clear()
        if not self._read_to:
            await wait(self._changed, self._block_ms / 1000)
        elif subscribed:
            # This read does not block and runs to its end: however fast subscribers come and
            # go, every turn delivers what has arrived.
            self._deliver(await self._read(None))
        else:
            await self._read_until_changed()

    async def _read_until_changed(self) -> None:
        read = asyncio.create_task(self._read(self._block_ms), name="feed-read")
        changed = asyncio.create_task(self._changed.wait(), name="feed-changed")
        try:
            await asyncio.wait({read, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A cancelled read loses nothing: the next one starts from the same ids.
            for task in (read, changed):
                task.cancel()
            await asyncio.gather(read, changed, return_exceptions=True)
        if not read.cancelled():
            self._deliver(read.result())

    async def _read(self, block_ms: int | None) -> dict[str, list[Entry]]:
        """Return the new entries by tenant; without `block_ms` those that are there already."""
        tenants = {feed_key(self._prefix, tenant): tenant for tenant in self._read_to}
        streams: Any = {key: self._read_to[tenant] for key, tenant in tenants.items()}
        with translated():
            answer: Any = await self._blocking.xread(streams, count=_PAGE, block=block_ms)
        return {tenants[key]: _entries(rows) for key, rows in answer or ()}

    def _deliver(self, by_tenant: Mapping[str, list[Entry]]) -> None:
        for tenant, entries in by_tenant.items():
            if tenant in self._read_to and entries:
                self._read_to[tenant] = entries[-1][0]
            for subscription in self._subscriptions.get(tenant, ()):
                subscription.offer(entries)

    async def _newest(self, tenant: str) -> str:
        with translated():
            rows: Any = await self._command.xrevrange(feed_key(self._prefix, tenant), count=1)
        return str(rows[0][0]) if rows else "0-0"

    def _admit(self) -> None:
        if self._closed or self._total() >= self.settings.subscribers:
            raise Overloaded("Too many event streams are open")

    def _total(self) -> int:
        return sum(map(len, self._subscriptions.values()))


def _entries(rows: Iterable[Any]) -> list[Entry]:
    return [(str(event_id), str(fields.get(FIELD, "{}"))) for event_id, fields in rows]
