"""GET /backup and `restore`: what is in the file, and that it comes back, more than once."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from services.api import backup as api
from services.api.backup import BACKUP, Backup
from services.api.restore import Report, Restorer
from shared.config import GraphSettings, VectorSettings
from shared.graph import restore as store_module
from shared.graph.export import Export
from shared.graph.nodes import Embedding, Idem
from shared.graph.restore import Restore
from shared.graph.store import GraphStore
from shared.graph.work import Embedded, Enriched, Related
from shared.job import Stage
from shared.memory import Memory, now_ms
from shared.vectors import VectorStore
from tests.graphs import TENANT, a_memory, cypher, graph_settings, opened
from tests.serving import ADMIN, API, make_app, served, tokens
from tests.stores import running_qdrant
from tests.vector_stores import new_store, point, unit
from tests.vector_stores import settings as vector_settings

OTHER = "restored"


@pytest.fixture
def settings(falkordb_url: str) -> GraphSettings:
    return graph_settings(falkordb_url)


@pytest.fixture
async def store(settings: GraphSettings) -> AsyncIterator[GraphStore]:
    async with opened(settings) as graph:
        yield graph


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant-backup")) as url:
        yield url


@pytest.fixture(scope="session")
async def vectors(qdrant_url: str) -> AsyncIterator[VectorStore]:
    async with new_store(vector_settings(qdrant_url)) as found:
        yield found


@pytest.fixture
def no_vectors() -> VectorStore:
    return VectorStore(VectorSettings(_env_file=None, QDRANT_URL="http://127.0.0.1:9"))


def _app(store: GraphStore, vectors: VectorStore) -> web.Application:
    app = make_app(api.ROUTES, tokens())
    app[BACKUP] = Backup(Export(store._client, store._schema), vectors)
    return app


async def _raw(app: web.Application, query: str = "", **headers: str) -> bytes:
    async with served(app, **ADMIN, **headers) as client:
        answer = await client.get(f"/backup{query}")
        raw = await answer.read()
        assert answer.status == 200, raw
        assert answer.headers["Content-Type"] == "application/gzip"
        assert "automem-backup-" in answer.headers["Content-Disposition"]
    return raw


def _members(raw: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = {}
        for name in archive.getnames():
            inner = archive.extractfile(name)
            assert inner is not None
            found[name] = json.loads(gzip.decompress(inner.read()))
    return found


async def _filled(store: GraphStore) -> list[Memory]:
    """Memories with relations, an entity and a supplied vector, one of them fully worked off."""
    memories = [
        a_memory(
            "Ann: hello \u2028 \U0001f600",
            tags=("a/b",),
            metadata={"k": [1, {"x": None}]},
            speaker="Ann",
        ),
        a_memory("two", importance=0.9, session_id="s", project="p", archived=True),
        a_memory("three", t_invalid=now_ms() + 1000, layer="semantic"),
    ]
    await store.memories.create(TENANT, memories[0], embedding=Embedding("m", [0.5, 0.25]))
    await store.memories.create_many(
        TENANT, memories[1:], idem=Idem("key", "hash", (memories[1].id,), "{}")
    )
    one, two, three = memories
    await store.links.associate(TENANT, one.id, two.id, "PREFERS_OVER", {"reason": "better"})
    await store.links.associate(TENANT, two.id, three.id, "EVOLVED_INTO")
    enriched = Enriched(
        *(one.id, one.version, one.tags, ("entity:people:ann",), {"people": ["Ann"]}, {}),
        summary="hello",
        entity_nodes=(("people", "ann", "Ann"),),
        previous_ids=(two.id,),
    )
    [result] = (await store.work.enriched(TENANT, [enriched])).values()
    await store.work.embedded(TENANT, [Embedded(one.id, result.payload_version, "h", relate=True)])
    related = Related(one.id, "h", result.payload_version, ((three.id, 0.9),))
    await store.work.related(TENANT, [related])
    return memories


async def _restored(store: GraphStore, raw: bytes, folder: Path, tenant: str = OTHER) -> Report:
    file = folder / f"{uuid4().hex}.tar.gz"
    await asyncio.to_thread(file.write_bytes, raw)
    return await Restorer(Restore(store._client, store._schema), tenant).restore(file)


async def test_a_backup_has_automems_members_and_shapes(
    store: GraphStore, vectors: VectorStore
) -> None:
    memories = await _filled(store)
    await vectors.upsert(TENANT, [point(TENANT, m, unit(1.0)) for m in memories])
    found = _members(await _raw(_app(store, vectors)))
    [graph_name, points_name] = sorted(found)
    stamp = graph_name.removeprefix("falkordb/falkordb_").removesuffix(".json.gz")
    assert len(stamp) == len("20260101_120000")
    assert points_name == f"qdrant/qdrant_{stamp}.json.gz"
    graph, points = found[graph_name], found[points_name]
    assert {"timestamp", "graph_name", "nodes", "relationships", "stats"} <= set(graph)
    assert graph["stats"] == {"node_count": 4, "relationship_count": 6}
    nodes = {node["properties"]["id"]: node for node in graph["nodes"]}
    assert nodes[memories[0].id]["labels"] == ["Memory"]
    assert nodes[memories[0].id]["properties"]["content"] == memories[0].content
    numbers = {node["id"] for node in graph["nodes"]}
    for link in graph["relationships"]:
        assert {link["source_id"], link["target_id"]} <= numbers
    assert {link["type"] for link in graph["relationships"]} == {
        *("PREFERS_OVER", "EVOLVED_INTO", "REFERENCED_IN", "PRECEDED_BY", "SIMILAR_TO"),
    }
    assert set(points) >= {"timestamp", "collection_name", "points", "stats"}
    assert points["stats"] == {"points_count": 3}
    [first] = [each for each in points["points"] if each["id"] == memories[0].id]
    assert first["vector"][0] == pytest.approx(1.0)
    assert first["payload"]["tenant"] == TENANT


async def test_one_part_alone_needs_one_store_alone(
    store: GraphStore, no_vectors: VectorStore
) -> None:
    await _filled(store)
    app = _app(store, no_vectors)
    assert [n.partition("/")[0] for n in _members(await _raw(app, "?include=falkordb"))] == [
        "falkordb"
    ]
    async with served(_app(store, no_vectors), **ADMIN) as client:
        answer = await client.get("/backup/?include=falkordb,qdrant")
        assert answer.status == 503
        assert (await answer.json())["error"] == "Qdrant is unavailable"
        answer = await client.get("/backup?include=falkordb,redis")
        assert answer.status == 400
        said = (await answer.json())["error"]
        assert said == "include must be a comma-separated subset of: falkordb,qdrant"


async def test_the_admin_token_alone_opens_it_and_chooses_the_tenant(
    store: GraphStore, no_vectors: VectorStore
) -> None:
    await store.memories.create("acme", a_memory("acme's"))
    await store.memories.create(TENANT, a_memory("ours"))
    async with served(_app(store, no_vectors), **API) as client:
        assert (await client.get("/backup?include=falkordb")).status == 401

    async def contents(query: str = "", **headers: str) -> list[str]:
        app = _app(store, no_vectors)
        [graph] = _members(await _raw(app, f"?include=falkordb{query}", **headers)).values()
        return [node["properties"]["content"] for node in graph["nodes"]]

    assert await contents() == ["ours"]
    assert await contents("&tenant=acme") == ["acme's"]
    assert await contents(**{"X-Tenant-Id": "acme"}) == ["acme's"]
    assert await contents("&tenant=nobody") == []


async def test_one_backup_at_a_time(store: GraphStore, no_vectors: VectorStore) -> None:
    app = _app(store, no_vectors)
    async with app[BACKUP].spooled(TENANT, ["falkordb"]), served(app, **ADMIN) as client:
        answer = await client.get("/backup?include=falkordb")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_large_graph_is_exported_whole(store: GraphStore) -> None:
    ids = set()
    for _ in range(6):
        page = [a_memory(str(at)) for at in range(500)]
        ids |= {memory.id for memory in page}
        await store.memories.create_many(TENANT, page)
    gone = sorted(ids)[:700]  # holes among the graph's own ids
    await store.memories.delete(TENANT, gone)
    found = [
        node.properties["id"]
        async for page in Export(store._client, store._schema).nodes(TENANT, page=97)
        for node in page
    ]
    assert len(found) == len(set(found)) == 2300
    assert set(found) == ids - set(gone)


async def test_what_was_saved_comes_back(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    memories = await _filled(store)
    before = await store.memories.hydrate(TENANT, [m.id for m in memories], relation_limit=20)
    raw = await _raw(_app(store, no_vectors), "?include=falkordb")
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
    memories = await _filled(store)
    raw = await _raw(_app(store, no_vectors), "?include=falkordb")
    for tenant in (TENANT, OTHER, OTHER):
        report = await _restored(store, raw, tmp_path, tenant)
    assert (report.memories_created, report.memories_updated, report.memories_kept) == (0, 0, 3)
    assert report.nodes_created == 0
    found = await store.memories.hydrate(OTHER, [m.id for m in memories], relation_limit=20)
    assert sum(len(each.relations) for each in found.values()) == 5


async def test_a_restore_outranks_older_and_spares_newer_memories(
    store: GraphStore, no_vectors: VectorStore, settings: GraphSettings, tmp_path: Path
) -> None:
    memories = await _filled(store)
    raw = await _raw(_app(store, no_vectors), "?include=falkordb")
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
        "metadata": json.dumps({"session_id": "s1", "enrichment": {"last_run": "x"}, "k": 1}),
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
    assert (memory.session_id, memory.metadata) == ("s1", {"session_id": "s1", "k": 1})
    assert memory.t_invalid == 1_893_456_000_000
    assert not memory.enriched
    assert [(r.type, r.strength) for r in found[ids[0]].relations] == [("LEADS_TO", 0.7)]
    [legacy] = found[ids[1]].relations
    assert (legacy.type, legacy.kind, legacy.strength) == ("DISCOVERED", "explains", 0.6)
    assert found[ids[1]].memory.timestamp > 0
    again = await _restored(store, _automem(nodes, links), tmp_path)
    assert (again.memories_created, again.memories_kept) == (0, 2)
    keys = await cypher(settings, "CALL db.propertyKeys()", OTHER)
    assert not {"some_key_of_theirs", "odd key"} & {row[0] for row in keys}


async def test_a_restore_in_small_batches_is_the_same(
    store: GraphStore, no_vectors: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.restore.BATCH", 2)
    await _filled(store)
    report = await _restored(
        store, await _raw(_app(store, no_vectors), "?include=falkordb"), tmp_path
    )
    assert (report.memories_created, report.relations, report.refused) == (3, 6, {})


async def test_the_command_restores_into_the_configured_stores(
    store: GraphStore,
    no_vectors: VectorStore,
    settings: GraphSettings,
    redis_url: str,
    tmp_path: Path,
) -> None:
    if not hasattr(store, "restore"):
        pytest.skip("GraphStore.restore is not wired yet")
    memories = await _filled(store)
    file = tmp_path / "b.tar.gz"
    raw = await _raw(_app(store, no_vectors), "?include=falkordb")
    await asyncio.to_thread(file.write_bytes, raw)
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "FALKORDB_URL": settings.url,
        "FALKORDB_GRAPH": settings.graph,
        "EUNOE_REDIS_PREFIX": f"t{uuid4().hex[:12]}",
    }

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
