"""/entities and /entity over a real graph: counts, aliases, merges and what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.api.graph import entities as api
from services.api.graph.entities import ENTITIES
from shared.config import GraphSettings
from shared.errors import Conflict
from shared.graph.memory import entities as store_module
from shared.graph.memory.entities import Entities
from shared.graph.stages.enrich_query import Enriched
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from tests.support.stack.in_process import ADMIN, API, Client, make_app, served, tokens
from tests.support.stores.graphs import TENANT, a_memory, cypher


@pytest.fixture
def entities(store: GraphStore) -> Entities:
    return Entities(store._client, store._schema)


@pytest.fixture
def use_cases(store: GraphStore, clients: Any, make_stream: Any) -> api.Entities:
    streams = {Stage.ENRICH: make_stream(Stage.ENRICH)}
    return api.Entities(store, Outbox(clients, streams, delay_s=60))


@pytest.fixture
async def client(use_cases: api.Entities) -> AsyncIterator[Client]:
    app = make_app(api.ROUTES, tokens())
    app[ENTITIES] = use_cases
    async with served(app, **API, **ADMIN) as found:
        yield found


async def _named(store: GraphStore, *names: tuple[str, str], tenant: str = TENANT) -> str:
    """A memory that the enricher found (category, slug) in; its id."""
    memory = a_memory("text")
    await store.memories.create(tenant, memory)
    row = Enriched(
        memory.id,
        memory.version,
        tags=(),
        entity_tags=(),
        entities={},
        enrichment={},
        entity_nodes=tuple((category, slug, slug.title()) for category, slug in names),
    )
    assert await store.work.enriched(tenant, [row])
    return memory.id


async def _get(client: Client, path: str, status: int = 200) -> Any:
    answer = await client.get(path)
    body = await answer.json()
    assert answer.status == status, body
    return body


async def _merge(client: Client, slug: str, into: object, status: int = 200) -> Any:
    answer = await client.post(f"/entity/{slug}/merge", json={"merge_into": into})
    body = await answer.json()
    assert answer.status == status, body
    return body


async def test_entities_come_by_their_references(client: Client, store: GraphStore) -> None:
    for _ in range(3):
        await _named(store, ("people", "ada"), ("tools", "redis"))
    await _named(store, ("people", "ada"))
    body = await _get(client, "/entities")
    assert body["status"] == "success"
    assert body["count"] == 2
    assert [(e["id"], e["reference_count"]) for e in body["entities"]] == [
        ("entity:people:ada", 4),
        ("entity:tools:redis", 3),
    ]
    first = body["entities"][0]
    assert set(first) == {
        *("id", "slug", "category", "name", "aliases", "identity", "identity_version"),
        *("identity_updated_at", "identity_source_count", "reference_count", "created_at"),
        "last_referenced_at",
    }
    assert first["created_at"].endswith("+00:00")
    only = await _get(client, "/entities?category=tools")
    assert [e["slug"] for e in only["entities"]] == ["redis"]
    assert (await _get(client, "/entities?limit=0"))["count"] == 1
    assert (await _get(client, "/entities?limit=9999"))["count"] == 2
    assert (await client.get("/entities?limit=x")).status == 400


async def test_one_entity_by_slug_or_id(client: Client, store: GraphStore) -> None:
    await _named(store, ("people", "ada"))
    for name in ("ada", "entity:people:ada"):
        body = await _get(client, f"/entity/{name}")
        assert body["entity"]["name"] == "Ada"
    assert (await _get(client, "/entity/eve", 404))["error"] == "Entity 'eve' not found"


async def test_a_slug_of_two_categories_means_the_better_known_one(
    client: Client, store: GraphStore
) -> None:
    await _named(store, ("tools", "ada"))
    await _named(store, ("people", "ada"))
    await _named(store, ("people", "ada"))
    assert (await _get(client, "/entity/ada"))["entity"]["category"] == "people"


async def test_who_is_named_in_deleted_memories_alone_is_gone(
    client: Client, store: GraphStore
) -> None:
    only = await _named(store, ("people", "ada"), ("people", "eve"))
    await _named(store, ("people", "eve"))
    await store.memories.delete(TENANT, [only])
    assert [e["slug"] for e in (await _get(client, "/entities"))["entities"]] == ["eve"]
    await _get(client, "/entity/ada", 404)
    await _get(client, "/entity/entity:people:ada", 404)
    await _named(store, ("people", "ada"))
    assert (await _get(client, "/entity/ada"))["entity"]["reference_count"] == 1


async def test_who_has_an_alias_or_an_identity_outlives_the_memories(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    names = (("people", "ada"), ("people", "ada-lovelace"), ("people", "eve"), ("tools", "ada"))
    only = await _named(store, *names)
    await _merge(client, "entity:people:ada", "ada-lovelace")
    await cypher(settings, "MATCH (e:Entity {slug: 'eve'}) SET e.identity = 'a listener'")
    await store.memories.delete(TENANT, [only])
    listed = (await _get(client, "/entities"))["entities"]
    assert [e["slug"] for e in listed] == ["ada-lovelace", "eve"]
    assert (await _get(client, "/entity/eve"))["entity"]["reference_count"] == 0
    # The tool of that slug is gone; the alias is found behind it.
    assert (await _get(client, "/entity/ada"))["entity"]["slug"] == "ada-lovelace"


async def test_a_merge_moves_references_and_leaves_an_alias(
    client: Client, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_MOVED_PAGE", 2)
    both = await _named(store, ("people", "ada"), ("people", "ada-lovelace"))
    for _ in range(5):
        await _named(store, ("people", "ada"))
    body = await _merge(client, "ada", "ada-lovelace")
    assert body["merge"] == {
        "canonical": "entity:people:ada-lovelace",
        "alias": "entity:people:ada",
        "alias_slug": "ada",
        "edges_moved": 6,
    }
    found = (await _get(client, "/entity/ada"))["entity"]
    assert (found["slug"], found["aliases"], found["reference_count"]) == (
        "ada-lovelace",
        ["ada"],
        6,
    )
    assert (await _get(client, "/entities"))["count"] == 1
    assert both


async def test_a_merge_may_be_asked_for_again(client: Client, store: GraphStore) -> None:
    await _named(store, ("people", "ada"))
    await _named(store, ("people", "ada-lovelace"))
    await _merge(client, "ada", "ada-lovelace")
    assert (await _merge(client, "ada", "ada-lovelace"))["merge"]["edges_moved"] == 0
    found = (await _get(client, "/entity/ada"))["entity"]
    assert (found["aliases"], found["reference_count"]) == (["ada"], 2)


async def test_an_interrupted_merge_is_finished_by_the_next(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    await _named(store, ("people", "ada"))
    await _named(store, ("people", "ada-lovelace"))
    # As left behind by a process that died after the first query.
    await cypher(
        settings,
        "MATCH (a:Entity {slug: 'ada'}) SET a.merged_into = 'entity:people:ada-lovelace'",
    )
    assert (await _merge(client, "ada", "ada-lovelace"))["merge"]["edges_moved"] == 1
    assert (await _get(client, "/entity/ada"))["entity"]["reference_count"] == 2


async def test_aliases_follow_when_their_entity_is_merged_itself(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    for slug in ("a", "ab", "abc"):
        await _named(store, ("tools", slug))
    await _merge(client, "a", "ab")
    await _merge(client, "ab", "abc")
    for name in ("a", "ab", "abc"):
        found = (await _get(client, f"/entity/{name}"))["entity"]
        assert (found["slug"], found["reference_count"]) == ("abc", 3)
        assert sorted(found["aliases"]) == ["a", "ab"]
    rows = await cypher(settings, "MATCH (e:Entity) WHERE e.slug = 'a' RETURN e.merged_into")
    assert rows == [["entity:tools:abc"]]


async def test_the_same_slug_of_two_categories_can_be_merged(
    client: Client, store: GraphStore
) -> None:
    await _named(store, ("people", "redis"))
    await _named(store, ("tools", "redis"))
    body = await _merge(client, "redis", "entity:tools:redis")
    assert body["merge"]["alias"] == "entity:people:redis"
    assert (await _get(client, "/entity/redis"))["entity"]["reference_count"] == 2


@pytest.mark.parametrize("into", [None, "", "  ", 7, ["x"]])
async def test_a_merge_needs_a_target(client: Client, store: GraphStore, into: object) -> None:
    await _named(store, ("people", "ada"))
    body = await _merge(client, "ada", into, 400)
    assert body["error"] == "'merge_into' slug is required"
    assert (await client.post("/entity/ada/merge")).status == 400


async def test_a_merge_of_nobody_or_of_itself_is_refused(client: Client, store: GraphStore) -> None:
    await _named(store, ("people", "ada"))
    await _named(store, ("people", "eve"))
    assert (await _merge(client, "nobody", "ada", 404))["error"] == "Entity 'nobody' not found"
    body = await _merge(client, "ada", "nobody", 404)
    assert body["error"] == "Target entity 'nobody' not found"
    await _merge(client, "ada", "ada", 400)
    await _merge(client, "ada", "eve")
    await _merge(client, "eve", "ada", 400)  # ada is eve by now


async def test_of_two_opposite_merges_one_wins(entities: Entities, store: GraphStore) -> None:
    await _named(store, ("people", "ada"), ("people", "eve"))
    ids = ("entity:people:ada", "entity:people:eve")
    outcomes = await asyncio.gather(
        entities.merge(TENANT, alias=ids[0], canonical=ids[1]),
        entities.merge(TENANT, alias=ids[1], canonical=ids[0]),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    [left] = await entities.top(TENANT, limit=10)
    assert left.references == 1


async def test_candidates_are_alike_and_share_memories(client: Client, store: GraphStore) -> None:
    for _ in range(4):
        await _named(store, ("tools", "postgresq"), ("tools", "postgresql"))
    await _named(store, ("tools", "postgresql"))
    await _named(store, ("people", "ann"), ("tools", "git"))
    await _named(store, ("people", "anna"))  # alike, but never in one memory
    body = await _get(client, "/entities/merge-candidates")
    assert body["count"] == 1
    [candidate] = body["candidates"]
    assert (candidate["canonical"], candidate["alias"]) == (
        "entity:tools:postgresql",
        "entity:tools:postgresq",
    )
    assert {candidate["entity_a"], candidate["entity_b"]} == {
        candidate["canonical"],
        candidate["alias"],
    }
    assert candidate["confidence"] == pytest.approx(0.4 * 0.9 + 0.6)
    assert candidate["auto_merge"] is True
    assert (await _get(client, "/entities/merge-candidates?category=people"))["count"] == 0


async def test_the_audit_names_what_deserves_a_look(
    client: Client, store: GraphStore, settings: GraphSettings
) -> None:
    await _named(store, ("people", "ada"), ("tools", "1234"))
    await cypher(
        settings,
        "CREATE (:Entity {id: 'entity:people:gone', slug: 'gone', category: 'people', name: 'G'})",
    )
    body = await _get(client, "/entities/audit")
    assert body["dry_run"] is True
    assert [each["slug"] for each in body["accepted"]] == ["ada"]
    assert [(each["slug"], each["reason"]) for each in body["rejected_entities"]] == [
        ("1234", "no_letter"),
        ("gone", "unreferenced"),
    ]
    assert body["counts_by_reason"] == {"no_letter": 1, "unreferenced": 1}
    assert body["counts_by_category"]["people"] == {"accepted": 1, "rejected": 1}
    assert body["counts"]["accepted_entities"] == 1
    assert body["merge_candidates_skipped"] is False
    only = await _get(client, "/entities/audit?summary=true&reason=unreferenced&limit=99999")
    assert [each["slug"] for each in only["rejected_sample"]] == ["gone"]
    assert (only["accepted_sample"], only["limit"], only["merge_candidates_skipped"]) == (
        [],
        500,
        True,
    )
    page = await _get(client, "/entities/audit?offset=1&limit=1")
    assert [each["slug"] for each in page["rejected_entities"]] == ["gone"]
    assert (await client.get("/entities/audit?limit=x")).status == 400


async def test_merge_and_audit_need_the_admin_token(use_cases: api.Entities) -> None:
    app = make_app(api.ROUTES, tokens())
    app[ENTITIES] = use_cases
    async with served(app) as client:
        assert (await client.get("/entities/audit")).status == 401
        assert (await client.post("/entity/a/merge", json={"merge_into": "b"})).status == 401
        assert (await client.get("/entities")).status == 200


async def test_another_tenants_entities_are_not_seen(client: Client, store: GraphStore) -> None:
    await _named(store, ("people", "ada"), tenant="acme")
    assert (await _get(client, "/entities"))["count"] == 0
    assert (await client.get("/entity/ada")).status == 404
    await _merge(client, "ada", "ada", 404)
