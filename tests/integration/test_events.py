"""GET /stream over a real Redis: events of every process, resumed, kept apart, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from services.api.http.tenancy import Access, digest_of
from services.api.operations import event_stream
from services.api.operations.event_feed import Feed
from shared.config import EventSettings, RedisSettings, StreamSettings
from shared.errors import Overloaded, Unavailable
from shared.events import emitter
from shared.events.emitter import Events, feed_key, preview, stored
from shared.redis.client import RedisClients
from tests.support.stack.in_process import API, make_app, served, tokens
from tests.support.stores.graphs import a_memory
from tests.support.stores.redis_server import free_port
from tests.support.waiting.conditions import limited, wait_until

TENANT = "default"


def _settings(**variables: Any) -> EventSettings:
    return EventSettings(_env_file=None, **variables)


@asynccontextmanager
async def _running(*loops: Any) -> AsyncIterator[None]:
    """Events or feeds that run for the block's length."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for each in loops:
            group.create_task(each.run(stopping))
        try:
            yield
        finally:
            stopping.set()
            for each in loops:
                if isinstance(each, Feed):
                    await each.close()


@pytest.fixture
def events(clients: RedisClients) -> Events:
    """Another process's emitting half."""
    return Events(clients, _settings())


@asynccontextmanager
async def _serving(clients: RedisClients, **variables: Any) -> AsyncIterator[tuple[Any, Feed]]:
    feed = Feed(clients, _settings(**variables), block_s=0.05)
    known = tokens()
    known._fixed.append(
        Access(
            name="acme",
            tenants=("acme",),
            scopes=frozenset({"read"}),
            digest=digest_of("acme-token"),
        )
    )
    app = make_app(event_stream.ROUTES, known)
    app[event_stream.FEED] = feed
    async with served(app, **{"X-Nothing": "1"}) as client, _running(feed):
        yield client, feed
        await feed.close()


class Watcher:
    """A client of /stream; `next` is the next event with its id."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.comments: list[str] = []

    async def next(self) -> tuple[str, dict[str, Any]]:
        event_id = ""
        async with limited():
            while True:
                line = (await self.answer.content.readline()).decode().rstrip("\n")
                if line.startswith("id: "):
                    event_id = line[4:]
                elif line.startswith("data: "):
                    return event_id, json.loads(line[6:])
                elif line.startswith(": "):
                    self.comments.append(line[2:])
                elif not line and self.answer.content.at_eof():
                    raise EOFError

    async def numbers(self, count: int) -> list[int]:
        return [(await self.next())[1]["data"]["n"] for _ in range(count)]


async def _watch(client: Any, path: str = "/stream", **headers: str) -> Watcher:
    answer = await client.get(path, headers=API | headers)
    assert answer.status == 200, await answer.text()
    return Watcher(answer)


async def _emit(events: Events, *numbers: int, tenant: str = TENANT) -> None:
    for number in numbers:
        events.emit(tenant, "test", {"n": number})
    assert await events.flush()


async def test_events_of_another_process_arrive_in_order(
    clients: RedisClients, events: Events
) -> None:
    async with _serving(clients) as (client, _feed):
        watcher = await _watch(client)
        assert watcher.answer.headers["Content-Type"] == "text/event-stream"
        assert watcher.answer.headers["Cache-Control"] == "no-cache"
        assert watcher.answer.headers["X-Accel-Buffering"] == "no"
        memory = a_memory("x" * 300, tags=tuple("abcdefg"))
        events.emit(TENANT, "memory.store", stored(memory, 1.234))
        await events.flush()
        event_id, first = await watcher.next()
        assert "-" in event_id
        assert set(first) == {"type", "timestamp", "data"}
        assert first["type"] == "memory.store"
        assert first["timestamp"].endswith("+00:00")
        assert first["data"] == {
            "id": memory.id,
            "content_preview": "x" * 97 + "...",
            "type": "Memory",
            "importance": 0.5,
            "tags": list("abcde"),
            "size_bytes": 300,
            "elapsed_ms": 1.23,
        }


async def test_a_watcher_resumes_after_the_last_event_it_saw(
    clients: RedisClients, events: Events
) -> None:
    async with _serving(clients) as (client, _feed):
        watcher = await _watch(client)
        await _emit(events, 1, 2)
        last, _ = await watcher.next()
        watcher.answer.close()
        await _emit(events, *range(3, 250))  # more than one page of history
        for again in (
            await _watch(client, **{"Last-Event-ID": last}),
            await _watch(client, f"/stream?last_event_id={last}"),
        ):
            await _emit(events, 999)
            assert (await again.numbers(249))[:248] == list(range(2, 250))
            again.answer.close()


async def test_history_and_live_events_neither_double_nor_skip(
    clients: RedisClients, events: Events
) -> None:
    async with _serving(clients) as (client, _feed), _running(events):
        first = await _watch(client)
        await _emit(events, 0)
        last, _ = await first.next()

        async def emitting() -> None:
            for number in range(1, 400):
                events.emit(TENANT, "test", {"n": number})
                if number % 10 == 0:
                    await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            group.create_task(emitting())
            second = await _watch(client, **{"Last-Event-ID": last})
            assert await second.numbers(399) == list(range(1, 400))
        first.answer.close()
        second.answer.close()


@pytest.mark.parametrize("given", ["yesterday", "5", "1-2-3", "-", "99999999999999999999-1"])
async def test_what_is_no_event_id_is_refused(clients: RedisClients, given: str) -> None:
    async with _serving(clients) as (client, feed):
        answer = await client.get("/stream", headers=API | {"Last-Event-ID": given})
        assert answer.status == 400
        assert (await client.get(f"/stream?last_event_id={given}", headers=API)).status == 400
        assert feed.count(TENANT) == 0


async def test_a_tenant_sees_its_own_events_and_watchers_only(
    clients: RedisClients, events: Events
) -> None:
    acme = {"Authorization": "Bearer acme-token"}
    async with _serving(clients) as (client, _feed):
        ours = await _watch(client)
        theirs = await _watch(client, **acme)
        await _emit(events, 1, tenant="acme")
        await _emit(events, 2)
        await _emit(events, 3, tenant="acme")
        assert await ours.numbers(1) == [2]
        assert await theirs.numbers(2) == [1, 3]
        third = await _watch(client)
        status = await client.get("/stream/status", headers=acme)
        assert await status.json() == {"subscribers": 1}
        status = await client.get("/stream/status", headers=API)
        assert await status.json() == {"subscribers": 2}
        for each in (ours, theirs, third):
            each.answer.close()
        assert (await client.get("/stream")).status == 401


async def test_silence_is_filled_with_keepalives(clients: RedisClients, events: Events) -> None:
    async with _serving(clients, EUNOE_EVENTS_KEEPALIVE_SECONDS=0.05) as (client, _feed):
        watcher = await _watch(client)
        reading = asyncio.create_task(watcher.next())
        await wait_until(lambda: watcher.comments.count("keepalive") >= 3, "three keepalives")
        await _emit(events, 7)
        assert (await reading)[1]["data"] == {"n": 7}
        watcher.answer.close()


async def test_a_watcher_that_hung_up_is_forgotten(clients: RedisClients) -> None:
    async with _serving(clients) as (client, feed):
        watcher = await _watch(client)
        assert feed.count(TENANT) == 1
        watcher.answer.close()
        await wait_until(lambda: feed.count(TENANT) == 0, "the watcher is gone")


async def test_a_slow_watcher_is_ended_and_nobody_else(
    clients: RedisClients, events: Events
) -> None:
    """Its frames are not kept: it may come back with its last id."""
    feed = Feed(clients, _settings(EUNOE_EVENTS_QUEUE=150), block_s=0.05)
    async with _running(feed):
        slow = await feed.subscribe(TENANT)
        quick = await feed.subscribe(TENANT)
        seen: list[Any] = []
        for start in range(0, 200, 50):
            await _emit(events, *range(start, start + 50))
            while len(seen) < start + 50:
                seen += await quick.next(1)
        assert slow.too_slow
        assert slow.ended
        assert not quick.ended
        assert len(slow._waiting) == 0
        feed.leave(slow)
        feed.leave(quick)


async def test_a_client_that_takes_nothing_is_cut_off(
    clients: RedisClients, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_WRITE_TIMEOUT_S", 0.2)
    async with _serving(clients) as (client, feed):
        watcher = await _watch(client)  # and never reads
        big = "x" * 100_000

        async def flooded() -> bool:
            for _ in range(20):
                events.emit(TENANT, "test", {"big": big})
            await events.flush()
            return feed.count(TENANT) == 0

        await wait_until(flooded, "the client is gone")
        watcher.answer.close()


async def test_watchers_are_limited(clients: RedisClients) -> None:
    feed = Feed(clients, _settings(EUNOE_EVENTS_SUBSCRIBERS=2), block_s=0.05)
    first = await feed.subscribe(TENANT)
    await feed.subscribe("acme")
    with pytest.raises(Overloaded):
        await feed.subscribe(TENANT)
    feed.leave(first)
    await feed.subscribe(TENANT)


async def test_closing_ends_every_stream(clients: RedisClients) -> None:
    async with _serving(clients) as (client, feed):
        watcher = await _watch(client)
        await feed.close()
        with pytest.raises(EOFError):
            await watcher.next()
        assert (await client.get("/stream", headers=API)).status == 503


async def test_one_connection_reads_for_all_watchers(clients: RedisClients, events: Events) -> None:
    feed = Feed(clients, _settings(), block_s=0.05)
    async with _running(feed):
        watchers = [await feed.subscribe(f"t{number % 20}") for number in range(60)]
        for number in range(20):
            await _emit(events, number, tenant=f"t{number}")
        for number, watcher in enumerate(watchers):
            entries: list[Any] = []
            while not entries:
                entries = await watcher.next(1)
            assert json.loads(entries[0][1])["data"] == {"n": number % 20}
        listed = await clients.command.client_list()
        assert len([each for each in listed if each["cmd"].startswith("xread")]) <= 1
        for watcher in watchers:
            feed.leave(watcher)


async def test_delivery_goes_on_while_subscribers_come_and_go(
    clients: RedisClients, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every new tenant cut the read off that was under way, so that none was ever finished."""
    feed = Feed(clients, _settings(), block_s=5)
    received: list[Any] = []

    async def newest(_tenant: str) -> str:
        await asyncio.sleep(0)  # Redis answers sooner than it does a read of the feeds
        return "0-0"

    async def come_and_go() -> None:
        while len(received) < 20:
            feed.leave(await feed.subscribe("another"))

    async with _running(feed):
        watcher = await feed.subscribe(TENANT)
        monkeypatch.setattr(feed, "_newest", newest)
        async with limited(), asyncio.TaskGroup() as group:
            group.create_task(come_and_go())
            await _emit(events, *range(20))
            while len(received) < 20:
                received += await watcher.next(1)
        assert [json.loads(text)["data"]["n"] for _, text in received] == list(range(20))
        feed.leave(watcher)


async def test_the_feed_is_trimmed_and_expires(
    clients: RedisClients, redis_settings: RedisSettings
) -> None:
    events = Events(clients, _settings(EUNOE_EVENTS_KEPT=50, EUNOE_EVENTS_TTL_SECONDS=100))
    for _ in range(5):
        await _emit(events, *range(200))
    async with Redis.from_url(redis_settings.url) as redis:
        key = feed_key(redis_settings.prefix, TENANT)
        assert 50 <= await redis.xlen(key) <= 250
        assert 0 < await redis.ttl(key) <= 100


def _dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("eunoe_events_dropped_total", {"reason": reason}) or 0.0


async def test_emitting_never_waits_and_the_buffer_is_bounded(clients: RedisClients) -> None:
    """Nothing flushes: the oldest go, and are counted."""
    events = Events(clients, _settings())
    before = _dropped("buffer")
    for number in range(5_000):
        events.emit(TENANT, "test", {"n": number})
    assert _dropped("buffer") - before == 3_000
    assert len(events._buffer) == 2_000
    assert await events.flush()


async def test_without_redis_events_are_dropped_and_watching_says_so(
    stream_settings: StreamSettings,
) -> None:
    away = RedisSettings(
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", EUNOE_REDIS_TIMEOUT_SECONDS=0.2
    )
    nowhere = RedisClients.open(away, stream_settings)
    events = Events(nowhere, _settings())
    before = _dropped("redis")
    async with _running(events):
        events.emit(TENANT, "test", {"n": 1})
        await wait_until(lambda: _dropped("redis") == before + 1, "the event was dropped")
    feed = Feed(nowhere, _settings(), block_s=0.05)
    with pytest.raises(Unavailable):
        await feed.subscribe(TENANT)
    assert feed.count(TENANT) == 0
    await nowhere.close()


async def test_what_a_failed_flush_kept_is_sent_without_another_event(
    clients: RedisClients, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the buffer waited for the next event, however long that took."""
    key = feed_key(clients.prefix, TENANT)
    await clients.command.set(key, "no stream")  # Redis refuses to append to it
    send = events._send

    async def send_and_repair(tenant: str, rows: Any) -> bool:
        sent = await send(tenant, rows)
        if not sent:
            await clients.command.delete(key)
        return sent

    async def rest_arrived() -> bool:
        if events._buffer:
            return False
        rows: Any = await clients.command.xrange(key)
        numbers = [json.loads(fields["event"])["data"]["n"] for _, fields in rows]
        return numbers == list(range(500, 700))

    monkeypatch.setattr(events, "_send", send_and_repair)
    before = _dropped("redis")
    for number in range(700):
        events.emit(TENANT, "test", {"n": number})
    async with _running(events):
        await wait_until(rest_arrived, "the other events were sent")
    assert _dropped("redis") == before + 500


async def test_what_is_buffered_is_kept_while_redis_does_not_answer(
    stream_settings: StreamSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = RedisSettings(
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", EUNOE_REDIS_TIMEOUT_SECONDS=0.2
    )
    nowhere = RedisClients.open(away, stream_settings)
    events = Events(nowhere, _settings())
    pings = 0
    ping = RedisClients.ping

    async def counted(clients: RedisClients) -> None:
        nonlocal pings
        pings += 1
        await ping(clients)

    monkeypatch.setattr(RedisClients, "ping", counted)
    monkeypatch.setattr(emitter, "_PAUSES_S", (0.01, 0.02))
    before = _dropped("redis")
    for number in range(700):
        events.emit(TENANT, "test", {"n": number})
    async with _running(events):
        await wait_until(lambda: pings >= 3, "Redis was tried again")
        assert _dropped("redis") == before + 500
        assert len(events._buffer) == 200
    await nowhere.close()


async def test_what_cannot_be_written_as_json_is_dropped(
    clients: RedisClients, events: Events
) -> None:
    events.emit(TENANT, "test", {("a", "b"): 1})  # type: ignore[dict-item]
    assert not await events.flush()
    await _emit(events, 1)


def test_previews_are_bounded() -> None:
    assert preview("x" * 100, 100) == "x" * 100
    assert preview("x" * 101, 100) == "x" * 97 + "..."
