"""/enrichment: a tenant's numbers, and enriching again whatever was done before."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from shared.config import GraphSettings
from shared.domain.memory import NEVER_MS, Memory
from shared.events.enrichment_stats import Tally
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, Related
from shared.streams.job import Job, Stage
from tests.support.stack.in_process import API
from tests.support.stack.operating import OTHER, OTHERS_TOKEN, Operations
from tests.support.stores.graphs import TENANT, a_memory, cypher
from tests.support.workers.working import Recorder, consuming, delivered, drained

REPROCESS = "/enrichment/reprocess"


async def _enriched(admin: Operations, tenant: str = TENANT) -> Memory:
    memory = a_memory()
    await admin.graph.memories.create(tenant, memory)
    row = Enriched(memory.id, memory.version, (), (), {}, {"last_run": "now"})
    assert await admin.graph.work.enriched(tenant, [row])
    return memory


async def _status(admin: Operations, **headers: str) -> Any:
    return await admin.asks("GET", "/enrichment/status", headers=headers)


async def test_without_an_enricher_it_is_stopped(admin: Operations) -> None:
    body = await _status(admin)
    assert body["status"] == "stopped"
    assert (body["queue_size"], body["pending"], body["inflight"]) == (0, 0, 0)
    assert body["max_attempts"] == 3
    assert set(body["stats"]) >= {
        *("processed_total", "successes", "failures", "last_success_id", "last_success_at"),
        *("last_error", "last_error_at"),
    }
    assert set(body["classification"]) >= {
        *("llm_attempts", "llm_successes", "fallbacks", "pattern_classifications"),
        *("last_error", "last_error_at"),
    }
    assert body["spacy_model"] == "en_core_web_sm"


async def test_it_runs_while_a_consumer_reads(admin: Operations) -> None:
    async with consuming(admin.streams[Stage.ENRICH], Recorder()) as running:
        await running.consumer.ready.wait()
        assert (await _status(admin))["status"] == "running"
    assert (await _status(admin))["status"] == "stopped"


async def test_the_numbers_are_the_tenant_s_own(admin: Operations) -> None:
    stream = admin.streams[Stage.ENRICH]
    for tenant, count in ((TENANT, 1), (OTHER, 3)):
        for _ in range(count):
            memory = a_memory()
            await admin.graph.memories.create(tenant, memory)
            await stream.publish([Job(tenant, memory.id, memory.version)])
    await admin.stats.add({OTHER: Tally(successes=2)}, spacy_model="blank")
    await delivered(stream, "worker", 3)
    status = await _status(admin)
    theirs = await _status(admin, **OTHERS_TOKEN)
    assert (status["queue_size"], status["pending"], status["inflight"]) == (1, 1, 1)
    assert (theirs["queue_size"], theirs["pending"], theirs["inflight"]) == (3, 3, 2)
    assert len(status["pending_ids"]) == 1
    assert len(theirs["pending_ids"]) == 3
    assert status["stats"]["processed_total"] == 0
    assert (theirs["stats"]["processed_total"], theirs["spacy_model"]) == (2, "blank")
    await drained(stream)


async def test_the_status_needs_no_admin(admin: Operations) -> None:
    async with admin.client.get("/enrichment/status", headers=API) as answer:
        assert answer.status == 200
    async with admin.client.get("/enrichment/status") as answer:
        assert answer.status == 401


async def test_what_was_done_is_done_again(admin: Operations, settings: GraphSettings) -> None:
    first, second = await _enriched(admin), await _enriched(admin)
    body = await admin.asks("POST", REPROCESS, 202, json={"ids": [second.id, first.id, first.id]})
    assert body == {
        "status": "queued",
        "count": 2,
        "ids": sorted([first.id, second.id]),
        "missing": [],
    }
    found = await drained(admin.streams[Stage.ENRICH])
    assert {(job.memory_id, job.version) for job in found} == {
        (each.id, each.version) for each in (first, second)
    }
    assert len({job.run for job in found} - {""}) == 1, "forced by one run"
    rows = await cypher(settings, "MATCH (m:Memory) RETURN m.enriched_version, m.enrich_due")
    assert all(reached == 0 and 0 < due < NEVER_MS for reached, due in rows)


async def test_what_has_a_vector_is_related_again(
    admin: Operations, settings: GraphSettings
) -> None:
    plain, standing = await _enriched(admin), await _enriched(admin)
    row = Embedded(standing.id, standing.payload_version, "hash", relate=True)
    assert (await admin.graph.work.embedded(TENANT, [row])).applied
    done = Related(standing.id, "hash", standing.payload_version, ())
    assert await admin.graph.work.related(TENANT, [done])
    ordinary = Job(TENANT, standing.id, standing.payload_version)
    await admin.dead_lettered(Stage.RELATE, [ordinary])
    body = await admin.asks("POST", REPROCESS, 202, json={"ids": [plain.id, standing.id]})
    assert body["count"] == 2
    [job] = await drained(admin.streams[Stage.RELATE])
    assert (job.memory_id, job.version) == (standing.id, standing.payload_version)
    assert job.run
    [[due]] = await cypher(settings, "MATCH (m:Memory) WHERE m.relate_due > 0 RETURN m.id")
    assert due == standing.id, "a hint that is lost is the relay's"
    assert await admin.streams[Stage.RELATE].publish([ordinary], exempt=True) == ["new"]
    await drained(admin.streams[Stage.RELATE])
    await drained(admin.streams[Stage.ENRICH])


async def test_a_lost_hint_is_the_relay_s(admin: Operations) -> None:
    """Also where an ordinary job of the memory lies in the dead stream."""
    memory = await _enriched(admin)
    job = Job(TENANT, memory.id, memory.version)
    await admin.dead_lettered(Stage.ENRICH, [job])
    await admin.graph.work.requeue(TENANT, Stage.ENRICH, [memory.id])
    await admin.graph.work.give_up(TENANT, Stage.ENRICH, [(memory.id, memory.version)])
    await admin.asks("POST", REPROCESS, 202, json={"ids": memory.id})
    stream = admin.streams[Stage.ENRICH]
    await drained(stream)  # the forced one, lost
    [due] = await admin.graph.work.claim_due(TENANT, Stage.ENRICH, NEVER_MS - 1, 10)
    assert due.id == memory.id
    assert await stream.publish([job], exempt=True) == ["new"]
    assert [each.tenant for each in await drained(stream)] == [TENANT]
    assert [tenant for tenant, _ in await admin.outbox.due(NEVER_MS, limit=9)] == [TENANT]


@pytest.mark.parametrize("form", ["list", "text", "query"])
async def test_ids_come_in_three_forms(admin: Operations, form: str) -> None:
    known, unknown = (await _enriched(admin)).id, str(uuid4())
    text = f" {known.upper()} , {unknown},"
    match form:
        case "list":
            body = await admin.asks("POST", REPROCESS, 202, json={"ids": [known, unknown]})
        case "text":
            body = await admin.asks("POST", REPROCESS, 202, json={"ids": text})
        case _:
            body = await admin.asks("POST", REPROCESS, 202, params={"ids": text})
    sent_ids = sorted([known, unknown])
    assert (body["count"], body["ids"], body["missing"]) == (2, sent_ids, [unknown])
    await drained(admin.streams[Stage.ENRICH])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "No memory ids provided for reprocessing"),
        ({}, "No memory ids provided for reprocessing"),
        ({"ids": []}, "No memory ids provided for reprocessing"),
        ({"ids": " , "}, "No memory ids provided for reprocessing"),
        ({"ids": ["x"]}, "memory_id must be a valid UUID"),
        ({"ids": [1]}, "'ids' must be a list of memory ids or a comma-separated string"),
        ({"ids": ["x"] * 5001}, "'ids' must not hold more than 5000 ids"),
    ],
)
async def test_what_names_no_memories_is_refused(
    admin: Operations, given: Any, reason: str
) -> None:
    assert (await admin.asks("POST", REPROCESS, 400, json=given))["error"] == reason


async def test_another_tenant_s_memory_is_none(admin: Operations) -> None:
    memory = await _enriched(admin)
    body = await admin.asks("POST", REPROCESS, 202, json={"ids": [memory.id]}, headers=OTHERS_TOKEN)
    assert (body["count"], body["ids"], body["missing"]) == (1, [memory.id], [memory.id])
    assert await drained(admin.streams[Stage.ENRICH]) == []


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "guess"}])
async def test_an_admin_call_without_an_api_token_leaves_its_line(
    admin: Operations, headers: dict[str, str]
) -> None:
    for path, lines in ((REPROCESS, 1), ("/enrichment/status", 0)):
        with capture_logs() as logged:
            async with admin.client.request(
                "POST" if lines else "GET", path, headers=headers
            ) as got:
                assert got.status == 401
        calls = [line for line in logged if line["event"] == "admin.called"]
        assert [(line["action"], line["outcome"]) for line in calls] == [
            (f"POST {REPROCESS}", "refused")
        ] * lines
        assert "guess" not in str(calls)


async def test_reprocessing_needs_the_admin_token(admin: Operations) -> None:
    async with admin.client.post(REPROCESS, headers=API, json={}) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"] == "Admin authorization required"
