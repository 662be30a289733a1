"""`restore`: what a file holds comes back, more than once, ours or AutoMem's."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.api.restore import Report, Restorer
from shared.config import GraphSettings
from shared.errors import Unavailable
from shared.graph import restore as store_module
from shared.graph.store import GraphStore
from shared.job import Stage
from shared.memory import Memory, now_ms
from shared.metadata import terms
from shared.vectors import VectorStore
from tests.backing_up import backup_app, filled, raw_backup
from tests.graphs import TENANT, cypher

OTHER = "restored"


async def _restored(store: GraphStore, raw: bytes, folder: Path, tenant: str = OTHER) -> Report:
    file = folder / f"{uuid4().hex}.tar.gz"
    await asyncio.to_thread(file.write_bytes, raw)
    return await Restorer(store.restore, tenant).restore(file)


async def test_what_was_saved_comes_back(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    memories = await filled(store)
    before = await store.memories.hydrate(TENANT, [m.id for m in memories], relation_limit=20)
    raw = await raw_backup(backup_app(store, no_vectors), "?include=falkordb")
    report = await _restored(store, raw, tmp_path)
    assert report.shown() == {
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
        assert new.successors == old.successors
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
        report = await _restored(store, raw, tmp_path, tenant)
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
    report = await _restored(store, raw, tmp_path, TENANT)
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
    report = await _restored(store, raw, tmp_path, TENANT)
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
    report = await _restored(store, raw, tmp_path, TENANT)
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
        await _restored(store, raw, tmp_path, TENANT)
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
        patched.setattr(store_module.Restore, "links", _lost)
        with pytest.raises(Unavailable):
            await _restored(store, raw, tmp_path)
    assert await cypher(settings, EDGES, OTHER) == []
    report = await _restored(store, raw, tmp_path)
    assert (report.memories_kept, report.relations) == (3, len(edges))
    assert await cypher(settings, EDGES, OTHER) == edges
    # From now on the edges are the workers'.
    await cypher(settings, "MATCH ()-[x:SIMILAR_TO]->() DELETE x", OTHER)
    await _restored(store, raw, tmp_path)
    assert "SIMILAR_TO" not in [row[0] for row in await cypher(settings, EDGES, OTHER)]


async def _lost(*_: object) -> int:
    raise Unavailable("graph", "gone")


def _automem(nodes: list[dict[str, Any]], links: list[dict[str, Any]]) -> bytes:
    body = {
        "timestamp": "2026-01-01T00:00:00+00:00",
        "graph_name": "memories",
        "nodes": nodes,
        "relationships": links,
        "stats": {"node_count": len(nodes), "relationship_count": len(links)},
    }
    inner = gzip.compress(json.dumps(body, indent=2).encode())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("falkordb/falkordb_20260101_000000.json.gz")
        entry.size = len(inner)
        archive.addfile(entry, io.BytesIO(inner))
    return out.getvalue()


async def test_automems_own_backup_can_be_read(
    store: GraphStore, settings: GraphSettings, tmp_path: Path
) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    old = {
        "id": ids[0].upper(),
        "content": "Use Redis",
        "tags": ["Proj/Alpha", "entity:tools:redis"],
        "tag_prefixes": ["proj"],
        "importance": 0.8,
        "confidence": 0.9,
        "type": "Decision",
        "timestamp": "2025-03-01T10:00:00+02:00",
        "updated_at": "2025-03-02T10:00:00+00:00",
        "last_accessed": "2025-03-03T10:00:00Z",
        "t_invalid": "2030-01-01T00:00:00+00:00",
        "metadata": json.dumps(
            {"session_id": "s1", "enrichment": {"last_run": "x"}, "repo": "falcon"}
        ),
        "processed": True,
        "relevance_score": 0.4,
        "some_key_of_theirs": 7,
    }
    nodes = [
        {"id": 10, "labels": ["Memory"], "properties": old},
        {"id": 11, "labels": ["Memory"], "properties": {"id": ids[1], "content": "bare"}},
        {"id": 12, "labels": ["Memory"], "properties": {"id": "meta-1", "content": "x"}},
        {"id": 13, "labels": ["Memory"], "properties": {"id": ids[2], "content": "a\0b"}},
        {"id": 14, "labels": ["ConsolidationRun"], "properties": {"id": "r"}},
        {
            "id": 15,
            "labels": ["Entity"],
            "properties": {
                "id": "entity:tools:redis",
                "slug": "redis",
                "category": "tools",
                "name": "Redis",
                "created_at": "2025-01-01T00:00:00+00:00",
                "odd key": 1,
            },
        },
    ]

    def link(source: int, kind: str, target: int, **properties: Any) -> dict[str, Any]:
        named = {"source_id": source, "target_id": target, "type": kind}
        return named | {"properties": properties}

    links = [
        link(10, "LEADS_TO", 11, strength=0.7, updated_at="2025-03-01T00:00:00+00:00"),
        link(11, "EXPLAINS", 10, confidence=0.6),
        link(10, "HACKED]->() DETACH DELETE x //", 11),
        link(15, "REFERENCED_IN", 10),
        link(10, "RELATES_TO", 12),
    ]
    report = await _restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.nodes_created, report.relations) == (2, 1, 3)
    assert dict(report.refused) == {
        "node: id is no UUID": 1,
        "node: content must not contain NUL characters": 1,
        "node ConsolidationRun": 1,
        "relation HACKED]->() DETACH DELETE x //": 1,
        "relation of a node that is not restored": 1,
    }
    found = await store.memories.hydrate(OTHER, ids, relation_limit=10)
    memory = found[ids[0]].memory
    assert memory.timestamp == 1_740_816_000_000
    assert (memory.type, memory.importance, memory.confidence) == ("Decision", 0.8, 0.9)
    assert memory.tags == ("Proj/Alpha", "entity:tools:redis")
    assert (memory.session_id, memory.metadata) == ("s1", {"session_id": "s1", "repo": "falcon"})
    assert memory.t_invalid == 1_893_456_000_000
    assert memory.meta_terms == terms(memory.metadata) != (), "AutoMem has none"
    assert not memory.enriched
    assert [(r.type, r.strength) for r in found[ids[0]].relations] == [("LEADS_TO", 0.7)]
    [legacy] = found[ids[1]].relations
    assert (legacy.type, legacy.kind, legacy.strength) == ("DISCOVERED", "explains", 0.6)
    assert found[ids[1]].memory.timestamp > 0
    again = await _restored(store, _automem(nodes, links), tmp_path)
    assert (again.memories_created, again.memories_kept) == (0, 2)
    keys = await cypher(settings, "CALL db.propertyKeys()", OTHER)
    assert not {"some_key_of_theirs", "odd key"} & {row[0] for row in keys}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"properties": {"timestamp": 99999999999999999999}}, "timestamp is no time"),
        ({"properties": {"t_invalid": 253_370_764_800_000}}, "t_invalid is no time"),
        ({"properties": {"archived_at": "soon"}}, "archived_at is no time"),
        ({"properties": {"version": "new"}}, "version is no version"),
        ({"properties": {"version": 1 << 63}}, "version is no version"),
        ({"properties": {"tags": 5}}, "tags are no list of texts"),
        ({"properties": {"meta_terms": [["x"]]}}, "meta_terms are no list of texts"),
        ({"properties": {"speaker": ["Ada"]}}, "speaker is no text"),
        ({"properties": {"summary": "a\0b"}}, "summary must not contain NUL characters"),
        ({"properties": {"relevance_score": "high"}}, "relevance_score is no number"),
        ({"properties": {"importance": 10**400}}, "importance is no number"),
        ({"properties": {"metadata": "[" * 100_000}}, "metadata is nested too deeply"),
        ({"properties": [1]}, "properties are no object"),
        ({"labels": 5}, "labels are no list"),
        ({"id": [1]}, "without an id of the backup"),
        ({"labels": ["Entity"], "properties": {"id": " x"}}, None),
        ({"labels": ["Entity"], "properties": {"aliases": 5}}, None),
        ({"labels": ["Entity"], "properties": {"created_at": 1 << 63}}, "created_at is no time"),
    ],
)
async def test_a_broken_row_is_refused_and_the_others_restored(
    store: GraphStore, tmp_path: Path, broken: dict[str, Any], reason: str | None
) -> None:
    """None of these ended in anything but a traceback, or in 500 when it was read again."""
    sound = {"id": str(uuid4()), "content": "sound"}
    row: dict[str, Any] = {"id": 1, "labels": ["Memory"], "properties": {}} | broken
    if isinstance(row["properties"], dict):
        row["properties"] = {"id": str(uuid4()), "content": "broken"} | row["properties"]
    nodes = [row, {"id": 2, "labels": ["Memory"], "properties": sound}]
    links = [{"source_id": [1], "target_id": 2, "type": "RELATES_TO", "properties": 5}]
    report = await _restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.nodes_created) == (1, 0)
    assert report.refused.pop("relation of a node that is not restored") == 1
    [(told, count)] = report.refused.items()
    assert count == 1
    assert reason is None or told == f"node: {reason}"
    assert list(await store.memories.get(OTHER, [sound["id"]])) == [sound["id"]]


async def test_what_a_row_has_beside_is_mended(
    store: GraphStore, settings: GraphSettings, tmp_path: Path
) -> None:
    """A lone tag is a list, an unreadable vector is made anew, an edge's odd time is left out."""
    ids = [str(uuid4()), str(uuid4())]
    odd = {"id": ids[0], "content": "x", "tags": "lone"}
    odd |= {"embedding": "no base64!", "embedding_model": "m"}
    nodes = [
        {"id": 1, "labels": ["Memory"], "properties": odd},
        {"id": 2, "labels": ["Memory"], "properties": {"id": ids[1], "content": "y"}},
    ]
    properties = {"strength": 0.5, "updated_at": 99999999999999999999, "count": 1 << 70}
    links = [{"source_id": 1, "target_id": 2, "type": "RELATES_TO", "properties": properties}]
    report = await _restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.relations, report.refused) == (2, 1, {})
    assert (await store.memories.get(OTHER, ids))[ids[0]].tags == ("lone",)
    assert ids[0] not in await store.memories.embeddings(OTHER, ids)
    edges = await cypher(
        settings,
        "MATCH (:Memory)-[r:RELATES_TO]->(:Memory) RETURN r.strength, r.updated_at, r.count",
        OTHER,
    )
    assert edges == [["0.5", None, None]]


async def test_a_restore_in_small_batches_is_the_same(
    store: GraphStore, no_vectors: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.restore.BATCH", 2)
    await filled(store)
    report = await _restored(
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
            *(sys.executable, "-m", "services.api.restore", *arguments),
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
    assert set(Memory.__slots__) <= set(store_module._WRITTEN)
