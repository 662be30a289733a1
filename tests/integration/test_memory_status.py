"""GET /memory/{id}/receipt: the stages that are done, and where the other jobs are."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from shared.domain.memory import Memory, iso
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, Related
from shared.streams.job import Job, Stage
from shared.streams.transitions import Retry, Settlement
from tests.support.stack.in_process import API
from tests.support.stack.operating import OTHERS_TOKEN, Operations
from tests.support.stores.graphs import TENANT, a_memory
from tests.support.workers.working import delivered, drained


@pytest.fixture
async def memory(admin: Operations) -> Memory:
    stored = a_memory()
    await admin.graph.memories.create(TENANT, stored)
    return stored


async def _receipt(admin: Operations, memory: Memory) -> Any:
    return await admin.asks("GET", f"/memory/{memory.id}/receipt")


async def _states(admin: Operations, memory: Memory) -> list[str]:
    stages = (await _receipt(admin, memory))["stages"]
    return [stages[stage]["state"] for stage in ("enrich", "embed", "relate")]


async def _enrich(admin: Operations, memory: Memory) -> None:
    row = Enriched(memory.id, memory.version, (), (), {}, {"last_run": "now"})
    assert await admin.graph.work.enriched(TENANT, [row])


async def _embed(admin: Operations, memory: Memory) -> None:
    row = Embedded(memory.id, memory.payload_version, "hash", relate=True)
    assert (await admin.graph.work.embedded(TENANT, [row])).applied


async def _relate(admin: Operations, memory: Memory) -> None:
    row = Related(memory.id, "hash", memory.payload_version, ())
    assert await admin.graph.work.related(TENANT, [row])


async def test_a_fresh_memory_is_stored_and_waits(admin: Operations, memory: Memory) -> None:
    body = await _receipt(admin, memory)
    assert (body["memory_id"], body["version"]) == (memory.id, memory.version)
    assert (body["stored"], body["stored_at"]) == (True, iso(memory.version))
    for name in ("enriched", "embedded", "related", "searchable"):
        assert (body[name], body[f"{name}_at"]) == (False, None)
    assert await _states(admin, memory) == ["waiting"] * 3
    assert body["stages"]["enrich"]["next_at"] > iso(memory.version), "the relay's time"


async def test_it_follows_the_memory_through_its_stages(admin: Operations, memory: Memory) -> None:
    await _enrich(admin, memory)
    body = await _receipt(admin, memory)
    assert (body["enriched"], body["enriched_at"] >= body["stored_at"]) == (True, True)
    assert await _states(admin, memory) == ["done", "waiting", "waiting"]
    await _embed(admin, memory)
    body = await _receipt(admin, memory)
    assert (body["embedded"], body["searchable"], body["related"]) == (True, True, False)
    assert body["searchable_at"] == body["embedded_at"] >= body["stored_at"]
    assert body["related_at"] is None
    await _relate(admin, memory)
    body = await _receipt(admin, memory)
    assert (body["related"], await _states(admin, memory)) == (True, ["done"] * 3)
    assert body["related_at"] >= body["embedded_at"]


async def test_a_job_is_found_where_it_is(admin: Operations, memory: Memory) -> None:
    stream = admin.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, memory.id, memory.version)])
    assert (await _states(admin, memory))[0] == "queued"
    [held] = await delivered(stream, "worker")
    assert (await _states(admin, memory))[0] == "in_flight"
    await stream.settle("worker", [Settlement(held, Retry("timeout", 3600))])
    step = (await _receipt(admin, memory))["stages"]["enrich"]
    assert (step["state"], step["attempts"]) == ("delayed", 1)
    assert step["next_at"] is not None
    assert step["last_error"] == "timeout"
    await drained(stream)
    assert (await _states(admin, memory))[0] == "waiting"


async def test_what_was_handed_back_is_queued(admin: Operations, memory: Memory) -> None:
    """Also an entry that went silent once, which nobody holds."""
    stream = admin.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, memory.id, memory.version)])
    [held] = await delivered(stream, "first")
    redis: Any = stream._command
    await redis.xclaim(stream.keys.jobs, "workers", "second", 0, [held.entry_id])
    await stream.hand_back("second")
    assert (await _states(admin, memory))[0] == "queued"
    await drained(stream)


async def test_a_dead_job_gives_its_error_as_the_dead_stream_does(
    admin: Operations, memory: Memory
) -> None:
    job = Job(TENANT, memory.id, memory.payload_version, attempt=4)
    [entry_id] = await admin.dead_lettered(
        Stage.EMBED, [job], "exhausted", "embedding: input refused, HTTP 400"
    )
    body = await _receipt(admin, memory)
    step = body["stages"]["embed"]
    assert (step["state"], step["attempts"]) == ("dead", 5)
    assert step["last_error"] == "embedding: input refused, HTTP 400"
    assert (step["dead_id"], step["failed_at"] is None) == (entry_id, False)
    await admin.graph.work.give_up(TENANT, Stage.EMBED, [(memory.id, memory.version)])
    assert (await _states(admin, memory))[1] == "dead"
    await admin.streams[Stage.EMBED].discard([entry_id])
    assert (await _states(admin, memory))[1] == "given_up"


async def test_a_change_keeps_the_old_vector_searchable(admin: Operations, memory: Memory) -> None:
    await _enrich(admin, memory)
    await _embed(admin, memory)
    await _relate(admin, memory)
    await admin.graph.work.requeue(TENANT, Stage.EMBED, [memory.id])
    body = await _receipt(admin, memory)
    assert (body["embedded"], body["related"], body["searchable"]) == (False, False, True)


async def test_a_receipt_is_its_tenant_s_alone(admin: Operations, memory: Memory) -> None:
    path = f"/memory/{memory.id}/receipt"
    await admin.asks("GET", path, 404, headers=OTHERS_TOKEN)
    await admin.asks("GET", f"/memory/{uuid4()}/receipt", 404)
    await admin.asks("GET", "/memory/x/receipt", 400)
    async with admin.client.get(path, headers=API) as answer:
        assert answer.status == 200, "no admin is needed"
