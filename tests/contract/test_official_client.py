"""AutoMem's own client works unchanged: every call it makes, every field it reads.

Ranked recall has its own module beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contract.official_client import (
    BATCH,
    HEALTH,
    MANY_ASSOCIATED,
    MEMORY,
    ClientError,
    OfficialClient,
    assert_shape,
)
from tests.support.stack.api_process import ApiProcess, running_api
from tests.support.stores.proxy import Proxy
from tests.support.waiting.conditions import limited, wait_until

TOKEN = "only-for-tests"


@pytest.fixture(scope="module")
async def api(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, falkordb_url: str
) -> AsyncIterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    given = ApiProcess(folder, redis_url, falkordb_url, AUTOMEM_API_TOKEN=TOKEN)
    async with running_api(given) as started:
        yield started


@pytest.fixture
def client(api: ApiProcess) -> OfficialClient:
    return OfficialClient(f"{api.url}/", TOKEN)


@pytest.fixture
async def flaky(api: ApiProcess) -> AsyncIterator[tuple[OfficialClient, Proxy]]:
    """A client behind a proxy that can keep the API's answers."""
    proxy = Proxy(api.url)
    await proxy.open()
    yield OfficialClient(proxy.url, TOKEN), proxy
    await proxy.close()


# -- health -------------------------------------------------------------------------------


async def test_health(client: OfficialClient) -> None:
    async def counted() -> bool:
        return (await client.health())["memory_count"] is not None

    await wait_until(counted, "the first probe of the graph has come back")
    found = await client.health()
    assert_shape(found, HEALTH)
    assert isinstance(found["enrichment"]["status"], str)


async def test_health_needs_no_token(api: ApiProcess) -> None:
    found = await OfficialClient(api.url).health()
    assert_shape(found, {**HEALTH, "memory_count": (int, type(None))})


async def test_a_wrong_token_is_refused(api: ApiProcess) -> None:
    with pytest.raises(ClientError, match="Unauthorized") as refused:
        await OfficialClient(api.url, "wrong").store({"content": "Not mine"})
    assert refused.value.status == 401


# -- store --------------------------------------------------------------------------------


async def test_store_with_every_field(client: OfficialClient) -> None:
    memory = {
        "content": "Ada chose FalkorDB over Neo4j",
        "tags": ["Decision:db", "project/alpha"],
        "importance": 0.8,
        "metadata": {"speaker": "Ada", "nested": {"deep": [1, 2.5, None, True]}},
        "timestamp": "2024-05-01T12:00:00Z",
        "type": "Decision",
        "confidence": 0.7,
        "id": str(uuid4()),
        "t_valid": "2024-05-01T12:00:00Z",
        "t_invalid": "2030-01-01T00:00:00+02:00",
        "updated_at": "2024-05-02T12:00:00Z",
        "last_accessed": "2024-05-03T12:00:00Z",
    }
    stored = await client.store(memory)
    UUID(stored["memory_id"])
    assert stored["memory_id"] != memory["id"]  # an id of the client's is ignored
    assert isinstance(stored["message"], str)

    found = await client.recall_by_id(stored["memory_id"])

    assert found is not None
    assert_shape(found, MEMORY)
    kept = ("content", "importance", "metadata", "type", "confidence", "tags")
    assert {name: found[name] for name in kept} == {name: memory[name] for name in kept}
    assert found["timestamp"] == "2024-05-01T12:00:00+00:00"
    assert found["t_invalid"] == "2029-12-31T22:00:00+00:00"
    assert found["updated_at"] == "2024-05-02T12:00:00+00:00"


async def test_store_with_only_content(client: OfficialClient) -> None:
    stored = await client.store({"content": "  Paris is the capital of France \n"})
    found = await client.recall_by_id(stored["memory_id"])
    assert found is not None
    assert_shape(found, MEMORY)
    assert found["content"] == "Paris is the capital of France"
    assert (found["importance"], found["tags"], found["metadata"]) == (0.5, [], {})
    assert "t_invalid" not in found


async def test_store_keeps_session_project_and_layer(api: ApiProcess) -> None:
    """Ours, which the client sends in metadata: a session, named there or beside it."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for body in (
        {"content": "Said there", "metadata": {"session_id": "s-1"}},
        {"content": "Said here", "session_id": "s-1", "project": "p-1", "layer": "semantic"},
    ):
        stored = await api.ask("POST", "/memory", json=body, headers=headers)
        found = await api.ask("GET", f"/memory/{stored.body['memory_id']}", headers=headers)
        memory = found.body["memory"]
        assert memory["session_id"] == "s-1"
        assert memory["project"] == body.get("project", "default")
        assert memory["layer"] == body.get("layer", "episodic")
        assert memory["metadata"] == body.get("metadata", {})


async def test_store_a_supplied_embedding(client: OfficialClient) -> None:
    with pytest.raises(ClientError, match="Embedding must contain exactly 384 values"):
        await client.store({"content": "Short", "embedding": [0.1, 0.2]})
    stored = await client.store({"content": "Whole", "embedding": [0.5] * 384})
    assert stored["memory_id"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content": ""}, "'content' is required"),
        ({"content": 5}, "'content' is required"),
        ({"content": "x" * 2001}, "Content exceeds maximum length of 2000 characters"),
        ({"tags": [1]}, "'tags' must be a list of strings or a single string"),
        ({"importance": "much"}, "'importance' must be a number"),
        ({"importance": 2}, "'importance' must be between 0 and 1"),
        ({"metadata": []}, "'metadata' must be an object"),
        ({"timestamp": "yesterday"}, "Invalid ISO timestamp"),
        ({"t_invalid": "never"}, "Invalid t_invalid: "),
    ],
)
async def test_store_refuses_with_a_message(
    client: OfficialClient, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError) as refused:
        await client.store({"content": "Fine", **fields})
    assert refused.value.status == 400
    assert str(refused.value).startswith(message)
    assert client.attempts == 1


async def test_store_a_batch(client: OfficialClient) -> None:
    rows = [
        {"content": f"Fact {at}", "tags": ["batch:all"], "importance": at / 10} for at in range(5)
    ]
    found = await client.store_batch(rows)
    assert_shape(found, BATCH)
    assert found["stored"] == 5
    for row, memory_id in zip(rows, found["memory_ids"], strict=True):
        memory = await client.recall_by_id(memory_id)
        assert memory is not None
        assert_shape(memory, MEMORY)
        assert {name: memory[name] for name in row} == row


async def test_a_probe_for_the_batch_route_is_refused(client: OfficialClient) -> None:
    """The benchmark's adapter takes 400 as a sign that the route exists."""
    with pytest.raises(ClientError, match="'memories' must be a non-empty array") as refused:
        await client.store_batch([])
    assert refused.value.status == 400


@pytest.mark.parametrize("relation", ["INVALIDATED_BY", "EVOLVED_INTO"])
async def test_store_what_supersedes(client: OfficialClient, relation: str) -> None:
    old = await client.store({"content": "Ada lives in Bern", "metadata": {"kept": 1}})
    before = datetime.now(UTC)
    new_id = await client.supersede(
        old["memory_id"], {"content": "Ada lives in Basel"}, relation=relation, reason="moved"
    )
    marked = await client.recall_by_id(old["memory_id"])
    assert marked is not None
    assert marked["metadata"] == {
        "kept": 1,
        "deprecated": True,
        "superseded_by": new_id,
        "supersede_relation": relation,
        "supersede_reason": "moved",
    }
    invalid = datetime.fromisoformat(marked["t_invalid"])
    assert abs((invalid - before).total_seconds()) < 30
    related = await client.request(
        "GET", f"memories/{old['memory_id']}/related?relationship_types={relation}"
    )
    assert [row["id"] for row in related["related_memories"]] == [new_id]


async def test_what_supersedes_nothing_is_not_stored(client: OfficialClient) -> None:
    with pytest.raises(ClientError, match="Memory not found"):
        await client.supersede(
            str(uuid4()), {"content": "New"}, relation="EVOLVED_INTO", reason="none"
        )


# -- recall by id and exhaustive ------------------------------------------------------------


async def test_recall_by_an_unknown_id_is_empty(client: OfficialClient) -> None:
    assert await client.recall_by_id(str(uuid4())) is None


async def test_recall_by_no_id_is_refused(client: OfficialClient) -> None:
    with pytest.raises(ClientError, match="memory_id must be a valid UUID") as refused:
        await client.recall_by_id("not-a-uuid")
    assert refused.value.status == 400


async def test_recall_everything_of_a_tag(client: OfficialClient) -> None:
    """Page after page, each memory once, by importance, then time, then id."""
    tag = f"All:{uuid4()}"
    rows = [{"content": f"Row {at}", "tags": [tag], "importance": at % 7 / 10} for at in range(45)]
    stored = await client.store_batch(rows)
    found = await client.recall_all([tag.upper()], page=20)
    for memory in found:
        assert_shape(memory, MEMORY)
    assert {memory["id"] for memory in found} == set(stored["memory_ids"])
    keys = [(-memory["importance"], memory["timestamp"], memory["id"]) for memory in found]
    ordered = sorted(found, key=lambda m: m["id"])
    ordered.sort(key=lambda m: (m["importance"], m["timestamp"]), reverse=True)
    assert len(keys) == 45
    assert [memory["id"] for memory in found] == [memory["id"] for memory in ordered]


async def test_a_page_tells_where_it_is(client: OfficialClient) -> None:
    tag = f"page:{uuid4()}"
    await client.store_batch([{"content": f"Row {at}", "tags": [tag]} for at in range(3)])
    page = await client.request("GET", f"memory/by-tag?tags={tag}&limit=2&offset=0")
    assert (page["count"], page["limit"], page["offset"]) == (2, 2, 0)
    assert page["has_more"] is True
    assert page["tags"] == [tag]
    last = await client.request("GET", f"memory/by-tag?tags={tag}&limit=999&offset=2")
    assert (last["count"], last["limit"], last["has_more"]) == (1, 200, False)


# -- associate ------------------------------------------------------------------------------


async def test_associate(client: OfficialClient) -> None:
    one, other = [(await client.store({"content": f"End {at}"}))["memory_id"] for at in range(2)]
    body = {"memory1_id": one, "memory2_id": other, "type": "LEADS_TO", "strength": 0.8}
    found = await client.associate(body)
    assert found == {"success": True, "message": f"Association created between {one} and {other}"}


async def test_associate_many_with_a_partial_failure(client: OfficialClient) -> None:
    one, other = [(await client.store({"content": f"End {at}"}))["memory_id"] for at in range(2)]
    missing = str(uuid4())
    rows = [
        {"memory1_id": one, "memory2_id": other, "type": "RELATES_TO", "strength": 0.8},
        {"memory1_id": one, "memory2_id": missing, "type": "RELATES_TO", "strength": 0.8},
        {"memory1_id": one, "memory2_id": one, "type": "RELATES_TO", "strength": 0.8},
        {"memory1_id": one, "memory2_id": other, "type": "SIMILAR_TO", "strength": 0.8},
        {"memory1_id": "nobody", "memory2_id": other, "type": "LEADS_TO", "strength": 0.8},
        {"memory1_id": other, "memory2_id": one, "type": "part_of", "strength": 0.1},
    ]
    found = await client.associate({"associations": rows})
    assert_shape(found, MANY_ASSOCIATED)
    assert found["success"] is False
    assert found["status"] == "partial_success"
    assert (found["created_count"], found["failed_count"]) == (2, 4)
    assert found["summary"] == "2/6 associations created successfully"
    assert [row["index"] for row in found["succeeded"]] == [0, 5]
    assert found["succeeded"][1] == {
        "index": 5,
        "memory1_id": other,
        "memory2_id": one,
        "relation_type": "PART_OF",
        "strength": 0.1,
    }
    reasons = {row["index"]: row["reason"] for row in found["failed"]}
    assert reasons[1] == "One or both memories do not exist"
    assert reasons[2] == "Cannot associate a memory with itself"
    assert reasons[3].startswith("Relation type must be one of ['CONTRADICTS', ")
    assert reasons[4] == "'memory1_id' must be a valid UUID"
    assert list(reasons) == sorted(reasons)


async def test_associate_many(client: OfficialClient) -> None:
    one, other = [(await client.store({"content": f"End {at}"}))["memory_id"] for at in range(2)]
    rows = [{"memory1_id": one, "memory2_id": other, "type": "REINFORCES", "strength": 1}]
    found = await client.associate({"associations": rows})
    assert_shape(found, MANY_ASSOCIATED)
    assert found["success"] is True
    assert found["status"] == "success"
    assert found["failed"] == []


# -- update and delete ----------------------------------------------------------------------


async def test_update_every_field(client: OfficialClient) -> None:
    memory_id = (await client.store({"content": "Old", "tags": ["old"]}))["memory_id"]
    fields = {
        "content": "New",
        "tags": ["new"],
        "importance": 0.9,
        "metadata": {"replaced": True},
        "timestamp": "2024-01-01T00:00:00+00:00",
        "updated_at": "2024-01-02T00:00:00+00:00",
        "last_accessed": "2024-01-03T00:00:00+00:00",
        "type": "Insight",
        "confidence": 0.6,
    }
    found = await client.update(memory_id, fields)
    assert found["memory_id"] == memory_id
    memory = await client.recall_by_id(memory_id)
    assert memory is not None
    assert {name: memory[name] for name in fields if name != "last_accessed"} == {
        name: value for name, value in fields.items() if name != "last_accessed"
    }


async def test_delete(client: OfficialClient) -> None:
    memory_id = (await client.store({"content": "Forget me"}))["memory_id"]
    assert (await client.delete(memory_id))["memory_id"] == memory_id
    assert await client.recall_by_id(memory_id) is None
    with pytest.raises(ClientError, match="Memory not found"):
        await client.delete(memory_id)


async def test_delete_by_tag(client: OfficialClient) -> None:
    tags = [f"Gone:{uuid4()}", f"also:{uuid4()}"]
    rows = [{"content": f"Row {at}", "tags": [tags[at % 2]]} for at in range(5)]
    stored = await client.store_batch(rows)
    found = await client.delete_by_tag([tags[0].lower(), tags[1]])
    assert found["deleted_count"] == 5
    assert found["tags"] == [tags[0].lower(), tags[1]]
    assert await client.recall_by_id(stored["memory_ids"][0]) is None
    assert (await client.delete_by_tag(tags))["deleted_count"] == 0


# -- retries --------------------------------------------------------------------------------


async def test_a_store_whose_connection_is_lost_is_retried_into_one_memory(
    flaky: tuple[OfficialClient, Proxy], api: ApiProcess
) -> None:
    """The request arrives, the connection is cut before an answer, the client sends again.

    The API is frozen until the connection is cut, so that it cannot have answered before.
    """
    client, proxy = flaky
    content = f"Only once {uuid4()}"
    proxy.cut_after_request(b"POST /memory")
    with api.frozen():
        storing = asyncio.create_task(client.store({"content": content}), name="store")
        async with limited():
            await proxy.cut.wait()
    stored = await storing
    assert client.attempts == 2
    assert await api.ids(content) == [stored["memory_id"]]
