"""`restore`: what a file holds comes back, more than once, ours or AutoMem's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.errors import Unavailable
from shared.graph.records import CREATED
from shared.graph.store import GraphStore
from shared.graph.upkeep.backup import Restore
from shared.streams.job import Stage
from shared.vectors import VectorStore
from tests.support.stores.backing_up import OTHER, backup_app, filled, raw_backup, restored
from tests.support.stores.graphs import TENANT, cypher


async def test_what_was_saved_comes_back(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    memories = await filled(store)
    before = await store.memories.hydrate(TENANT, [m.id for m in memories], relation_limit=20)
    raw = await raw_backup(backup_app(store, no_vectors), "?include=falkordb")
    report = await restored(store, raw, tmp_path)
    assert report.as_json() == {
        "memories_created": 3,
        "memories_updated": 0,
        "memories_kept": 0,
        "nodes_created": 1,
        "relations": 6,
        "refused": {},
    }
    after = await store.memories.hydrate(OTHER, [m.id for m in memories], relation_limit=20)
    versions = ("version", "payload_version", "text_hash")
    for key, old in before.items():
        new = after[key]
        for name in Memory.__slots__:
            if name not in versions and not name.endswith("_version"):
                assert getattr(new.memory, name) == getattr(old.memory, name), name
        shown = [(r.type, r.strength, r.other.id) for r in new.relations]
        assert sorted(shown) == sorted((r.type, r.strength, r.other.id) for r in old.relations)
    first, second = after[memories[0].id].memory, after[memories[1].id].memory
    assert first.enriched
    assert not second.enriched
    embeddings = await store.memories.embeddings(OTHER, [first.id])
    assert embeddings[first.id].vector == [0.5, 0.25]
    rows = await cypher(
        settings,
        "MATCH (e:Entity)-[:REFERENCED_IN]->(m:Memory) RETURN e.id, e.name, m.id",
        OTHER,
    )
    assert rows == [["entity:people:ann", "Ann", first.id]]
    # Every one is due to be embedded at once, and only the unfinished one to be enriched.
    due = await store.work.claim_due(OTHER, Stage.EMBED, now_ms() + 1, 10)
    assert {each.id for each in due} == {m.id for m in memories}
    due = await store.work.claim_due(OTHER, Stage.ENRICH, now_ms() + 1, 10)
    assert {each.id for each in due} == {m.id for m in memories[1:]}
    # Idempotency keys and fences belong to the installation that wrote them.
    assert await store.memories.get(OTHER, [first.id])
    assert await cypher(settings, "MATCH (i:Idem) RETURN count(i)", OTHER) == [[0]]


async def test_restoring_again_changes_nothing(
    store: GraphStore, no_vectors: VectorStore, tmp_path: Path
) -> None:
    memories = await filled(store)
    raw = await raw_backup(backup_app(store, no_vectors), "?include=falkordb")
    for tenant in (TENANT, OTHER, OTHER):
        report = await restored(store, raw, tmp_path, tenant)
    assert (report.memories_created, report.memories_updated, report.memories_kept) == (0, 0, 3)
    assert report.nodes_created == 0
    found = await store.memories.hydrate(OTHER, [m.id for m in memories], relation_limit=20)
    assert sum(len(each.relations) for each in found.values()) == 5


async def test_a_restore_outranks_older_and_spares_newer_memories(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    memories = await filled(store)
    raw = await raw_backup(backup_app(store, no_vectors), "?include=falkordb")
    changed, gone, behind = (m.id for m in memories)
    await cypher(
        settings,
        f"MATCH (m:Memory {{id: '{changed}'}}) SET m.version = m.version + 5, m.content = 'new'",
    )
    await cypher(
        settings, f"MATCH (m:Memory {{id: '{behind}'}}) SET m.version = 1, m.content = 'old'"
    )
    await store.memories.delete(TENANT, [gone])
    before = now_ms()
    report = await restored(store, raw, tmp_path, TENANT)
    assert (report.memories_created, report.memories_updated, report.memories_kept) == (1, 1, 1)
    found = await store.memories.get(TENANT, [m.id for m in memories])
    assert found[changed].content == "new"
    assert found[behind].content == "three"
    assert found[gone].payload_version >= before


EDGES = "MATCH (a)-[x]->(b) RETURN type(x), a.id, b.id ORDER BY type(x), a.id, b.id"


async def _saved(store: GraphStore, vectors: VectorStore, settings: GraphSettings) -> bytes:
    """A backup of `filled` memories, the first of which shows a pattern too."""
    one = (await filled(store))[0]
    await cypher(
        settings,
        f"MATCH (m:Memory {{id: '{one.id}'}}) CREATE (m)-[:EXEMPLIFIES]->(:Pattern {{id: 'p'}})",
    )
    return await raw_backup(backup_app(store, vectors), "?include=falkordb")


@pytest.mark.parametrize("newer_by", [0, 5])
async def test_a_kept_memory_keeps_to_the_edges_that_workers_derived_since(
    store: GraphStore,
    no_vectors: VectorStore,
    settings: GraphSettings,
    tmp_path: Path,
    newer_by: int,
) -> None:
    """A name, a pattern and neighbours of a text that was changed came back onto the new one."""
    raw = await _saved(store, no_vectors, settings)
    await cypher(settings, "MATCH ()-[x]->() DELETE x")
    await cypher(settings, f"MATCH (m:Memory) SET m.version = m.version + {newer_by}")
    report = await restored(store, raw, tmp_path, TENANT)
    assert (report.memories_kept, report.relations, report.refused) == (3, 2, {})
    kinds = [row[0] for row in await cypher(settings, EDGES)]
    assert kinds == ["EVOLVED_INTO", "PREFERS_OVER"]


async def test_what_is_restored_has_its_derived_edges_to_what_was_kept(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    raw = await _saved(store, no_vectors, settings)
    edges = await cypher(settings, EDGES)
    [[one]] = await cypher(settings, "MATCH (m:Memory)-[:EXEMPLIFIES]->() RETURN m.id")
    await store.memories.delete(TENANT, [one])
    report = await restored(store, raw, tmp_path, TENANT)
    assert (report.memories_created, report.memories_kept) == (1, 2)
    # The one of the kept memory is made both ways by the relate stage, which is due.
    missing = [edge for edge in edges if edge not in await cypher(settings, EDGES)]
    assert [(kind, target) for kind, _, target in missing] == [("SIMILAR_TO", one)]


async def test_a_restore_over_the_same_changes_nothing(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    raw = await _saved(store, no_vectors, settings)
    nodes = "MATCH (n) RETURN labels(n), properties(n) ORDER BY id(n)"
    before = [await cypher(settings, text) for text in (EDGES, nodes)]
    for _ in range(2):
        await restored(store, raw, tmp_path, TENANT)
    assert [await cypher(settings, text) for text in (EDGES, nodes)] == before


async def test_an_interrupted_restore_is_finished_by_the_next(
    store: GraphStore,
    no_vectors: VectorStore,
    settings: GraphSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memories were written and nothing else; their derived edges are still the file's."""
    raw = await _saved(store, no_vectors, settings)
    edges = await cypher(settings, EDGES)
    with monkeypatch.context() as patched:
        patched.setattr(Restore, "links", _lost)
        with pytest.raises(Unavailable):
            await restored(store, raw, tmp_path)
    assert await cypher(settings, EDGES, OTHER) == []
    report = await restored(store, raw, tmp_path)
    assert (report.memories_kept, report.relations) == (3, len(edges))
    assert await cypher(settings, EDGES, OTHER) == edges
    # From now on the edges are the workers'.
    await cypher(settings, "MATCH ()-[x:SIMILAR_TO]->() DELETE x", OTHER)
    await restored(store, raw, tmp_path)
    assert "SIMILAR_TO" not in [row[0] for row in await cypher(settings, EDGES, OTHER)]


async def _lost(*_: object) -> int:
    raise Unavailable("graph", "gone")


async def test_a_restore_in_small_batches_is_the_same(
    store: GraphStore, no_vectors: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.backup.restore.BATCH", 2)
    await filled(store)
    report = await restored(
        store, await raw_backup(backup_app(store, no_vectors), "?include=falkordb"), tmp_path
    )
    assert (report.memories_created, report.relations, report.refused) == (3, 6, {})


async def test_the_command_restores_into_the_configured_stores(
    store: GraphStore,
    no_vectors: VectorStore,
    settings: GraphSettings,
    redis_url: str,
    tmp_path: Path,
) -> None:
    memories = await filled(store)
    file = tmp_path / "b.tar.gz"
    raw = await raw_backup(backup_app(store, no_vectors), "?include=falkordb")
    await asyncio.to_thread(file.write_bytes, raw)
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "FALKORDB_URL": settings.url,
        "FALKORDB_GRAPH": settings.graph,
        "EUNOE_REDIS_PREFIX": f"t{uuid4().hex[:12]}",
        "EUNOE_DATA_DIR": str(tmp_path),
    }
    # Of a stack that also runs: what the settings name is meant.
    other = {"processes": [{"role": "redis", "ports": {"redis": 1}}]}
    await asyncio.to_thread((tmp_path / "stack.json").write_text, json.dumps(other))

    async def run(*arguments: str) -> tuple[int, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.api.backup.restore", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        return process.returncode or 0, out, error

    code, out, error = await run(str(file), "--tenant", OTHER)
    assert code == 0, error
    assert json.loads(out)["memories_created"] == 3
    assert len(await store.memories.get(OTHER, [m.id for m in memories])) == 3
    code, _, error = await run(str(tmp_path / "absent"))
    assert code == 1
    assert b"No such file" in error
    code, _, error = await run(str(file), "--tenant", "a/b")
    assert code == 1


def test_the_written_columns_are_all_of_a_memory() -> None:
    """A new field of Memory must not get lost in a restore."""
    assert set(Memory.__slots__) <= set(CREATED)
