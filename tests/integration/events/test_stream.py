"""GET /stream over a real Redis: events of every process, resumed, kept apart, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from services.api.http.tenancy import Access, digest_of
from services.api.operations import event_stream
from services.api.operations.event_feed import Feed
from shared.errors import Overloaded
from shared.events.emitter import Events, stored
from shared.redis.client import RedisClients
from tests.integration.events.conftest import TENANT, emit, running, settings
from tests.support.stack.in_process import API, make_app, served, tokens
from tests.support.stores.graphs import a_memory
from tests.support.waiting.conditions import limited, wait_until


@asynccontextmanager
async def _serving(clients: RedisClients, **variables: Any) -> AsyncIterator[tuple[Any, Feed]]:
    feed = Feed(clients, settings(**variables), block_s=0.05)
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
    async with served(app, **{"X-Nothing": "1"}) as client, running(feed):
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
        await emit(events, 1, 2)
        last, _ = await watcher.next()
        watcher.answer.close()
        await emit(events, *range(3, 250))  # more than one page of history
        for again in (
            await _watch(client, **{"Last-Event-ID": last}),
            await _watch(client, f"/stream?last_event_id={last}"),
        ):
            await emit(events, 999)
            assert (await again.numbers(249))[:248] == list(range(2, 250))
            again.answer.close()


async def test_history_and_live_events_neither_double_nor_skip(
    clients: RedisClients, events: Events
) -> None:
    async with _serving(clients) as (client, _feed), running(events):
        first = await _watch(client)
        await emit(events, 0)
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
        await emit(events, 1, tenant="acme")
        await emit(events, 2)
        await emit(events, 3, tenant="acme")
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
        await emit(events, 7)
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
    feed = Feed(clients, settings(EUNOE_EVENTS_QUEUE=150), block_s=0.05)
    async with running(feed):
        slow = await feed.subscribe(TENANT)
        quick = await feed.subscribe(TENANT)
        seen: list[Any] = []
        for start in range(0, 200, 50):
            await emit(events, *range(start, start + 50))
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
    feed = Feed(clients, settings(EUNOE_EVENTS_SUBSCRIBERS=2), block_s=0.05)
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
    feed = Feed(clients, settings(), block_s=0.05)
    async with running(feed):
        watchers = [await feed.subscribe(f"t{number % 20}") for number in range(60)]
        for number in range(20):
            await emit(events, number, tenant=f"t{number}")
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
    feed = Feed(clients, settings(), block_s=5)
    received: list[Any] = []

    async def newest(_tenant: str) -> str:
        await asyncio.sleep(0)  # Redis answers sooner than it does a read of the feeds
        return "0-0"

    async def come_and_go() -> None:
        while len(received) < 20:
            feed.leave(await feed.subscribe("another"))

    async with running(feed):
        watcher = await feed.subscribe(TENANT)
        monkeypatch.setattr(feed, "_newest", newest)
        async with limited(), asyncio.TaskGroup() as group:
            group.create_task(come_and_go())
            await emit(events, *range(20))
            while len(received) < 20:
                received += await watcher.next(1)
        assert [json.loads(text)["data"]["n"] for _, text in received] == list(range(20))
        feed.leave(watcher)
