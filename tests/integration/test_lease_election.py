"""Who leads: one at a time, with rising tokens, and nobody after its lease."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config import LeaseSettings, RedisSettings, StreamSettings
from shared.errors import Fenced
from shared.leading.lease import Election, Lease
from shared.redis.client import RedisClients
from tests.support.stores.redis_server import RedisServer
from tests.support.waiting.conditions import limited, wait_until
from tests.support.waiting.pace import limit_s

Spawn = Callable[..., subprocess.Popen[bytes]]
# A leader that is frozen for a second still leads.
QUICK = LeaseSettings(
    EUNOE_LEASE_TTL_SECONDS=6,
    EUNOE_LEASE_RENEW_DEADLINE_SECONDS=4,
    EUNOE_LEASE_RETRY_SECONDS=0.05,
)


class Leader:
    """A body that does nothing but lead, and remembers how it ended."""

    def __init__(
        self, clients: RedisClients, name: str = "decay", settings: LeaseSettings = QUICK
    ) -> None:
        self.election = Election(name, clients, settings, holder="test")
        self.stopping = asyncio.Event()
        self.terms: list[Lease] = []
        self.ended: list[float] = []
        self.leading = False
        self.cleans_up_until_renewed = False

    async def body(self, lease: Lease) -> None:
        self.terms.append(lease)
        self.leading = True
        try:
            await asyncio.Event().wait()
        finally:
            if self.cleans_up_until_renewed:
                await renewed(lease)
            self.leading = False
            self.ended.append(lease.expires_at - time.monotonic())

    async def run(self) -> None:
        while not self.stopping.is_set():
            await self.election.lead(self.body, self.stopping)


async def renewed(lease: Lease) -> None:
    before = lease.expires_at
    await wait_until(lambda: lease.expires_at > before, "the lease was renewed")


@asynccontextmanager
async def campaigning(*leaders: Leader) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run(), name="tested-leader") for each in leaders]
    try:
        yield
    finally:
        for each in leaders:
            each.stopping.set()
        await asyncio.gather(*tasks)


async def test_one_leads_and_another_takes_over_when_it_stops(clients: RedisClients) -> None:
    # Nobody waits for this lease to run out.
    long = QUICK.model_copy(update={"ttl_s": 86_400.0})
    first, second = Leader(clients, settings=long), Leader(clients, settings=long)
    async with campaigning(first):
        await wait_until(lambda: first.leading, "the first leads")
        async with campaigning(second):
            await renewed(first.terms[0])
            assert (first.leading, second.leading) == (True, False)
            first.stopping.set()
            await wait_until(lambda: second.leading, "the second leads")
            assert not first.leading
    assert second.terms[0].token > first.terms[0].token


async def test_leases_of_other_names_do_not_meet(clients: RedisClients) -> None:
    decay, cluster = Leader(clients, "decay"), Leader(clients, "cluster")
    async with campaigning(decay, cluster):
        await wait_until(lambda: decay.leading and cluster.leading, "both lead")


async def test_the_lease_is_released_only_after_the_body_has_ended(clients: RedisClients) -> None:
    slow, next_one = Leader(clients), Leader(clients)
    slow.cleans_up_until_renewed = True
    async with campaigning(slow):
        await wait_until(lambda: slow.leading, "the slow one leads")
        async with campaigning(next_one):
            slow.stopping.set()
            await wait_until(lambda: next_one.leading, "the next one leads")
            assert not slow.leading
    assert slow.ended[0] > 0


async def test_tokens_rise_when_the_counter_is_lost(clients: RedisClients) -> None:
    """The counter may go with the whole of Redis; milliseconds go on."""
    tokens = []
    for _ in range(4):
        leader = Leader(clients)
        async with campaigning(leader):
            await wait_until(lambda: leader.leading, "it leads")  # noqa: B023
        tokens.append(leader.terms[0].token)
        await clients.command.delete(clients.key("lease", "decay:token"))
    assert tokens == sorted(set(tokens))


async def test_tokens_rise_when_the_clock_does_not(clients: RedisClients) -> None:
    key = clients.key("lease", "decay:token")
    await clients.command.set(key, 9_000_000_000_000_000, px=60_000)
    leader = Leader(clients)
    async with campaigning(leader):
        await wait_until(lambda: leader.leading, "it leads")
    assert leader.terms[0].token == 9_000_000_000_000_001


async def test_a_lease_taken_away_ends_the_body(clients: RedisClients) -> None:
    leader = Leader(clients)
    async with campaigning(leader):
        await wait_until(lambda: leader.leading, "it leads")
        await clients.command.hset(clients.key("lease", "decay"), "holder", "usurper")
        await wait_until(lambda: leader.ended, "its body ended")
        await clients.command.delete(clients.key("lease", "decay"))
        await wait_until(lambda: len(leader.terms) == 2, "it leads again")
    assert leader.terms[1].token > leader.terms[0].token


async def test_a_term_does_not_outlive_its_lease_key(clients: RedisClients) -> None:
    """Renewal never re-creates: someone may have led and gone in between."""
    leader = Leader(clients)
    async with campaigning(leader):
        await wait_until(lambda: leader.leading, "it leads")
        await clients.command.delete(clients.key("lease", "decay"))
        await wait_until(lambda: len(leader.terms) == 2, "a new term began")
    assert leader.terms[1].token > leader.terms[0].token


async def test_what_the_body_raises_ends_the_term_and_frees_the_lease(
    clients: RedisClients,
) -> None:
    async def fenced(lease: Lease) -> None:
        raise Fenced("an older token")

    election = Election("decay", clients, QUICK)
    with pytest.raises(Fenced):
        await election.lead(fenced, asyncio.Event())
    assert election.lease is None
    assert not await clients.command.exists(clients.key("lease", "decay"))


async def test_stopping_ends_a_campaign(clients: RedisClients) -> None:
    leader, waiting = Leader(clients), Leader(clients)
    async with campaigning(leader):
        await wait_until(lambda: leader.leading, "it leads")
        async with campaigning(waiting), limited():
            await asyncio.sleep(0.1)
    assert waiting.terms == []


async def test_a_leader_that_cannot_renew_ends_before_its_lease(
    own_server: RedisServer, stream_settings: StreamSettings
) -> None:
    """The body ends at the renew deadline, while nobody else can lead yet."""
    redis = RedisSettings(REDIS_URL=own_server.url, EUNOE_REDIS_TIMEOUT_SECONDS=0.3)
    clients = RedisClients.open(redis, stream_settings)
    leader = Leader(clients)
    async with campaigning(leader):
        await wait_until(lambda: leader.leading, "it leads")
        own_server.freeze()
        await wait_until(lambda: leader.ended, "its body ended")
        own_server.thaw()
        await wait_until(lambda: len(leader.terms) == 2, "it leads again")
    assert leader.ended[0] > 0, "the lease still held"
    await clients.close()


async def test_a_leader_that_was_frozen_has_lost(clients: RedisClients, spawn: Spawn) -> None:
    """SIGSTOP, another leads, SIGCONT: the old token is the smaller one, and its body ends."""
    frozen = spawn("tests.support.workers.leader", "frozen")
    log = clients.key("test", "terms")
    redis: Any = clients.command

    async def terms() -> list[str]:
        return [str(each) for each in await redis.lrange(log, 0, -1)]

    await wait_until(terms, "the first leads")
    os.kill(frozen.pid, signal.SIGSTOP)
    await redis.pexpire(clients.key("lease", "decay"), 1)  # as at the end of its ttl
    successor = spawn("tests.support.workers.leader", "successor")

    async def both_led() -> bool:
        return len(await terms()) >= 2

    await wait_until(both_led, "the successor leads")
    os.kill(frozen.pid, signal.SIGCONT)

    async def first_ended() -> bool:
        return any(line.startswith("ended frozen") for line in await terms())

    await wait_until(first_ended, "the frozen one's body ended")
    began = [line.split() for line in await terms() if line.startswith("began")]
    assert [name for _, name, _ in began[:2]] == ["frozen", "successor"]
    assert int(began[1][2]) > int(began[0][2])
    lease = await redis.hgetall(clients.key("lease", "decay"))
    assert lease["holder"].startswith("successor/")
    for process in (frozen, successor):
        process.terminate()
        assert process.wait(timeout=limit_s()) == 0
    await redis.delete(log)
