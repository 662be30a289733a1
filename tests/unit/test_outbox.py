"""Outbox: a tenant whose note failed is noted by a later call, whatever runs meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisDown

from shared.redis.client import RedisClients
from shared.streams.outbox import Outbox


class Command:
    """Redis' ZADD, answered by the test: each call waits for its own future."""

    def __init__(self) -> None:
        self.calls: list[tuple[set[str], asyncio.Future[None]]] = []

    def register_script(self, text: str) -> str:
        return text

    async def zadd(self, _key: str, scores: dict[str, int], **_options: object) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.append((set(scores), answer))
        await answer


@pytest.fixture
def command() -> Command:
    return Command()


@pytest.fixture
def outbox(command: Command) -> Outbox:
    clients: Any = cast("Any", command)
    return Outbox(RedisClients(clients, clients, clients, "test"), {}, delay_s=1.0)


async def noting(outbox: Outbox, *tenants: str) -> asyncio.Task[None]:
    task = asyncio.create_task(outbox.note(tenants))
    await asyncio.sleep(0)
    return task


async def noted_next(outbox: Outbox, command: Command) -> set[str]:
    """The tenants of the next call, which adds none itself."""
    task = await noting(outbox)
    tenants, answer = command.calls[-1]
    answer.set_result(None)
    await task
    return tenants


async def test_a_success_forgets_no_other_calls_failure(outbox: Outbox, command: Command) -> None:
    first, second = await noting(outbox, "a"), await noting(outbox, "b")
    command.calls[1][1].set_exception(RedisDown())
    await second
    command.calls[0][1].set_result(None)
    await first
    assert await noted_next(outbox, command) == {"b"}


async def test_failures_at_the_same_time_are_all_kept(outbox: Outbox, command: Command) -> None:
    tasks = [await noting(outbox, tenant) for tenant in "abc"]
    for _, answer in command.calls:
        answer.set_exception(RedisDown())
    await asyncio.gather(*tasks)
    assert await noted_next(outbox, command) == {"a", "b", "c"}


async def test_a_cancelled_call_is_repeated_by_the_next(outbox: Outbox, command: Command) -> None:
    task = await noting(outbox, "a")
    task.cancel()
    await asyncio.wait({task})
    assert await noted_next(outbox, command) == {"a"}
