"""GET /memory/{id}/receipt: what is done, and where the job is of what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from shared.connection import RedisClients
from shared.graph.work import Embedded, Enriched, Related
from shared.job import Job, Stage
from shared.memory import Memory, iso
from shared.stream import Settlement
from tests.conftest import MakeStream
from tests.graphs import TENANT, a_memory, graph_settings, opened
from tests.operating import OTHERS_TOKEN, Operations, operated
from tests.serving import API
from tests.working import delivered, drained


@pytest.fixture
async def api(
    clients: RedisClients, make_stream: MakeStream, falkordb_url: str
) -> AsyncIterator[Operations]:
    streams = {stage: make_stream(stage) for stage in Stage}
    async with (
        opened(graph_settings(falkordb_url)) as graph,
        operated(clients, graph, streams) as started,
    ):
        yield started


@pytest.fixture
async def memory(api: Operations) -> Memory:
    stored = a_memory()
    await api.graph.memories.create(TENANT, stored)
    return stored


async def _receipt(api: Operations, memory: Memory) -> Any:
    return await api.asks("GET", f"/memory/{memory.id}/receipt")


async def _states(api: Operations, memory: Memory) -> list[str]:
    stages = (await _receipt(api, memory))["stages"]
    return [stages[stage]["state"] for stage in ("enrich", "embed", "relate")]


async def _enrich(api: Operations, memory: Memory) -> None:
    row = Enriched(memory.id, memory.version, (), (), {}, {"last_run": "now"})
    assert await api.graph.work.enriched(TENANT, [row])


async def _embed(api: Operations, memory: Memory) -> None:
    row = Embedded(memory.id, memory.payload_version, "hash", relate=True)
    assert (await api.graph.work.embedded(TENANT, [row])).applied


async def _relate(api: Operations, memory: Memory) -> None:
    row = Related(memory.id, "hash", memory.payload_version, ())
    assert await api.graph.work.related(TENANT, [row])


async def test_a_fresh_memory_is_stored_and_waits(api: Operations, memory: Memory) -> None:
    body = await _receipt(api, memory)
    assert (body["memory_id"], body["version"]) == (memory.id, memory.version)
    assert (body["stored"], body["stored_at"]) == (True, iso(memory.version))
    for name in ("enriched", "embedded", "related", "searchable"):
        assert (body[name], body[f"{name}_at"]) == (False, None)
    assert await _states(api, memory) == ["waiting"] * 3
    assert body["stages"]["enrich"]["next_at"] > iso(memory.version), "the relay's time"


async def test_it_follows_the_memory_through_its_stages(api: Operations, memory: Memory) -> None:
    await _enrich(api, memory)
    body = await _receipt(api, memory)
    assert (body["enriched"], body["enriched_at"] >= body["stored_at"]) == (True, True)
    assert await _states(api, memory) == ["done", "waiting", "waiting"]
    await _embed(api, memory)
    body = await _receipt(api, memory)
    assert (body["embedded"], body["searchable"], body["related"]) == (True, True, False)
    assert body["searchable_at"] == body["embedded_at"] >= body["stored_at"]
    assert body["related_at"] is None
    await _relate(api, memory)
    body = await _receipt(api, memory)
    assert (body["related"], await _states(api, memory)) == (True, ["done"] * 3)
    assert body["related_at"] >= body["embedded_at"]


async def test_a_job_is_found_where_it_is(api: Operations, memory: Memory) -> None:
    stream = api.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, memory.id, memory.version)])
    assert (await _states(api, memory))[0] == "queued"
    [held] = await delivered(stream, "worker")
    assert (await _states(api, memory))[0] == "in_flight"
    await stream.settle("worker", [Settlement.retry(held, 3600, "timeout")])
    step = (await _receipt(api, memory))["stages"]["enrich"]
    assert (step["state"], step["attempts"]) == ("delayed", 1)
    assert step["next_at"] is not None
    assert step["last_error"] == "timeout"
    await drained(stream)
    assert (await _states(api, memory))[0] == "waiting"


async def test_what_was_handed_back_is_queued(api: Operations, memory: Memory) -> None:
    """Also an entry that went silent once, which nobody holds."""
    stream = api.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, memory.id, memory.version)])
    [held] = await delivered(stream, "first")
    redis: Any = stream._command
    await redis.xclaim(stream._jobs, "workers", "second", 0, [held.entry_id])
    await stream.hand_back("second")
    assert (await _states(api, memory))[0] == "queued"
    await drained(stream)


async def test_a_dead_job_gives_its_error_as_the_dead_stream_does(
    api: Operations, memory: Memory
) -> None:
    job = Job(TENANT, memory.id, memory.payload_version, attempt=4)
    [entry_id] = await api.buried(
        Stage.EMBED, [job], "exhausted", "embedding: input refused, HTTP 400"
    )
    body = await _receipt(api, memory)
    step = body["stages"]["embed"]
    assert (step["state"], step["attempts"]) == ("dead", 5)
    assert step["last_error"] == "embedding: input refused, HTTP 400"
    assert (step["dead_id"], step["failed_at"] is None) == (entry_id, False)
    await api.graph.work.give_up(TENANT, Stage.EMBED, [(memory.id, memory.version)])
    assert (await _states(api, memory))[1] == "dead"
    await api.streams[Stage.EMBED].discard([entry_id])
    assert (await _states(api, memory))[1] == "given_up"


async def test_a_change_keeps_the_old_vector_searchable(api: Operations, memory: Memory) -> None:
    await _enrich(api, memory)
    await _embed(api, memory)
    await _relate(api, memory)
    await api.graph.work.requeue(TENANT, Stage.EMBED, [memory.id])
    body = await _receipt(api, memory)
    assert (body["embedded"], body["related"], body["searchable"]) == (False, False, True)


async def test_a_receipt_is_its_tenant_s_alone(api: Operations, memory: Memory) -> None:
    path = f"/memory/{memory.id}/receipt"
    await api.asks("GET", path, 404, headers=OTHERS_TOKEN)
    await api.asks("GET", f"/memory/{uuid4()}/receipt", 404)
    await api.asks("GET", "/memory/x/receipt", 400)
    async with api.client.get(path, headers=API) as answer:
        assert answer.status == 200, "no admin is needed"
