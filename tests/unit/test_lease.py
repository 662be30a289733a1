"""When a leader is wedged, and when a schedule is due."""

from __future__ import annotations

import time

import pytest

from shared.config import LeaseSettings, RedisSettings, StreamSettings
from shared.leading.lease import Election, Lease
from shared.leading.schedule import due_in_s
from shared.redis.client import RedisClients


@pytest.mark.parametrize(("left_s", "wedged"), [(1.0, False), (-4.0, False), (-5.1, True)])
async def test_a_body_that_outlives_its_lease_by_5_seconds_is_wedged(
    left_s: float, wedged: bool
) -> None:
    clients = RedisClients.open(RedisSettings(REDIS_URL="redis://127.0.0.1:1"), StreamSettings())
    election = Election("decay", clients, LeaseSettings())
    assert election.healthy()
    election.lease = Lease(7, "me", expires_at=time.monotonic() + left_s)
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
