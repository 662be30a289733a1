"""/graph over a real graph: what is shown, in which order, and that it is read in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from services.api.graph import views as graph_views
from services.api.graph.views import GRAPH_VIEWS, GraphViews
from shared.config import GraphSettings
from shared.domain.memory import Memory, iso, now_ms
from shared.graph.memory import views as views_module
from shared.graph.memory.views import NodeFilter, Views
from shared.graph.store import GraphStore
from shared.vectors import VectorStore
from tests.support.stack.in_process import Client, make_app, served, tokens
from tests.support.stores.graphs import TENANT, a_memory, associate, cypher
from tests.support.stores.vector_stores import point, unit

HIDDEN = ("MetaPattern",)
DAY_MS = 86_400_000


@pytest.fixture
def views(store: GraphStore) -> Views:
    return Views(store._client, store._schema)


def _app(store: GraphStore, vectors: VectorStore) -> web.Application:
    app = make_app(graph_views.ROUTES, tokens())
    app[GRAPH_VIEWS] = GraphViews(store, vectors, hidden=HIDDEN)
    return app


@pytest.fixture
async def client(store: GraphStore, no_vectors: VectorStore) -> AsyncIterator[Client]:
    async with served(_app(store, no_vectors)) as found:
        yield found


async def _get(client: Client, path: str) -> Any:
    answer = await client.get(path)
    body = await answer.json()
    assert answer.status == 200, body
    return body


async def _stored(store: GraphStore, *memories: Memory) -> list[str]:
    await store.memories.create_many(TENANT, memories)
    return [memory.id for memory in memories]


async def test_a_snapshot_has_every_field_that_a_viewer_reads(
    client: Client, store: GraphStore
) -> None:
    one = a_memory("one", type="Decision", importance=0.8, confidence=0.5, tags=("a",))
    other = a_memory("two", importance=0.4, metadata={"k": 1})
    ids = await _stored(store, one, other)
    await associate(store, TENANT, ids[0], ids[1], "LEADS_TO", strength=0.7)
    body = await _get(client, "/graph/snapshot")
    assert set(body) == {"nodes", "edges", "stats", "meta"}
    first, second = body["nodes"]
    assert first["id"] == one.id
    assert {name: first[name] for name in ("content", "type", "importance", "tags")} == {
        "content": "one",
        "type": "Decision",
        "importance": 0.8,
        "tags": ["a"],
    }
    assert first["timestamp"] == iso(one.timestamp)
    assert first["updated_at"] == iso(one.updated_at)
    assert first["color"] == body["meta"]["type_colors"]["Decision"]
    assert first["radius"] == pytest.approx(0.5 + 1.5 * 0.8)
    assert first["opacity"] == pytest.approx(0.4 + 0.6 * 0.5)
    assert second["metadata"] == {"k": 1}
    [edge] = body["edges"]
    assert edge["id"] == f"{one.id}-LEADS_TO-{other.id}"
    assert (edge["source"], edge["target"], edge["strength"]) == (one.id, other.id, 0.7)
    assert edge["color"] == body["meta"]["relation_colors"]["LEADS_TO"]
    assert edge["properties"]["strength"] == 0.7
    assert edge["properties"]["updated_at"].endswith("+00:00")
    stats = body["stats"]
    assert (stats["total_nodes"], stats["returned_nodes"], stats["sampled"]) == (2, 2, False)
    assert (stats["total_edges"], stats["returned_edges"], stats["sample_ratio"]) == (1, 1, 1.0)
    assert body["meta"]["archive_threshold"] == 0.1


async def test_the_most_important_come_first_and_equals_by_time(
    client: Client, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many small pages the order is the same as in one."""
    monkeypatch.setattr(views_module, "_RANKED_PAGE", 7)
    now = now_ms()
    memories = [
        a_memory(str(at), importance=(at % 10) / 10, timestamp=now - at * 1000) for at in range(100)
    ]
    await _stored(store, *memories)
    wanted = sorted(memories, key=lambda m: (-m.importance, -m.timestamp))
    for limit in (1, 25, 99):
        body = await _get(client, f"/graph/snapshot?limit={limit}")
        assert [node["id"] for node in body["nodes"]] == [m.id for m in wanted[:limit]]
        assert body["stats"]["sampled"]
        assert body["stats"]["sample_ratio"] == limit / 100
    everything = await _get(client, "/graph/snapshot?limit=0")
    assert [node["id"] for node in everything["nodes"]] == [m.id for m in wanted]


async def test_edges_to_memories_that_are_not_shown_are_left_out(
    client: Client, store: GraphStore
) -> None:
    a, b, c = await _stored(store, *(a_memory(str(at), importance=1 - at / 10) for at in range(3)))
    await associate(store, TENANT, a, b, "PART_OF")
    await associate(store, TENANT, a, c, "PART_OF")
    body = await _get(client, "/graph/snapshot?limit=2")
    assert [edge["target"] for edge in body["edges"]] == [b]


async def test_filters_choose_by_importance_type_and_time(
    client: Client, store: GraphStore
) -> None:
    now = now_ms()
    old = a_memory("old", type="Insight", importance=0.9, timestamp=now - 10 * DAY_MS)
    low = a_memory("low", type="Insight", importance=0.1)
    style = a_memory("style", type="Style", importance=0.5)
    await _stored(store, old, low, style)

    async def shown(query: str) -> list[str]:
        body = await _get(client, f"/graph/snapshot?{query}")
        return [node["content"] for node in body["nodes"]]

    assert await shown("min_importance=0.5") == ["old", "style"]
    assert await shown("types=Insight") == ["old", "low"]
    assert await shown("types=Style,%20Insight") == ["old", "style", "low"]
    since = iso(now - DAY_MS)
    assert await shown(f"since={since}") == ["style", "low"]  # its + comes unescaped, a space
    assert await shown("since=2020-01-01") == ["old", "style", "low"]


async def test_internal_nodes_and_types_are_not_shown(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    [seen, meta] = await _stored(store, a_memory("seen"), a_memory("m", type="MetaPattern"))
    await cypher(
        settings,
        f"MATCH (m:Memory {{id: '{seen}'}}) CREATE (:Entity {{id: 'entity:tools:x'}})"
        "-[:REFERENCED_IN]->(m)",
    )
    body = await _get(client, "/graph/snapshot")
    assert [node["id"] for node in body["nodes"]] == [seen]
    assert body["edges"] == []
    assert body["stats"]["total_nodes"] == 1
    asked_for = await _get(client, "/graph/snapshot?types=MetaPattern")
    assert [node["id"] for node in asked_for["nodes"]] == [meta]


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "min_importance=x",
        "min_importance=nan",
        "since=yesterday",
        "limit=1.5",
    ],
)
async def test_a_bad_parameter_is_refused(client: Client, query: str) -> None:
    answer = await client.get(f"/graph/snapshot?{query}")
    assert answer.status == 400
    message = (await answer.json())["error"]
    assert query.partition("=")[0] in message
    if query == "limit=-1":
        assert message == "limit must be >= 0"


async def test_an_empty_tenant_has_an_empty_picture(client: Client) -> None:
    body = await _get(client, "/graph/snapshot")
    assert (body["nodes"], body["edges"], body["stats"]["sample_ratio"]) == ([], [], 0.0)
    assert (await _get(client, "/graph/stats"))["totals"] == {"nodes": 0, "edges": 0}


async def test_a_picture_is_read_in_a_bounded_number_of_calls(
    store: GraphStore, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _stored(store, *(a_memory(str(at)) for at in range(300)))
    calls: list[str] = []
    read = store._client.query

    async def counting(tenant: str, operation: str, *rest: Any, **params: Any) -> Any:
        calls.append(operation)
        return await read(tenant, operation, *rest, **params)

    monkeypatch.setattr(store._client, "query", counting)
    ids = await views.strongest(TENANT, NodeFilter(limit=200))
    await views.edges(TENANT, ids, most=1000)
    assert len(ids) == 200
    assert len(calls) == 3


async def _chain(store: GraphStore, count: int) -> list[str]:
    ids = await _stored(store, *(a_memory(f"link {at}") for at in range(count)))
    for one, other in pairwise(ids):
        await associate(store, TENANT, one, other, "LEADS_TO")
    return ids


async def test_neighbours_are_those_within_depth(client: Client, store: GraphStore) -> None:
    ids = await _chain(store, 6)
    for depth in (1, 2, 3):
        body = await _get(client, f"/graph/neighbors/{ids[0]}?depth={depth}")
        assert [node["id"] for node in body["graph_neighbors"]] == ids[1 : depth + 1]
        assert len(body["edges"]) == depth
    # Against the edges' direction too, and clamped.
    body = await _get(client, f"/graph/neighbors/{ids[5]}?depth=99")
    assert [node["id"] for node in body["graph_neighbors"]] == [ids[4], ids[3], ids[2]]
    assert body["meta"]["depth"] == 3
    assert body["center"]["id"] == ids[5]
    assert body["center"]["color"]
    assert (await _get(client, f"/graph/neighbors/{ids[0]}?depth=-4"))["meta"]["depth"] == 1


async def test_never_more_than_a_hundred_neighbours(client: Client, store: GraphStore) -> None:
    hub, *leaves = await _stored(store, *(a_memory(str(at)) for at in range(131)))
    for leaf in leaves:
        await associate(store, TENANT, hub, leaf, "RELATES_TO")
    body = await _get(client, f"/graph/neighbors/{hub}?depth=3")
    assert len(body["graph_neighbors"]) == 100
    assert body == await _get(client, f"/graph/neighbors/{hub}?depth=3") | {"meta": body["meta"]}


async def test_an_unknown_memory_has_no_neighbourhood(client: Client) -> None:
    answer = await client.get("/graph/neighbors/nobody")
    assert answer.status == 404
    assert (await answer.json())["error"] == "Memory nobody not found"


@pytest.mark.parametrize("query", ["depth=x", "semantic_limit=2.5"])
async def test_bad_numbers_of_a_neighbourhood_are_refused(client: Client, query: str) -> None:
    assert (await client.get(f"/graph/neighbors/x?{query}")).status == 400


async def test_without_vectors_the_neighbourhood_says_so(client: Client, store: GraphStore) -> None:
    ids = await _chain(store, 2)
    body = await _get(client, f"/graph/neighbors/{ids[0]}")
    assert body["semantic_neighbors"] == []
    assert body["meta"]["degraded"] == ["vector"]
    body = await _get(client, f"/graph/neighbors/{ids[0]}?include_semantic=false")
    assert "degraded" not in body["meta"]


async def test_semantic_neighbours_are_near_and_not_shown_twice(
    store: GraphStore, vectors: VectorStore
) -> None:
    memories = [a_memory(str(at)) for at in range(5)]
    ids = await _stored(store, *memories)
    await associate(store, TENANT, ids[0], ids[1], "LEADS_TO")
    await vectors.upsert(
        TENANT, [point(TENANT, memory, unit(1.0, 0.1 * at)) for at, memory in enumerate(memories)]
    )
    async with served(_app(store, vectors)) as client:
        body = await _get(client, f"/graph/neighbors/{ids[0]}?semantic_limit=2")
        # The nearest one is a neighbour by an edge already: its place goes to the next.
        assert [node["id"] for node in body["semantic_neighbors"]] == [ids[2], ids[3]]
        similar = [node["similarity"] for node in body["semantic_neighbors"]]
        assert similar == sorted(similar, reverse=True)
        assert 0.9 < similar[0] < 1
        body = await _get(client, f"/graph/neighbors/{ids[0]}?semantic_limit=0")
        assert body["semantic_neighbors"] == []


async def test_stats_count_types_relations_importance_and_days(
    client: Client, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """recent_activity is always empty in AutoMem's answer."""
    monkeypatch.setattr(views_module, "_COUNTED_PAGE", 3)
    now = now_ms()
    kept = [
        a_memory("a", type="Style", importance=0.8),
        a_memory("b", type="Style", importance=0.79, timestamp=now - DAY_MS),
        a_memory("c", importance=0.5, timestamp=now - DAY_MS),
        a_memory("d", importance=0.49, timestamp=now - 6 * DAY_MS),
        a_memory("e", importance=0.1, timestamp=now - 40 * DAY_MS),
        a_memory("f", type="MetaPattern", importance=1.0),
    ]
    ids = await _stored(store, *kept)
    await associate(store, TENANT, ids[0], ids[1], "PART_OF")
    await associate(store, TENANT, ids[1], ids[2], "PART_OF")
    await associate(store, TENANT, ids[0], ids[2], "RELATES_TO")
    body = await _get(client, "/graph/stats")
    assert body["totals"] == {"nodes": 5, "edges": 3}
    assert body["by_type"] == {"Memory": 3, "Style": 2}
    assert list(body["by_relationship"].items()) == [("PART_OF", 2), ("RELATES_TO", 1)]
    assert body["importance_distribution"] == {"high": 1, "medium": 2, "low": 2}
    assert body["recent_activity"] == [
        {"date": (iso(now) or "")[:10], "count": 1},
        {"date": (iso(now - DAY_MS) or "")[:10], "count": 2},
        {"date": (iso(now - 6 * DAY_MS) or "")[:10], "count": 1},
    ]


async def test_the_totals_are_of_what_can_be_shown(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    """Edges of entities, patterns and hidden memories were counted, and never shown."""
    a, b, meta, other = await _stored(
        store,
        *(a_memory("a"), a_memory("b")),
        *(a_memory("meta", type="MetaPattern"), a_memory("other", type="MetaPattern")),
    )
    for one, two, kind in (
        (a, b, "EXEMPLIFIES"),
        (b, a, "RELATES_TO"),
        (meta, a, "RELATES_TO"),
        (a, meta, "PART_OF"),
        (meta, other, "PART_OF"),
    ):
        await associate(store, TENANT, one, two, kind)
    await cypher(
        settings,
        "MATCH (m:Memory) WITH collect(m) AS ms CREATE (e:Entity {id: 'e'}) CREATE (p:Pattern"
        " {id: 'p'}) FOREACH (m IN ms | CREATE (e)-[:REFERENCED_IN]->(m), (m)-[:EXEMPLIFIES]->(p))",
    )
    snapshot = await _get(client, "/graph/snapshot?limit=0")
    stats = await _get(client, "/graph/stats")
    shown = {name: snapshot["stats"][name] for name in ("total_edges", "returned_edges")}
    assert shown == {"total_edges": 2, "returned_edges": 2}
    assert stats["totals"] == {"nodes": 2, "edges": 2}
    assert stats["by_relationship"] == {"EXEMPLIFIES": 1, "RELATES_TO": 1}


async def test_types_and_relations_have_colors(client: Client) -> None:
    types = await _get(client, "/graph/types")
    assert len(types["types"]) == 7
    assert set(types["types"]) <= set(types["colors"])
    relations = await _get(client, "/graph/relations")
    assert len(relations["relations"]) == 13
    assert relations["relations"] == sorted(relations["relations"])
    assert set(relations["relations"]) <= set(relations["colors"])
    assert "DISCOVERED" not in relations["relations"]


async def test_another_tenants_memories_are_not_in_the_picture(
    client: Client, store: GraphStore
) -> None:
    [theirs] = [a_memory("theirs")]
    await store.memories.create("acme", theirs)
    await _stored(store, a_memory("ours"))
    body = await _get(client, "/graph/snapshot")
    assert [node["content"] for node in body["nodes"]] == ["ours"]
    assert (await client.get(f"/graph/neighbors/{theirs.id}")).status == 404
