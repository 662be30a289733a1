"""Schedules: once per interval in all processes together, whatever becomes of the leader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from shared.config import LeaseSettings
from shared.errors import Fenced, Unavailable
from shared.leading.lease import Election, Lease
from shared.leading.schedule import Schedule, ScheduledTask
from shared.redis.client import RedisClients
from tests.support.waiting.conditions import wait_until

# A leader that is frozen for a second still leads; one that stops is replaced at once.
QUICK = LeaseSettings(
    EUNOE_LEASE_TTL_SECONDS=6,
    EUNOE_LEASE_RENEW_DEADLINE_SECONDS=4,
    EUNOE_LEASE_RETRY_SECONDS=0.05,
)
Body = Callable[[Lease], Awaitable[None]]


class Ticks:
    """A body that counts its runs."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.at: list[float] = []

    async def __call__(self, lease: Lease) -> None:
        self.leases.append(lease)
        self.at.append(time.monotonic())


def schedule(
    clients: RedisClients,
    body: Body,
    interval_s: float,
    *,
    wait_first: bool = False,
    resign: Callable[[], None] = lambda: None,
    **options: Any,
) -> Schedule:
    task = ScheduledTask("tick", interval_s, body, wait_first, resign)
    return Schedule(task, Election("tick", clients, QUICK), clients, **options)


@asynccontextmanager
async def running(*schedules: Schedule) -> AsyncIterator[list[asyncio.Event]]:
    events = [asyncio.Event() for _ in schedules]
    tasks = [
        asyncio.create_task(each.run(event), name="tested-schedule")
        for each, event in zip(schedules, events, strict=True)
    ]
    try:
        yield events
    finally:
        for event in events:
            event.set()
        await asyncio.gather(*tasks)


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"schedule": "tick"}) or 0.0


async def test_it_runs_soon_and_then_every_interval(clients: RedisClients) -> None:
    ticks = Ticks()
    async with running(schedule(clients, ticks, 0.2, jitter=0.0)):
        await wait_until(lambda: len(ticks.at) == 4, "it ran four times")
        assert metric("eunoe_leader") == 1
    assert ticks.at[3] - ticks.at[0] >= 0.55
    assert metric("eunoe_leader") == 0
    assert time.time() - metric("eunoe_schedule_last_success_timestamp_seconds") < 3600


async def test_of_two_processes_one_runs_it(clients: RedisClients) -> None:
    one, other = Ticks(), Ticks()
    async with running(schedule(clients, one, 0.1), schedule(clients, other, 0.1)):
        await wait_until(lambda: len(one.at) + len(other.at) >= 5, "it ran")
        assert not (one.at and other.at)


async def test_a_new_leader_neither_repeats_nor_skips_a_run(clients: RedisClients) -> None:
    interval_s, due_in_s = 3600.0, 0.5
    first, second = Ticks(), Ticks()
    async with running(schedule(clients, first, interval_s, jitter=0.0)):
        await wait_until(lambda: first.at, "the first ran")
    note = clients.key("schedule", "tick")
    ran_at_ms = int(await clients.command.get(note) or 0)
    began_ms = ran_at_ms - int(1000 * (interval_s - due_in_s))
    await clients.command.set(note, began_ms, px=3_600_000)
    async with running(schedule(clients, second, interval_s, jitter=0.0)):
        await wait_until(lambda: second.at, "the second ran when the first would have")
    assert second.at[0] - first.at[0] > 0.8 * due_in_s


async def test_a_run_that_was_cut_short_is_the_next_leaders(clients: RedisClients) -> None:
    began = asyncio.Event()

    async def endless(lease: Lease) -> None:
        began.set()
        await asyncio.Event().wait()

    async with running(schedule(clients, endless, 3600.0)):
        await began.wait()
    ticks = Ticks()
    async with running(schedule(clients, ticks, 3600.0)):
        await wait_until(lambda: ticks.at, "the next leader ran it")


async def test_losing_the_note_means_running_soon(clients: RedisClients) -> None:
    ticks = Ticks()
    async with running(schedule(clients, ticks, 3600.0)):
        await wait_until(lambda: ticks.at, "it ran")
    assert await clients.command.delete(clients.key("schedule", "tick")) == 1
    async with running(schedule(clients, ticks, 3600.0)):
        await wait_until(lambda: len(ticks.at) == 2, "it ran again")


@pytest.mark.parametrize("interval_s", [0.0, -1.0])
async def test_no_interval_means_never(clients: RedisClients, interval_s: float) -> None:
    ticks = Ticks()
    await schedule(clients, ticks, interval_s).run(asyncio.Event())
    assert ticks.at == []


@pytest.mark.parametrize("error", [Unavailable("graph", "down"), ValueError("canary-0815")])
async def test_a_failing_body_is_tried_again_sooner_than_the_interval(
    clients: RedisClients, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    failures_before = metric("eunoe_schedule_failures_total")
    attempts: list[float] = []

    async def failing_twice(lease: Lease) -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise error

    async with running(schedule(clients, failing_twice, 3600.0, retry_s=0.1)):
        await wait_until(lambda: len(attempts) == 3, "the third attempt was made")
    assert attempts[2] - attempts[1] > attempts[1] - attempts[0] >= 0.07
    assert metric("eunoe_schedule_failures_total") == failures_before + 2
    logged = capsys.readouterr().out
    assert "schedule.failed" in logged
    assert "canary-0815" not in logged


async def test_fenced_ends_the_term_and_the_next_has_a_higher_token(clients: RedisClients) -> None:
    tokens: list[int] = []

    async def fenced_once(lease: Lease) -> None:
        tokens.append(lease.token)
        if len(tokens) == 1:
            raise Fenced("another leads")

    resigned: list[int] = []
    terms_before = metric("eunoe_leader_terms_total")
    led = schedule(
        clients, fenced_once, 3600.0, retry_s=0.05, resign=lambda: resigned.append(tokens[-1])
    )
    async with running(led):
        await wait_until(lambda: len(tokens) == 2, "it led again")
        assert resigned == tokens[:1], "at the end of the first term, before the second"
    assert resigned == tokens, "and at the end of the second"
    assert tokens[1] > tokens[0]
    assert metric("eunoe_leader_terms_total") == terms_before + 2
