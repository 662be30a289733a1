"""Of two consolidators that both believe they lead, only one's writes land."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.bench.notes import notes
from tests.support.stack.stack import Running, Stack, running
from tests.support.waiting.conditions import wait_until

pytestmark = pytest.mark.chaos

# Many small chunks with long rests: a leader is in the middle of its sweep at any time.
SWEEPING = {
    "CONSOLIDATION_DECAY_INTERVAL_SECONDS": "1",
    "EUNOE_SWEEP_CHUNK_MS": "0.05",
    "EUNOE_SWEEP_DUTY_RATIO": "0.002",
    # Long enough for a leader to be overtaken before its own clock ends its term.
    "EUNOE_LEASE_TTL_SECONDS": "9",  # LEASE_MS
    "EUNOE_LEASE_RENEW_DEADLINE_SECONDS": "7",
    "EUNOE_LEASE_RETRY_SECONDS": "2",
}
LEASE = "eunoe:{lease}:decay"
# What is left of a lease that has just been renewed: its next renewal is as far off as it can be.
LEASE_MS, RENEWED_MS = 9000, 8700


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two consolidators and a graph to sweep."""
    roles = ("--only", "api,consolidator", "--replicas", "consolidator=2")
    async with running(tmp_path_factory.mktemp("led") / "stack", SWEEPING, *roles) as started:
        async with started.client() as client:
            await client.store_all(notes(200), persistent=True)
        yield started


async def leader(stack: Stack) -> tuple[Running, int]:
    """The process that holds the lease of decay, and its token."""
    found: list[tuple[Running, int]] = []

    async def held() -> bool:
        found.extend(await holding(stack))
        return bool(found)

    await wait_until(held, "a consolidator leads")
    return found[-1]


async def holding(stack: Stack) -> list[tuple[Running, int]]:
    """The consolidator that holds the lease, with its token; none where nobody leads."""
    async with stack.stores().redis() as redis:
        holder, token = await redis.hmget(LEASE, "holder", "token")
    return [
        (each, int(token or 0))
        for each in stack.processes("consolidator")
        if f"-{each.pid}/" in str(holder)
    ]


async def fence(stack: Stack) -> int:
    return await stack.stores().number("MATCH (f:Fence {name: 'decay'}) RETURN f.token")


async def events(stack: Stack, process: Running) -> list[dict[str, object]]:
    lines = process.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def sweeping(stack: Stack) -> tuple[Running, int]:
    """Who leads, once its token stands in the graph."""
    first, token = await leader(stack)

    async def stands() -> bool:
        return await fence(stack) == token

    await wait_until(stands, "the leader's token stands in the graph")
    return first, token


async def test_a_leader_that_slept_past_its_lease_writes_nothing(stack: Stack) -> None:
    first, token = await sweeping(stack)
    first.signal(signal.SIGSTOP)
    try:
        second, newer = await leader_other_than(stack, first)
        assert newer > token

        async def raised() -> bool:
            return await fence(stack) == newer

        await wait_until(raised, "the new leader's token stands in the graph")
        count_before = len(await events(stack, first))
    finally:
        first.signal(signal.SIGCONT)
    await term_ended(stack, first, count_before)
    assert await fence(stack) == newer
    assert (await leader(stack))[0].pid == second.pid


async def test_the_graph_refuses_a_leader_that_still_believes_in_its_lease(stack: Stack) -> None:
    """Redis lost the lease, so two lead at once; the graph rejects the older one.

    It is tried again where the older one's own clock ended its term before it woke.
    """
    for _ in range(8):
        first, token = await sweeping(stack)
        count_before = len(await events(stack, first))
        newer = await overtaken(stack, first)
        assert newer > token
        ends = await term_ended(stack, first, count_before)
        assert await fence(stack) == newer
        if f"token {token} is behind {newer}" in str(ends.get("error")):
            return
    raise AssertionError("no write of an older leader was ever refused")


async def overtaken(stack: Stack, first: Running) -> int:
    """Let another take the lease while `first` sleeps, and wake it; return the newer token.

    The lease is given back before it wakes, so that its renewal succeeds: only the graph knows.
    """
    async with stack.stores().redis() as redis:

        async def renewed() -> bool:
            return bool(await redis.pttl(LEASE) > RENEWED_MS)

        await wait_until(renewed, "the lease is renewed")
        first.signal(signal.SIGSTOP)
        try:
            lease: dict[Any, Any] = await redis.hgetall(LEASE)
            await redis.delete(LEASE)
            _, newer = await leader_other_than(stack, first)

            async def raised() -> bool:
                return await fence(stack) == newer

            await wait_until(raised, "the new leader's token stands in the graph")
            await redis.hset(LEASE, mapping=lease)
            await redis.pexpire(LEASE, LEASE_MS)
        finally:
            first.signal(signal.SIGCONT)
    return newer


async def term_ended(stack: Stack, process: Running, count_before: int) -> dict[str, object]:
    """The first event after `count_before` others with which the process gives up its term."""
    found: list[dict[str, object]] = []

    async def noticed() -> bool:
        found[:] = [
            event for event in (await events(stack, process))[count_before:] if ended(event)
        ]
        return bool(found)

    await wait_until(noticed, "the older leader noticed")
    return found[0]


async def leader_other_than(stack: Stack, first: Running) -> tuple[Running, int]:
    found: list[tuple[Running, int]] = []

    async def other() -> bool:
        found.extend(each for each in await holding(stack) if each[0].pid != first.pid)
        return bool(found)

    await wait_until(other, "another consolidator leads")
    return found[-1]


def ended(event: dict[str, object]) -> bool:
    """Whether a process says that its term is over: refused, lost or run out."""
    return event["event"] in ("lease.lost", "lease.expired", "schedule.failed")
