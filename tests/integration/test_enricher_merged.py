"""After a merge the memories that name the alias are found under the other one's name."""

from __future__ import annotations

import pytest

from services.api.graph.entities import Entities
from services.enricher.entities.recognizer import renamed
from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from tests.support.stores.graphs import TENANT, cypher
from tests.support.workers.enriching import Enriching, typed_by_rule
from tests.support.workers.working import drained

BOB = "entity:people:bob-smithson"
ROBERT = "entity:people:robert-smithson"
REFERENCES = "MATCH (e:Entity)-[:REFERENCED_IN]->(m) RETURN e.id, m.id"


@pytest.fixture
def entities(work: Enriching) -> Entities:
    clients = work.clients
    outbox = Outbox(clients, work.streams, delay_s=60)
    return Entities(work.graph, outbox)


async def _stored(work: Enriching, *texts: str, tags: tuple[str, ...] = ()) -> list[Memory]:
    memories = [typed_by_rule(text, tags=tags) for text in texts]
    await work.store(*memories)
    await work.enrich(*memories)
    for stage in work.streams.values():
        await drained(stage)
    return memories


async def test_what_named_the_alias_is_tagged_with_the_other(
    work: Enriching, entities: Entities, settings: GraphSettings
) -> None:
    [robert, other] = await _stored(work, "Met with Robert Smithson", "Met with Alice Johnson")
    [bob, both] = await _stored(
        work, "Met with Bob Smithson", "Bob Smithson met with Robert Smithson", tags=("friend",)
    )
    assert (await work.now(bob)).entity_tags == (BOB,)
    done = await entities.merge(TENANT, "bob-smithson", "robert-smithson")
    assert (done.canonical, done.edges_moved) == (ROBERT, 2)
    jobs = await drained(work.streams[Stage.ENRICH])
    assert {job.memory_id for job in jobs} == {bob.id, both.id}
    assert not (await work.now(bob)).enriched
    await work.enricher(jobs)
    moved = await drained(work.streams[Stage.EMBED])
    assert {job.memory_id for job in moved} == {bob.id, both.id}
    for memory in (bob, both):
        after = await work.now(memory)
        assert (after.tags, after.entity_tags) == (("friend",), (ROBERT,))
        assert after.entities == {"people": ["Robert Smithson"]}
    found = await work.graph.memories.by_tags(TENANT, [ROBERT], 10)
    assert {memory.id for memory in found} == {robert.id, bob.id, both.id}
    edges = {(edge[0], edge[1]) for edge in await cypher(settings, REFERENCES)}
    assert {far for near, far in edges if near == ROBERT} == {robert.id, bob.id, both.id}
    assert (BOB, bob.id) not in edges
    assert (await work.now(other)).entity_tags == ("entity:people:alice-johnson",)
    await entities.merge(TENANT, "bob-smithson", "robert-smithson")
    assert await drained(work.streams[Stage.ENRICH]) == []


async def test_who_names_the_alias_later_means_the_other(
    work: Enriching, entities: Entities
) -> None:
    await _stored(work, "Met with Robert Smithson", "Met with Bob Smithson")
    await entities.merge(TENANT, "bob-smithson", "robert-smithson")
    [late] = await _stored(work, "Talked to Bob Smithson about gloves")
    after = await work.now(late)
    assert (after.entity_tags, after.entities) == ((ROBERT,), {"people": ["Robert Smithson"]})
    entity = await entities.find(TENANT, "bob-smithson")
    assert (entity.id, entity.references) == (ROBERT, 3)


async def test_a_tag_of_the_client_stays(work: Enriching, entities: Entities) -> None:
    await _stored(work, "Met with Robert Smithson", "Met with Bob Smithson")
    [tagged] = await _stored(work, "Nobody is named here", tags=(BOB,))
    await entities.merge(TENANT, "bob-smithson", "robert-smithson")
    await work.enricher(await drained(work.streams[Stage.ENRICH]))
    after = await work.now(tagged)
    assert (after.tags, after.entity_tags) == ((BOB,), ())


def test_a_name_that_is_not_its_slugs_gives_way_to_the_slug() -> None:
    merged = {"entity:people:bob": ("tools", "robert", "Robert the Builder")}
    found = {"people": ["Ada", "Bob"], "tools": ["Kafka"]}
    assert renamed(found, merged) == {"people": ["Ada"], "tools": ["Kafka", "robert"]}
