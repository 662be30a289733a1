"""The emitting half of a process, and loops that run for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.api.operations.event_feed import Feed
from shared.config import EventSettings
from shared.events.emitter import Events
from shared.redis.client import RedisClients

TENANT = "default"


def settings(**variables: Any) -> EventSettings:
    return EventSettings(_env_file=None, **variables)


@asynccontextmanager
async def running(*loops: Any) -> AsyncIterator[None]:
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
    return Events(clients, settings())


async def emit(events: Events, *numbers: int, tenant: str = TENANT) -> None:
    for number in numbers:
        events.emit(tenant, "test", {"n": number})
    assert await events.flush()
