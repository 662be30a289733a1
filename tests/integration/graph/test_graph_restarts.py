"""What a killed server reads back is what was there: every node, every edge, every value.

The append-only file names nodes by number. Whatever the running server counts otherwise than
its replay puts a later write on another node: nothing fails, and values read back mixed up.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.errors import Conflict
from shared.graph.records import Embedding, Idem
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, Related
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import RunState
from shared.streams.job import Stage
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher, opened
from tests.support.stores.redis_server import EmbeddedServer
from tests.support.waiting.conditions import wait_until

_TENANTS = ("one", "two", "three")
_CONNECTIONS = 6
Contents = dict[str, list[str]]


async def _contents(settings: GraphSettings, tenant: str) -> Contents:
    """Every node and every edge as sorted text: its labels or type, its ends, its properties."""
    nodes = await cypher(settings, "MATCH (n) RETURN n", tenant)
    edges = await cypher(settings, "MATCH (a)-[x]->(b) RETURN a, x, b", tenant)
    return {
        "nodes": sorted(_node(cell) for [cell] in nodes),
        "edges": sorted(f"{_node(a)} {_edge(x)} {_node(b)}" for a, x, b in edges),
    }


def _node(cell: Any) -> str:
    """A node of the verbose form, without the number that the server has for it."""
    found = dict(cell)
    return f"{sorted(found['labels'])} {sorted(map(str, found['properties']))}"


def _edge(cell: Any) -> str:
    found = dict(cell)
    return f"{found['type']} {sorted(map(str, found['properties']))}"


async def _load(store: GraphStore, tenant: str, number: int) -> None:
    """One connection's part of a mixed load; the others do the same to the same tenant."""
    memories = [a_memory(f"{number}: {at}", tags=(f"t{at % 3}",)) for at in range(6)]
    await asyncio.gather(*(store.memories.create(tenant, each) for each in memories))
    await _create_with_keys(store, tenant, number)
    await _work_off(store, tenant, memories)
    await _author(store, tenant, memories)
    await _run_tasks(store, tenant, number)


async def _create_with_keys(store: GraphStore, tenant: str, number: int) -> None:
    """Keys of this connection, and one that all of them race for."""
    memory = a_memory("with a vector")
    await store.memories.create(
        tenant, memory, embedding=Embedding("m", [0.5, 0.25]), idem=_idem(f"own {number}", memory)
    )
    batch = [a_memory("in a batch") for _ in range(3)]
    with pytest.raises(Conflict):
        await store.memories.create_many(tenant, [*batch, memory])
    await store.memories.create_many(tenant, batch, idem=_idem(f"batch {number}", batch[0]))
    raced = a_memory("raced for")
    try:
        await store.memories.create(tenant, raced, idem=_idem("raced", raced))
    except Conflict:
        assert await store.memories.idem(tenant, "raced")
    await store.memories.take_key(tenant, "taken", "h")
    await store.memories.answer_key(tenant, "taken", f'{{"by": {number}}}')


def _idem(key: str, memory: Memory) -> Idem:
    return Idem(key, "hash", (memory.id,), "{}")


async def _work_off(store: GraphStore, tenant: str, memories: list[Memory]) -> None:
    """What the workers write; the entities are everybody's."""
    first = memories[0].id
    rows = [
        Enriched(
            *(each.id, each.version, each.tags, (f"entity:people:p{at % 3}",)),
            *({"people": [f"P{at % 3}"]}, {"last_run": "x"}, "short"),
            entity_nodes=(("people", f"p{at % 3}", f"P{at % 3}"),),
            previous_ids=(first,) if at else (),
            asks=at == 3,
        )
        for at, each in enumerate(memories)
    ]
    done = await store.work.enriched(tenant, rows)
    versions = {key: each.payload_version for key, each in done.items()}
    await store.work.embedded(
        tenant, [Embedded(key, version, "h", relate=True) for key, version in versions.items()]
    )
    near = ((first, 0.9), (memories[1].id, 0.8))
    related = [
        Related(each.id, "h", versions[each.id], near, replace=True, nearest=1)
        for each in memories[2:]
    ]
    await store.work.related(tenant, related)
    await store.work.requeue(tenant, Stage.EMBED, [memories[2].id], anew=True)
    await store.work.requeue(tenant, Stage.ENRICH, [memories[3].id])
    await store.work.give_up(tenant, Stage.ENRICH, [(memories[3].id, memories[3].version)])


async def _author(store: GraphStore, tenant: str, memories: list[Memory]) -> None:
    """What clients write: relations, accesses, a change, a deletion and what fills its place."""
    first, second, *_, last = memories
    await associate(store, tenant, first.id, second.id, "PREFERS_OVER", reason="better")
    await associate(store, tenant, last.id, first.id, "EVOLVED_INTO")
    await store.memories.touch(tenant, [each.id for each in memories], now_ms() + 10)
    await store.memories.delete(tenant, [last.id])
    [seen] = (await store.memories.get(tenant, [second.id])).values()
    changed = replace(
        seen, content="changed", version=seen.version + 1, payload_version=seen.payload_version + 1
    )
    assert await store.memories.replace(tenant, changed, seen=seen)
    await store.memories.create(tenant, a_memory("in the deleted one's place"))


async def _run_tasks(store: GraphStore, tenant: str, number: int) -> None:
    run_id = f"run {number}"
    await store.runs.create(tenant, "reembed", {"force": True}, run_id=run_id)
    await store.runs.create(tenant, "decay", {}, run_id="raced")
    run = await store.runs.begin(tenant, run_id)
    assert run is not None
    for done in range(3):
        assert await store.runs.advance(tenant, run, {"done": done})
    assert await store.runs.finish(
        tenant, run, RunState.COMPLETE, progress={"done": 3}, result={"synced": number}
    )


async def _log_rewritten(settings: GraphSettings) -> None:
    """Have the append-only file begin anew with the graphs as they are."""
    async with Redis.from_url(settings.url, decode_responses=True) as redis:
        await redis.bgrewriteaof()

        async def over() -> bool:
            persistence = await redis.info("persistence")
            return not (
                persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]
            )

        await wait_until(over, "the append-only file is rewritten")
        assert (await redis.info("persistence"))["aof_last_bgrewrite_status"] == "ok"


@pytest.mark.parametrize("rewritten", [False, True])
async def test_a_mixed_load_reads_back_equal_after_every_kill(
    server: EmbeddedServer, rewritten: bool
) -> None:
    """The first round races for the tenants' first moments, the second finds what was replayed."""
    stores = [
        await GraphStore(server.settings, outbox_delay_s=60).open() for _ in range(_CONNECTIONS)
    ]
    try:
        for round_ in range(2):
            loads = [
                _load(store, tenant, round_ * _CONNECTIONS + number)
                for tenant in _TENANTS
                for number, store in enumerate(stores)
            ]
            await asyncio.gather(*loads)
            if rewritten and round_ == 0:
                await _log_rewritten(server.settings)
                await stores[0].memories.create(_TENANTS[0], a_memory("after the rewriting"))
            before = [await _contents(server.settings, tenant) for tenant in _TENANTS]
            for contents in before:
                for rows in contents.values():
                    assert len(rows) > 12 * _CONNECTIONS * (round_ + 1)
            await server.kill()
            await server.start()
            assert [await _contents(server.settings, tenant) for tenant in _TENANTS] == before
    finally:
        for store in stores:
            await store.close()


async def test_property_keys_keep_their_numbers_whoever_makes_the_graph(
    server: EmbeddedServer,
) -> None:
    """Values are kept under the keys' numbers, which replay gives in the order of the log.

    Keys that two connections registered in turns had other numbers after a restart: one graph of
    forty was made so, hence so many of them.
    """
    tenants = [f"t{number}" for number in range(100)]
    stores = [
        await GraphStore(server.settings, outbox_delay_s=60).open() for _ in range(_CONNECTIONS)
    ]
    try:
        for tenant in tenants:
            writes = (store.memories.create(tenant, a_memory()) for store in stores)
            await asyncio.gather(*writes)
    finally:
        for store in stores:
            await store.close()
    names = "CALL db.propertyKeys()"
    before = [await cypher(server.settings, names, tenant) for tenant in tenants]
    await server.kill()
    await server.start()
    assert [await cypher(server.settings, names, tenant) for tenant in tenants] == before


@pytest.mark.chaos
async def test_twenty_thousand_memories_are_back_within_seconds_of_a_kill(
    server: EmbeddedServer,
) -> None:
    async with opened(server.settings) as store:
        ids: list[str] = []
        for _ in range(40):
            memories = [a_memory(tags=("t",)) for _ in range(500)]
            await store.memories.create_many(TENANT, memories)
            ids += [memory.id for memory in memories]
            await store.work.embedded(
                TENANT, [Embedded(m.id, m.payload_version, "h", relate=True) for m in memories]
            )
            near = tuple((memory.id, 0.9) for memory in memories[:2])
            await store.work.related(
                TENANT, [Related(m.id, "h", m.payload_version, near) for m in memories[2:]]
            )
        counted = "MATCH (m:Memory) OPTIONAL MATCH (m)-[x]->() RETURN count(DISTINCT m), count(x)"
        before = await cypher(server.settings, counted)
        assert before[0] == [20_000, 40 * 498 * 4]
        one = await store.memories.get(TENANT, ids[:50])
        counts = await store.memories.counts(TENANT)
        await server.kill()
        # Half a second on an idle machine; replaying queries instead of effects took minutes.
        await server.start()
        assert await cypher(server.settings, counted) == before
        assert await store.memories.get(TENANT, ids[:50]) == one
        assert await store.memories.counts(TENANT) == counts
        with pytest.raises(Conflict):
            await store.memories.create(TENANT, one[ids[0]])


async def test_a_refused_write_does_not_shift_what_a_restart_reads(server: EmbeddedServer) -> None:
    """A CREATE that a constraint refused made the append-only file name other nodes after it."""
    async with opened(server.settings) as store:
        first = a_memory("first")
        await store.memories.create(TENANT, first)
        with pytest.raises(Conflict):
            await store.memories.create(TENANT, replace(first, content="again"))
        fresh = [a_memory(f"fresh {number}") for number in range(3)]
        with pytest.raises(Conflict):
            await store.memories.create_many(TENANT, [*fresh, first])
        later = [a_memory(f"later {number}") for number in range(8)]
        for memory in later:
            await store.memories.create(TENANT, memory)
        for at, memory in enumerate(later):
            await store.memories.touch(TENANT, [memory.id], memory.last_accessed + 1000 * (at + 1))
        ids = [memory.id for memory in (first, *fresh, *later)]
        before = await store.memories.get(TENANT, ids)
        assert len(before) == 9
        await server.kill()
        await server.start()
        assert await store.memories.get(TENANT, ids) == before
