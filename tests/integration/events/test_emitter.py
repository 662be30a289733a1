"""Events on their way to Redis: bounded, dropped with a count, and sent later where it can be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from services.api.operations.event_feed import Feed
from shared.config import RedisSettings, StreamSettings
from shared.errors import Unavailable
from shared.events import emitter
from shared.events.emitter import Events, feed_key, preview
from shared.redis.client import RedisClients
from tests.integration.events.conftest import TENANT, emit, running, settings
from tests.support.stores.redis_server import free_port
from tests.support.waiting.conditions import wait_until


async def test_the_feed_is_trimmed_and_expires(
    clients: RedisClients, redis_settings: RedisSettings
) -> None:
    events = Events(clients, settings(EUNOE_EVENTS_KEPT=50, EUNOE_EVENTS_TTL_SECONDS=100))
    for _ in range(5):
        await emit(events, *range(200))
    async with Redis.from_url(redis_settings.url) as redis:
        key = feed_key(redis_settings.prefix, TENANT)
        assert 50 <= await redis.xlen(key) <= 250
        assert 0 < await redis.ttl(key) <= 100


def _dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("eunoe_events_dropped_total", {"reason": reason}) or 0.0


async def test_emitting_never_waits_and_the_buffer_is_bounded(clients: RedisClients) -> None:
    """Nothing flushes: the oldest go, and are counted."""
    events = Events(clients, settings())
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
    events = Events(nowhere, settings())
    before = _dropped("redis")
    async with running(events):
        events.emit(TENANT, "test", {"n": 1})
        await wait_until(lambda: _dropped("redis") == before + 1, "the event was dropped")
    feed = Feed(nowhere, settings(), block_s=0.05)
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
    async with running(events):
        await wait_until(rest_arrived, "the other events were sent")
    assert _dropped("redis") == before + 500


async def test_what_is_buffered_is_kept_while_redis_does_not_answer(
    stream_settings: StreamSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = RedisSettings(
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", EUNOE_REDIS_TIMEOUT_SECONDS=0.2
    )
    nowhere = RedisClients.open(away, stream_settings)
    events = Events(nowhere, settings())
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
    async with running(events):
        await wait_until(lambda: pings >= 3, "Redis was tried again")
        assert _dropped("redis") == before + 500
        assert len(events._buffer) == 200
    await nowhere.close()


async def test_what_cannot_be_written_as_json_is_dropped(
    clients: RedisClients, events: Events
) -> None:
    events.emit(TENANT, "test", {("a", "b"): 1})  # type: ignore[dict-item]
    assert not await events.flush()
    await emit(events, 1)


def test_previews_are_bounded() -> None:
    assert preview("x" * 100, 100) == "x" * 100
    assert preview("x" * 101, 100) == "x" * 97 + "..."
