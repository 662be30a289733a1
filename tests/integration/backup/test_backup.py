"""GET /backup: the content of the file, and who may get it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from services.api.backup import backup as api
from services.api.backup.backup import BACKUP, Backup
from shared.graph.store import GraphStore
from shared.vectors import VectorStore
from tests.support.stack.in_process import ADMIN, API, make_app, served, tokens
from tests.support.stores.backing_up import backup_app, filled, raw_backup
from tests.support.stores.graphs import TENANT, a_memory
from tests.support.stores.vector_stores import point, unit


def _members(raw: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = {}
        for name in archive.getnames():
            inner = archive.extractfile(name)
            assert inner is not None
            found[name] = json.loads(gzip.decompress(inner.read()))
    return found


async def test_a_backup_has_automems_members_and_shapes(
    store: GraphStore, vectors: VectorStore
) -> None:
    memories = await filled(store)
    await vectors.upsert(TENANT, [point(TENANT, m, unit(1.0)) for m in memories])
    found = _members(await raw_backup(backup_app(store, vectors)))
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
    await filled(store)
    app = backup_app(store, no_vectors)
    assert [n.partition("/")[0] for n in _members(await raw_backup(app, "?include=falkordb"))] == [
        "falkordb"
    ]
    async with served(backup_app(store, no_vectors), **ADMIN) as client:
        answer = await client.get("/backup/?include=falkordb,qdrant")
        assert answer.status == 503
        assert (await answer.json())["error"] == "Qdrant is unavailable"


@pytest.mark.parametrize("include", ["falkordb,redis", "", "%20", "falkordb,,qdrant", "falkordb,"])
async def test_another_part_is_refused(
    store: GraphStore, no_vectors: VectorStore, include: str
) -> None:
    async with served(backup_app(store, no_vectors), **ADMIN) as client:
        answer = await client.get(f"/backup?include={include}")
        assert answer.status == 400
        message = (await answer.json())["error"]
        assert message == "include must be a comma-separated subset of: falkordb,qdrant"


async def test_the_admin_token_alone_opens_it_and_chooses_the_tenant(
    store: GraphStore, no_vectors: VectorStore
) -> None:
    await store.memories.create("acme", a_memory("acme's"))
    await store.memories.create(TENANT, a_memory("ours"))
    async with served(backup_app(store, no_vectors), **API) as client:
        assert (await client.get("/backup?include=falkordb")).status == 401

    async def contents(query: str = "", **headers: str) -> list[str]:
        app = backup_app(store, no_vectors)
        [graph] = _members(await raw_backup(app, f"?include=falkordb{query}", **headers)).values()
        return [node["properties"]["content"] for node in graph["nodes"]]

    assert await contents() == ["ours"]
    assert await contents("&tenant=acme") == ["acme's"]
    assert await contents(**{"X-Tenant-Id": "acme"}) == ["acme's"]
    assert await contents("&tenant=nobody") == []


async def test_one_backup_at_a_time(store: GraphStore, no_vectors: VectorStore) -> None:
    app = make_app(api.ROUTES, tokens())
    app[BACKUP] = Backup(store.export, no_vectors, patience_s=0.05)
    async with served(app, **ADMIN) as client:
        async with app[BACKUP].spooled(TENANT, ["falkordb"]):
            answer = await client.get("/backup?include=falkordb")
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert (await client.get("/backup?include=falkordb")).status == 200


async def test_the_next_backup_waits_for_the_end_of_the_one_before(
    store: GraphStore, no_vectors: VectorStore
) -> None:
    """Its client has read all of it, and comes again while the spool is being closed."""
    app = backup_app(store, no_vectors)
    async with app[BACKUP].spooled(TENANT, ["falkordb"]):
        download = asyncio.create_task(raw_backup(app, "?include=falkordb"))
        _, waiting = await asyncio.wait([download], timeout=0.3)
        assert waiting
    assert _members(await download)


async def test_a_large_graph_is_exported_whole(store: GraphStore) -> None:
    ids = set()
    for _ in range(6):
        page = [a_memory(str(at)) for at in range(500)]
        ids |= {memory.id for memory in page}
        await store.memories.create_many(TENANT, page)
    gone = sorted(ids)[:700]  # holes among the graph's own ids
    await store.memories.delete(TENANT, gone)
    found = [
        node["properties"]["id"]
        async for page in store.export.nodes(TENANT, page=97)
        for node in page
    ]
    assert len(found) == len(set(found)) == 2300
    assert set(found) == ids - set(gone)
