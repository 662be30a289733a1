"""A tenant's graph: made once, however many create it, and complete before the first write."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.domain.relations import RELATIONS
from shared.errors import Conflict, InvalidInput
from shared.graph.engine.schema import SCHEDULES, SCHEMA_VERSION, UNIQUE
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Related
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Fencing
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher, drop

_RUSH = """
import asyncio, sys
from shared.config import GraphSettings
from shared.graph.store import GraphStore
from shared.domain.memory import Memory

async def main(url, graph, memory_id, start_at):
    settings = GraphSettings(FALKORDB_URL=url, FALKORDB_GRAPH=graph)
    store = await GraphStore(settings, outbox_delay_s=60).open()
    sys.stdin.readline()
    await store.memories.create("rushed", Memory(memory_id, 1, 1, "x"))
    await store.close()

asyncio.run(main(*sys.argv[1:4], 0))
"""


@pytest.fixture
async def eight(settings: GraphSettings) -> AsyncIterator[list[GraphStore]]:
    stores = [await GraphStore(settings, outbox_delay_s=60).open() for _ in range(8)]
    yield stores
    for each in stores:
        await each.close()
    await drop(settings)


async def _one_of_each(settings: GraphSettings, tenant: str) -> None:
    names = await cypher(settings, "MATCH (f:Fence) RETURN f.name, f.token", tenant)
    assert sorted(name for name, _ in names) == sorted(SCHEDULES)
    assert await cypher(settings, "MATCH (s:Schema) RETURN s.name, s.version", tenant) == [
        ["schema", SCHEMA_VERSION]
    ]
    held = await cypher(
        settings, "CALL db.constraints() YIELD label, status RETURN label, status", tenant
    )
    assert sorted(held) == sorted([label, "OPERATIONAL"] for label in UNIQUE)


async def _write_links(store: GraphStore, tenant: str, first: Memory, second: Memory) -> None:
    row = Enriched(
        *(first.id, first.version, (), ("entity:people:ada",), {}, {}),
        entity_nodes=(("people", "ada", "Ada"),),
        previous_ids=(second.id,),
    )
    await store.work.enriched(tenant, [row])
    await associate(store, tenant, first.id, second.id, "RELATES_TO")


async def test_eight_connections_at_the_first_moment_make_nothing_twice(
    eight: list[GraphStore], settings: GraphSettings
) -> None:
    """Fresh labels and relation types are where MERGE races made up to eight of each."""
    for round_ in range(10):
        tenant = f"t{round_}"
        first, second = a_memory(), a_memory()
        await asyncio.gather(*(each.ensure(tenant) for each in eight))
        await eight[0].memories.create_many(tenant, [first, second])

        await asyncio.gather(*(_write_links(each, tenant, first, second) for each in eight))
        await _one_of_each(settings, tenant)
        assert await cypher(settings, "MATCH (e:Entity) RETURN count(e)", tenant) == [[1]]
        edges = await cypher(
            settings, "MATCH (a)-[x]->(b) RETURN type(x), count(x) ORDER BY type(x)", tenant
        )
        assert edges == [["PRECEDED_BY", 1], ["REFERENCED_IN", 1], ["RELATES_TO", 1]]


async def test_processes_that_create_in_a_new_tenant_at_once_lose_nothing(
    settings: GraphSettings, falkordb_url: str
) -> None:
    ids = [a_memory().id for _ in range(4)]
    rushing = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _RUSH, falkordb_url, settings.graph, memory_id),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for memory_id in ids
    ]
    ends = await asyncio.gather(*(process.communicate(b"go\n") for process in rushing))
    assert [process.returncode for process in rushing] == [0] * 4, ends
    rows = await cypher(settings, "MATCH (m:Memory) RETURN m.id", "rushed")
    assert sorted(row[0] for row in rows) == sorted(ids)
    await _one_of_each(settings, "rushed")
    await drop(settings)


async def test_every_label_and_relation_exists_and_no_edge_is_left(
    store: GraphStore, settings: GraphSettings
) -> None:
    await store.ensure("fresh")
    labels = await cypher(settings, "CALL db.labels() YIELD label RETURN label", "fresh")
    types = await cypher(
        settings,
        "CALL db.relationshipTypes() YIELD relationshipType RETURN relationshipType",
        "fresh",
    )
    assert {row[0] for row in labels} >= set(UNIQUE)
    assert {row[0] for row in types} == set(RELATIONS)
    assert await cypher(settings, "MATCH ()-[x]->() RETURN count(x)", "fresh") == [[0]]


async def test_a_first_write_that_fails_leaves_the_next_ones_whole(
    store: GraphStore, settings: GraphSettings
) -> None:
    """A failing query takes back the property keys it was the first to name, and cached
    plans then wrote the next memories without their content."""
    for round_ in range(10):
        tenant, first = f"t{round_}", a_memory(tags=("t",), metadata={"m": round_})
        both = (store.memories.create(tenant, first) for _ in range(2))
        results = await asyncio.gather(*both, return_exceptions=True)
        assert sum(isinstance(result, Conflict) for result in results) == 1
        assert await store.memories.get(tenant, [first.id]) == {first.id: first}
        idem = await cypher(settings, "MATCH (f:Fence) WHERE f.token = 0 RETURN count(f)", tenant)
        assert idem == [[len(SCHEDULES)]]


async def test_reading_or_settling_for_a_tenant_without_graph_makes_none(store: GraphStore) -> None:
    nobody = "nobody"
    assert await store.memories.get(nobody, ["x"]) == {}
    assert await store.memories.hydrate(nobody, ["x"], relation_limit=5) == {}
    assert await store.memories.by_tags(nobody, ["x"], 5) == []
    assert await store.candidates.unembedded(nobody, []) == []
    assert await store.candidates.newest(nobody, []) == []
    assert await store.memories.idem(nobody, "key") is None
    assert (await store.memories.counts(nobody)).memories == 0
    assert await store.memories.delete(nobody, ["x"]) == set()
    await store.memories.touch(nobody, ["x"], 1)
    assert await store.work.claim_due(nobody, Stage.ENRICH, 2**50, 5) == []
    assert await store.work.next_due(nobody) is None
    assert await store.work.enriched(nobody, [Enriched("x", 1, (), (), {}, {})]) == {}
    assert await store.work.related(nobody, [Related("x", "h", 1, ())]) == set()
    assert await store.work.requeue(nobody, Stage.EMBED, ["x"]) == []
    assert await store.work.previous(nobody, [("x", 1, None)]) == {"x": []}
    assert await associate(store, nobody, "x", "y", "RELATES_TO") is False
    assert await store.sweeps.memories_page(nobody, "", 5) == []
    assert await store.tenants() == []


async def test_tenants_are_apart_and_listed(store: GraphStore) -> None:
    own, theirs = a_memory("mine"), a_memory("theirs")
    await store.memories.create(TENANT, own)
    await store.memories.create("acme.eu-1", theirs)
    assert await store.tenants() == ["acme.eu-1", "default"]
    assert await store.memories.get(TENANT, [own.id, theirs.id]) == {own.id: own}
    assert await store.memories.get("acme.eu-1", [own.id, theirs.id]) == {theirs.id: theirs}


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a:b", "a\n", "é", "../x"])
async def test_a_name_that_is_no_tenant_is_refused(store: GraphStore, name: str) -> None:
    with pytest.raises(InvalidInput):
        await store.memories.create(name, a_memory())
    with pytest.raises(InvalidInput):
        await store.memories.get(name, ["x"])


async def test_a_graph_flushed_behind_our_back_is_made_whole_again(
    store: GraphStore, settings: GraphSettings
) -> None:
    """Without the marker in the creating query it would come back without constraints."""
    await store.memories.create(TENANT, a_memory())
    await drop(settings)
    again = a_memory()
    await store.memories.create(TENANT, again)
    assert await store.memories.get(TENANT, [again.id]) == {again.id: again}
    await _one_of_each(settings, TENANT)


async def test_a_fence_in_a_flushed_graph_comes_back(
    store: GraphStore, settings: GraphSettings
) -> None:
    await store.sweeps.raise_fence(TENANT, Fencing("decay", 5))
    await drop(settings)
    await store.sweeps.raise_fence(TENANT, Fencing("decay", 6))
    await _one_of_each(settings, TENANT)
