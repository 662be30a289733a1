"""The Redis boundary: our errors, bounded waits, and cancellations that arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.config import RedisSettings, Settings, StreamSettings
from shared.errors import PermanentError, Unavailable
from shared.graph.engine.client import _observed
from shared.redis.client import RedisClients, Script, translated
from shared.streams.job import Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.streams.transitions import DeadLetter, Done, Retry, Settled, Settlement
from tests.support.stores.redis_server import RedisServer, free_port
from tests.support.waiting.conditions import limited
from tests.support.waiting.pace import limit_s
from tests.support.workers.working import delivered, jobs


async def test_nothing_connects_before_the_first_command(stream_settings: StreamSettings) -> None:
    nowhere = RedisSettings(REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    clients = RedisClients.open(nowhere, stream_settings)
    async with limited():
        with pytest.raises(Unavailable, match="redis"):
            await clients.ping()
    await clients.close()


async def test_a_server_that_hangs_is_unavailable_after_one_timeout(
    tmp_path: Path, stream_settings: StreamSettings
) -> None:
    server = RedisServer(tmp_path, graph=False)
    server.start()
    settings = RedisSettings(REDIS_URL=server.url, EUNOE_REDIS_TIMEOUT_SECONDS=limit_s(0.2))
    clients = RedisClients.open(settings, stream_settings)
    await clients.ping()
    before = (await clients.command.info("commandstats"))["cmdstat_ping"]["calls"]
    server.freeze()
    with pytest.raises(Unavailable):
        await clients.ping()
    server.thaw()
    await clients.ping()
    after = (await clients.command.info("commandstats"))["cmdstat_ping"]["calls"]
    assert after <= before + 2, "a timeout is not repeated"
    await clients.close()
    server.stop()


async def test_a_lost_connection_is_made_again_and_counted(
    clients: RedisClients,
) -> None:
    await clients.ping()
    before = REGISTRY.get_sample_value("eunoe_redis_reconnects_total", {"client": "command"}) or 0
    await clients.command.client_kill_filter(_type="normal", skipme=False)
    await clients.ping()
    after = REGISTRY.get_sample_value("eunoe_redis_reconnects_total", {"client": "command"}) or 0
    assert after == before + 1


async def test_what_redis_refuses_is_permanent(clients: RedisClients) -> None:
    key = clients.key("test", "text")
    await clients.command.set(key, "x", px=60_000)
    with pytest.raises(PermanentError, match="WRONGTYPE"), translated():
        await clients.command.lpush(key, "y")


async def test_a_full_server_is_unavailable_and_still_takes_acks(
    tmp_path: Path, stream_settings: StreamSettings
) -> None:
    """Out of memory, publishing must fail and finishing must go on: it frees memory."""
    server = RedisServer(tmp_path, graph=False)
    server.start()
    clients = RedisClients.open(RedisSettings(REDIS_URL=server.url), stream_settings)
    stream = Stream(clients, policy_for(Stage.ENRICH, Settings(streams=stream_settings)))
    await stream.publish(jobs(4))
    held = await delivered(stream, "a")
    await clients.command.config_set("maxmemory", 1)
    with pytest.raises(Unavailable):
        await stream.publish(jobs(9))
    settlements = [
        Settlement(held[0], Done()),
        Settlement(held[1], Retry("", 60.0)),
        Settlement(held[2], DeadLetter("x", "y")),
    ]
    assert await stream.settle("a", settlements) == [Settled.OK] * 3
    depth = await stream.depth()
    assert (depth.pending, depth.delayed, depth.dead) == (1, 1, 1)
    await clients.close()
    server.stop()


async def test_a_blocking_read_outlasts_its_block(clients: RedisClients, enrich: Stream) -> None:
    """redis-py 8 would time out at 5 s, send it again ten times, and fail after 58 s."""
    await enrich.read("a", 1)
    begun = time.monotonic()
    assert await enrich.read("a", 1) == []
    assert time.monotonic() - begun > 0.04


async def test_a_script_of_a_restarted_server_is_loaded_again(
    clients: RedisClients, enrich: Stream
) -> None:
    await enrich.depth()
    await clients.command.script_flush()
    await enrich.depth()


async def test_a_cancellation_is_never_swallowed(clients: RedisClients) -> None:
    """redis-py sends through asyncio.wait_for, which before 3.12 loses a cancellation that
    comes as the send completes: a consumer that was stopped read on for ever."""
    ping = Script(clients.command, "return 0")

    async def forever() -> None:
        while True:
            await ping([clients.key("test", "none")], ["x"])

    for turn in range(300):
        task = asyncio.create_task(forever(), name="to-be-cancelled")
        for _ in range(turn % 40):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=limit_s())
        assert done, f"turn {turn}: still running after its cancellation"
        assert task.cancelled()


@pytest.mark.parametrize(
    "boundary", [translated, partial(_observed, "read")], ids=["redis", "graph"]
)
async def test_a_cancellation_outlives_the_error_that_swallowed_it(
    boundary: Callable[[], AbstractContextManager[None]],
) -> None:
    """Redis closed the connection at the moment of the cancellation: a retrying loop must end."""
    began = asyncio.Event()

    async def call() -> None:
        with boundary():
            try:
                began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RedisConnectionError("Connection closed by server.") from None

    task = asyncio.create_task(call(), name="to-be-cancelled")
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
