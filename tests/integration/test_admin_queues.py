"""GET /admin/queues: every stage's depth, its oldest job, and who reads it."""

from __future__ import annotations

from typing import Any

from shared.streams.job import Job, Stage
from shared.streams.transitions import Defer, Settlement
from tests.support.stack.operating import Operations
from tests.support.stores.graphs import TENANT
from tests.support.waiting.pace import limit_s
from tests.support.workers.working import Recorder, consuming, delivered, drained, jobs


async def _of(admin: Operations, stage: Stage) -> Any:
    body = await admin.asks("GET", "/admin/queues")
    return next(each for each in body["streams"] if each["stream"] == stage)


async def test_every_stage_is_there_and_empty(admin: Operations) -> None:
    body = await admin.asks("GET", "/admin/queues")
    assert [each["stream"] for each in body["streams"]] == [stage.value for stage in Stage]
    for each in body["streams"]:
        counts = ("depth", "ready", "in_flight", "delayed", "dead")
        assert [each[name] for name in counts] == [0] * 5
        assert (each["oldest_age_seconds"], each["consumers"]) == (None, [])


async def test_jobs_are_counted_where_they_are(admin: Operations) -> None:
    stream = admin.streams[Stage.EMBED]
    await admin.dead_lettered(Stage.EMBED, [Job(TENANT, "dead", 1)])
    await stream.publish(jobs(4))
    first, *_ = await delivered(stream, "worker", 2)
    await stream.settle("worker", [Settlement(first, Defer("", 3600))])
    found = await _of(admin, Stage.EMBED)
    counts = ("depth", "ready", "in_flight", "delayed", "dead")
    assert [found[name] for name in counts] == [4, 2, 1, 1, 1]
    assert found["oldest_age_seconds"] >= 0
    [worker] = [each for each in found["consumers"] if each["name"] == "worker"]
    assert worker["pending"] == 1
    await drained(stream)


async def test_a_consumer_s_last_heartbeat_is_reported(admin: Operations) -> None:
    async with consuming(admin.streams[Stage.ENRICH], Recorder(), name="alive") as running:
        await running.consumer.ready.wait()
        [found] = (await _of(admin, Stage.ENRICH))["consumers"]
        assert (found["name"], found["alive"]) == ("alive", True)
        assert found["idle_seconds"] < limit_s(5)
        assert found["last_heartbeat"].endswith("+00:00")
    assert (await _of(admin, Stage.ENRICH))["consumers"] == []
