"""Pattern nodes and EXEMPLIFIES: one Pattern per type, each memory counted once."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.enricher.stages.patterns import key_terms
from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.graph.stages.patterns import pattern_id
from shared.streams.job import Job
from shared.telemetry.metrics import STORE_DURATION
from tests.support.stores.graphs import TENANT, associate, cypher
from tests.support.workers.enriching import Enriching, typed_by_rule

DECISION = pattern_id("Decision")
PATTERNS = (
    "MATCH (p:Pattern) RETURN p.id, p.type, p.observations, p.confidence, p.key_terms,"
    " p.created_at, p.updated_at ORDER BY p.id"
)
EDGES = "MATCH (m)-[x:EXEMPLIFIES]->(p) RETURN m.id, p.id, x.confidence, x.updated_at ORDER BY m.id"


def decisions(count: int) -> list[Memory]:
    return [typed_by_rule(f"We decided to deploy Postgres for team {n}") for n in range(count)]


async def test_enough_of_a_type_make_its_pattern(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(4)
    await work.store(*memories)
    await work.enrich(*memories)
    [[name, kind, observations, confidence, terms, *_]] = await cypher(settings, PATTERNS)
    assert (name, kind, observations) == (DECISION, "Decision", 4)
    assert float(confidence) == pytest.approx(0.5)
    shown = "[decided, deploy, postgres, team]"
    assert terms == shown
    edges = await cypher(settings, EDGES)
    assert [edge[:2] for edge in edges] == sorted([memory.id, DECISION] for memory in memories)
    [block] = (await work.now(memories[0])).enrichment["patterns_detected"]
    assert block == {
        "type": "Decision",
        "similar_memories": 3,
        "key_terms": ["decided", "deploy", "postgres", "team"],
    }


async def test_a_rerun_raises_nothing(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(5)
    await work.store(*memories)
    await work.enrich(*memories)
    patterns, edges = await cypher(settings, PATTERNS), await cypher(settings, EDGES)
    for _ in range(3):
        await work.enrich(*memories, run="again")
    assert await cypher(settings, PATTERNS) == patterns
    assert await cypher(settings, EDGES) == edges
    assert (await work.now(memories[0])).enrichment["forced"] is True


async def test_each_further_memory_counts_once(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(16)
    await work.store(*memories)
    for memory in memories:
        await work.enrich(memory)
    [[_, _, observations, confidence, *_]] = await cypher(settings, PATTERNS)
    assert (int(observations), float(confidence)) == (16, 0.95)
    [block] = (await work.now(memories[0])).enrichment["patterns_detected"]
    assert block["similar_memories"] == 10


async def test_too_few_or_only_guesses_make_none(work: Enriching, settings: GraphSettings) -> None:
    few = decisions(3)
    guesses = [typed_by_rule(f"plain text {n}") for n in range(6)]
    await work.store(*few, *guesses)
    await work.enrich(*few, *guesses)
    assert await cypher(settings, PATTERNS) == []
    assert (await work.now(few[0])).enrichment["patterns_detected"] == []


async def test_another_type_takes_the_edge_away(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(5)
    await work.store(*memories)
    await work.enrich(*memories)
    await associate(work.graph, TENANT, memories[0].id, memories[1].id, "EXEMPLIFIES")
    await work.patch(memories[0], type="Habit")
    await work.enrich(memories[0])
    edges = [edge[:2] for edge in await cypher(settings, EDGES)]
    authored = [memories[0].id, memories[1].id]
    others = [[memory.id, DECISION] for memory in memories[1:]]
    assert edges == sorted([authored, *others])


async def test_what_went_counts_no_more(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(8)
    await work.store(*memories)
    await work.enrich(*memories[:7])
    await work.patch(memories[0], type="Habit")
    await work.enrich(memories[0])
    await work.graph.memories.delete(TENANT, [memories[1].id])
    await work.enrich(memories[7])
    [[_, _, observations, confidence, *_]] = await cypher(settings, PATTERNS)
    assert int(observations) == 6
    assert float(confidence) == pytest.approx(0.6)


async def test_a_pattern_of_deleted_memories_is_answered_no_more(work: Enriching) -> None:
    """Its key terms and its count stayed in /analyze until the next memory of the type."""
    memories = decisions(9)
    await work.store(*memories)
    await work.enrich(*memories)

    async def patterns() -> list[tuple[str, int]]:
        return [(p.type, p.observations) for p in await work.graph.analytics.patterns(TENANT, 10)]

    assert await patterns() == [("Decision", 9)]
    await work.graph.memories.delete(TENANT, [memory.id for memory in memories[:2]])
    [pattern] = await work.graph.analytics.patterns(TENANT, 10)
    assert pattern.observations == 7
    assert pattern.confidence == pytest.approx(0.65)
    await work.graph.memories.delete(TENANT, [memory.id for memory in memories[2:]])
    assert await patterns() == []


async def test_batches_that_meet_make_one_pattern(work: Enriching, settings: GraphSettings) -> None:
    memories = decisions(40)
    await work.store(*memories)
    parts = [memories[at : at + 5] for at in range(0, 40, 5)]
    await asyncio.gather(*(work.enrich(*part) for part in parts))
    [[_, _, observations, *_]] = await cypher(settings, PATTERNS)
    assert int(observations) == 40


async def test_tenants_have_their_own(work: Enriching, settings: GraphSettings) -> None:
    own, theirs = decisions(4), decisions(3)
    await work.store(*own)
    await work.store(*theirs, tenant="other")
    await work.enrich(*own)
    await work.enrich(*theirs, tenant="other")
    assert len(await cypher(settings, PATTERNS)) == 1
    assert await cypher(settings, PATTERNS, tenant="other") == []


async def test_one_id_in_two_tenants_keeps_its_own_entities(work: Enriching) -> None:
    """A backup restored into another tenant brings its ids along."""
    own = typed_by_rule("We met with Alice Johnson")
    theirs = typed_by_rule("We met with Robert Miller", id=own.id)
    await work.store(own)
    await work.store(theirs, tenant="other")
    held = [(await work.now(own), TENANT), (await work.now(theirs, "other"), "other")]
    await work.enricher([Job(tenant, each.id, each.version) for each, tenant in held])
    assert (await work.now(own)).entities == {"people": ["Alice Johnson"]}
    assert (await work.now(theirs, "other")).entities == {"people": ["Robert Miller"]}


def _graph_calls() -> float:
    return sum(
        sample.value
        for metric in STORE_DURATION.collect()
        for sample in metric.samples
        if sample.name.endswith("_count") and sample.labels["store"] == "graph"
    )


@pytest.mark.parametrize("size", [1, 8, 256])
async def test_a_batch_is_a_fixed_number_of_queries(work: Enriching, size: int) -> None:
    texts = ("decided to use Kafka", "usually prefer tea", "wrote it daily", "realized it", "plain")
    memories = [typed_by_rule(f"{texts[n % 5]} {n}", session_id=f"s{n}") for n in range(size)]
    await work.store(*memories)
    jobs = [memory.id for memory in memories]
    before = _graph_calls()
    await work.enrich(*memories)
    # get (here), get, previous in five windows, whether anybody follows, unsettled, merged,
    # samples, exemplify, stale, enriched
    assert _graph_calls() - before <= 14
    held = await work.graph.memories.get(TENANT, jobs)
    assert all(memory.enriched for memory in held.values())


def test_key_terms_are_words_that_say_something() -> None:
    texts = ["We should use Kafka because Kafka scales", "Kafka und Redis, 12345 schnell"]
    assert key_terms(texts) == ("kafka", "redis", "scales", "schnell")
    assert key_terms(["x" * 100, "the with from", "{json: 1}"]) == ("json",)
    assert json.dumps(key_terms([""])) == "[]"
