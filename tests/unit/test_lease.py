"""A lease counts by the local clock, from before its request was sent."""

from __future__ import annotations

import pytest

from shared.config import LeaseSettings, RedisSettings, StreamSettings
from shared.leading.lease import Election, Lease
from shared.leading.schedule import due_in_s
from shared.redis.client import RedisClients


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_runs_out_by_the_local_clock() -> None:
    clock = FakeClock()
    lease = Lease("decay", 7, "me", expires_at=115.0, clock=clock)
    assert lease.remaining_s() == 15.0
    clock.now = 116.0
    assert lease.remaining_s() == -1.0
    lease.expires_at = 130.0
    assert lease.remaining_s() == 14.0


@pytest.mark.parametrize(("expires_at", "wedged"), [(101.0, False), (95.1, False), (94.9, True)])
async def test_a_body_that_outlives_its_lease_by_5_seconds_is_wedged(
    expires_at: float, wedged: bool
) -> None:
    clients = RedisClients.open(RedisSettings(REDIS_URL="redis://127.0.0.1:1"), StreamSettings())
    clock = FakeClock()
    election = Election("decay", clients, LeaseSettings(), clock=clock)
    assert election.healthy()
    election.lease = Lease("decay", 7, "me", expires_at=expires_at, clock=clock)
    assert election.healthy() is not wedged
    await clients.close()


@pytest.mark.parametrize(
    ("now_ms", "last_ms", "due"),
    [
        (1_000_000, 0, 0.0),  # nobody knows: soon
        (1_000_000, 990_000, 50.0),
        (1_000_000, 940_000, 0.0),
        (1_000_000, 1_000_000, 60.0),
        (1_000_000, 2_000_000, 0.0),  # the server's clock was set back: soon, not much later
    ],
)
def test_when_a_schedule_is_due(now_ms: int, last_ms: int, due: float) -> None:
    assert due_in_s(now_ms, last_ms, 60.0) == due
