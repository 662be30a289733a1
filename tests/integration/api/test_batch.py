"""POST /memory/batch: all of them or none, in the order they came."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.support.stack.api_process import ApiProcess
from tests.support.stack.stack import Answer
from tests.support.stores.graphs import cypher


async def post(api: ApiProcess, body: object) -> Answer:
    return await api.ask("POST", "/memory/batch", json=body)


async def test_500_memories_are_stored_in_order(api: ApiProcess) -> None:
    contents = [f"Fact {at} {uuid4()}" for at in range(500)]
    answer = await post(api, {"memories": [{"content": each} for each in contents]})
    assert (answer.status, answer.body["stored"]) == (201, 500)
    ids = answer.body["memory_ids"]
    assert len(set(ids)) == 500
    for at in (0, 250, 499):
        assert await api.ids(contents[at]) == [ids[at]]


async def test_every_memory_is_due_and_announced(api: ApiProcess) -> None:
    content = f"Announced {uuid4()}"
    answer = await post(api, {"memories": [{"content": content}] * 3})
    assert answer.body["enrichment_queued"] is True
    assert answer.body["embedding_queued"] is True
    [[due]] = await cypher(
        api.graph,
        f"MATCH (m:Memory) WHERE m.content = '{content}' AND m.enrich_due > 0"
        " AND m.embed_due > 0 RETURN count(m)",
    )
    assert due == 3
    async with Redis.from_url(api.redis_url, decode_responses=True) as redis:
        for stage in ("enrich", "embed"):
            announced = str(await redis.xrange(f"{api.prefix}:{{{stage}}}:jobs"))
            assert all(each in announced for each in answer.body["memory_ids"])


async def test_a_body_past_the_limit_of_other_routes_is_read(api: ApiProcess) -> None:
    rows = [{"content": "x", "metadata": {"pad": "y" * 6000}} for _ in range(400)]
    raw = BytesIO(json.dumps({"memories": rows}).encode())
    assert (await api.ask("POST", "/memory/batch", data=raw)).status == 201


@pytest.mark.parametrize(("path", "size"), [("/memory", 2**20 + 1), ("/memory/batch", 2**23 + 1)])
async def test_a_body_past_the_limit_is_refused(api: ApiProcess, path: str, size: int) -> None:
    answer = await api.ask("POST", path, data=BytesIO(b" " * size))
    assert (answer.status, answer.body["message"]) == (413, "The body is too large")


async def test_a_chunked_body_past_the_limit_is_refused(api: ApiProcess) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 65536

    assert (await api.ask("POST", "/memory", data=chunks())).status == 413


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "JSON body with 'memories' array required"),
        ({}, "JSON body with 'memories' array required"),
        ({"memories": {}}, "'memories' must be a non-empty array"),
        ({"memories": []}, "'memories' must be a non-empty array"),
        ({"memories": [{"content": "x"}] * 501}, "Batch size limit is 500 memories per request"),
        ({"memories": [{"content": "x"}, 5]}, "Memory at index 1 must be an object"),
        ({"memories": [{"content": "x"}, {}]}, "Memory at index 1 missing 'content'"),
        ({"memories": [{"content": " "}]}, "Memory at index 0 missing 'content'"),
        ({"memories": [{"content": 5}]}, "Memory at index 0 missing 'content'"),
        (
            {"memories": [{"content": "x" * 2001}]},
            "Memory at index 0 exceeds content limit (2001/2000)",
        ),
        (
            {"memories": [{"content": "\f\f" + "x" * 1999}]},
            "Memory at index 0 exceeds content limit (2001/2000)",
        ),
        (
            {"memories": [{"content": "x", "tags": [1]}]},
            "'tags' must be a list of strings or a single string (memory at index 0)",
        ),
        (
            {"memories": [{"content": "x"}, {"content": "x", "importance": 2}]},
            "'importance' must be between 0 and 1 (memory at index 1)",
        ),
        (
            {"memories": [{"content": "x\0y"}]},
            "'content' must not contain NUL characters (memory at index 0)",
        ),
    ],
)
async def test_one_bad_memory_refuses_the_batch(
    api: ApiProcess, body: object, message: str
) -> None:
    answer = await post(api, body)
    assert (answer.status, answer.body["message"]) == (400, message)


async def test_nothing_of_a_refused_batch_is_stored(api: ApiProcess) -> None:
    content = f"Never {uuid4()}"
    await post(api, {"memories": [{"content": content}, {"content": "x", "importance": "y"}]})
    assert await api.ids(content) == []


async def test_what_automem_mends_is_mended_and_reported(api: ApiProcess) -> None:
    rows = [
        {"content": "When", "timestamp": "the other day"},
        {"content": "What", "metadata": "text", "tags": "one, tag"},
    ]
    answer = await post(api, {"memories": rows})
    assert answer.status == 201
    assert [text[:17] for text in answer.body["warnings"]] == [
        "Memory at index 0",
        "Memory at index 1",
    ]
    found = await api.ask("GET", f"/memory/{answer.body['memory_ids'][1]}")
    assert found.body["memory"]["metadata"] == {}
    assert found.body["memory"]["tags"] == ["one, tag"]


async def test_an_item_keeps_what_it_names(api: ApiProcess) -> None:
    item = {
        "content": "All of it",
        "tags": ["a"],
        "importance": 0.9,
        "metadata": {"a": 1},
        "type": "Habit",
        "confidence": 0.4,
        "session_id": "s",
        "project": "p",
        "layer": "working",
    }
    ignored = {
        "id": str(uuid4()),
        "t_invalid": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z",
        "embedding": [1],
    }
    row = {**item, **ignored, "timestamp": "2024-01-01T00:00:00Z"}
    answer = await post(api, {"memories": [row]})
    found = (await api.ask("GET", f"/memory/{answer.body['memory_ids'][0]}")).body["memory"]
    assert {name: found[name] for name in item} == item
    assert found["id"] != ignored["id"]
    assert "t_invalid" not in found
    assert {found[name] for name in ("timestamp", "updated_at", "t_valid")} == {
        "2024-01-01T00:00:00+00:00"
    }
