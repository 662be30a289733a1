"""Idempotency-Key: the same key and body is the same write, whatever happened in between."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.support.stack.api_process import ApiProcess
from tests.support.stack.stack import Answer
from tests.support.stores.graphs import cypher


async def post(api: ApiProcess, path: str, body: dict[str, Any], key: str) -> Answer:
    return await api.ask("POST", path, json=body, headers={"Idempotency-Key": key})


async def pair(api: ApiProcess) -> tuple[str, str]:
    return await api.stored(f"One end {uuid4()}"), await api.stored(f"Other end {uuid4()}")


async def test_the_same_key_and_body_is_answered_the_same(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"Once only {uuid4()}"
    first = await post(api, "/memory", {"content": content, "tags": ["a"]}, key)
    again = await post(api, "/memory", {"tags": ["a"], "content": content}, key)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert await api.ids(content) == [first.body["memory_id"]]


async def test_another_body_with_the_key_is_refused(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"Not this {uuid4()}"
    await post(api, "/memory", {"content": f"But that {uuid4()}"}, key)
    refused = await post(api, "/memory", {"content": content}, key)
    assert refused.status == 409
    assert "Idempotency-Key" in refused.body["message"]
    assert await api.ids(content) == []


async def test_a_key_belongs_to_one_route(api: ApiProcess) -> None:
    key = str(uuid4())
    body = {"content": f"Both {uuid4()}", "memories": [{"content": "Both"}]}
    assert (await post(api, "/memory", body, key)).status == 201
    assert (await post(api, "/memory/batch", body, key)).status == 409


async def test_requests_with_one_key_at_once_store_one_memory(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"All at once {uuid4()}"
    answers = await asyncio.gather(
        *(post(api, "/memory", {"content": content}, key) for _ in range(16))
    )
    assert {answer.status for answer in answers} == {201}
    assert {answer.body["memory_id"] for answer in answers} == set(await api.ids(content))
    assert len(await api.ids(content)) == 1


async def test_a_deleted_memory_is_not_made_again(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"Gone for good {uuid4()}"
    first = await post(api, "/memory", {"content": content}, key)
    await api.ask("DELETE", f"/memory/{first.body['memory_id']}")
    again = await post(api, "/memory", {"content": content}, key)
    assert again.body == first.body
    assert await api.ids(content) == []


async def test_a_batch_is_stored_once(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"Twins {uuid4()}"
    body = {"memories": [{"content": content}, {"content": content}]}
    first = await post(api, "/memory/batch", body, key)
    again = await post(api, "/memory/batch", body, key)
    assert first.status == 201
    assert again.body == first.body
    assert sorted(await api.ids(content)) == sorted(first.body["memory_ids"])


async def test_batches_with_one_key_at_once_are_stored_once(api: ApiProcess) -> None:
    key, content = str(uuid4()), f"Many twins {uuid4()}"
    body = {"memories": [{"content": content}, {"content": content}]}
    answers = await asyncio.gather(*(post(api, "/memory/batch", body, key) for _ in range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({tuple(answer.body["memory_ids"]) for answer in answers}) == 1
    assert len(await api.ids(content)) == 2


async def test_an_association_is_answered_once(api: ApiProcess) -> None:
    """The repeat does not undo what was changed since."""
    (one, other), key = await pair(api), str(uuid4())
    body = {"memory1_id": one, "memory2_id": other, "strength": 0.4}
    first = await post(api, "/associate", body, key)
    await api.ask("POST", "/associate", json={**body, "strength": 0.9})
    again = await post(api, "/associate", body, key)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["Idempotent-Replay"] == "true"
    edges = await cypher(
        api.graph, f"MATCH (:Memory {{id: '{one}'}})-[x:RELATES_TO]->() RETURN x.strength"
    )
    assert [float(row[0]) for row in edges] == [0.9]


async def test_a_partial_failure_keeps_its_status(api: ApiProcess) -> None:
    (one, other), key = await pair(api), str(uuid4())
    rows = [
        {"memory1_id": one, "memory2_id": other},
        {"memory1_id": one, "memory2_id": str(uuid4())},
    ]
    first = await post(api, "/associate", {"associations": rows}, key)
    again = await post(api, "/associate", {"associations": rows}, key)
    assert (first.status, again.status) == (207, 207)
    assert again.body == first.body


async def test_a_failed_association_may_be_tried_again(api: ApiProcess) -> None:
    """A key is answered by what happened, not by what was refused."""
    one, key = await api.stored(f"Lonely {uuid4()}"), str(uuid4())
    body = {"memory1_id": one, "memory2_id": str(uuid4())}
    for _ in range(2):
        assert (await post(api, "/associate", body, key)).status == 404


async def test_what_is_refused_takes_no_key(api: ApiProcess) -> None:
    key = str(uuid4())
    assert (await post(api, "/memory", {"content": ""}, key)).status == 400
    assert (await post(api, "/memory", {"content": f"Better {uuid4()}"}, key)).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
async def test_a_key_that_is_none_is_refused(api: ApiProcess, key: str) -> None:
    answer = await post(api, "/memory", {"content": "Never stored"}, key)
    assert answer.status == 400
    assert "Idempotency-Key" in answer.body["message"]
