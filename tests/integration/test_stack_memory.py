"""One memory over HTTP: stored, read, changed, deleted, as clients of AutoMem expect it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, Stack, StoreView, refused
from tests.support.waiting.conditions import wait_until

STORED_KEYS = {
    *("status", "message", "memory_id", "stored_at", "timestamp", "updated_at", "last_accessed"),
    *("type", "confidence", "metadata", "qdrant", "embedding_status", "enrichment"),
    *("enrichment_queued", "embedding_queued", "query_time_ms"),
}


def dense(point: models.Record) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    assert isinstance(point.vector, dict)
    return np.asarray(point.vector["dense"], np.float32)


async def test_a_stored_memory_is_answered_with_the_fields_of_the_contract(api: Client) -> None:
    answer = await api.store(
        f"{CANARY} Ada prefers window seats",
        tags=["Travel", "ada"],
        importance=0.9,
        metadata={"source": "chat", "nested": {"n": [1, 2.5, None, True]}},
        timestamp="2024-05-01T12:00:00+02:00",
    )
    body = answer.body
    assert answer.status == 201
    assert body.keys() >= STORED_KEYS
    assert body["status"] == "success"
    assert body["message"] == "Memory stored successfully"
    assert uuid.UUID(body["memory_id"]).version == 4
    assert body["timestamp"] == body["stored_at"] == "2024-05-01T10:00:00+00:00"
    assert body["metadata"] == {"source": "chat", "nested": {"n": [1, 2.5, None, True]}}
    assert body["enrichment_queued"] is body["embedding_queued"] is True
    assert (body["qdrant"], body["embedding_status"], body["enrichment"]) == ("queued",) * 3


async def test_what_is_stored_is_read_back(api: Client) -> None:
    memory_id = await api.stored(
        f"  {CANARY} Grace wrote the compiler \n",
        id=str(uuid.uuid4()),
        tags="one tag, with a comma",
        importance="0.25",
        type="Insight",
        session_id="s-1",
        project="eniac",
        layer="semantic",
        t_invalid="2031-01-01",
    )
    memory = await api.memory(memory_id)
    assert memory["content"] == f"{CANARY} Grace wrote the compiler"
    assert memory["tags"][0] == "one tag, with a comma"
    assert (memory["importance"], memory["type"], memory["confidence"]) == (0.25, "Insight", 0.9)
    assert (memory["session_id"], memory["project"], memory["layer"]) == (
        *("s-1", "eniac"),
        "semantic",
    )
    assert memory["t_invalid"] == "2031-01-01T00:00:00+00:00"
    assert memory["t_valid"] == memory["timestamp"]


async def test_a_supplied_id_is_ignored(api: Client) -> None:
    wanted = str(uuid.uuid4())
    assert await api.stored(f"{CANARY} has an id", id=wanted) != wanted
    refused(await api.get(wanted), 404)


async def test_every_stage_finishes_a_memory(api: Client, stores: StoreView) -> None:
    memory_id = await api.stored(f"{CANARY} Alice met Bob at Acme Corp in Berlin", tags=["met"])
    await stores.all_done(1)
    memory = await api.memory(memory_id)
    assert memory["enriched"] is memory["processed"] is memory["embedded"] is True
    assert memory["metadata"]["entities"]
    assert any(tag.startswith("entity:") for tag in memory["tags"])
    assert memory["enriched_at"]
    [point] = (await stores.points()).values()
    assert point.payload is not None
    assert "met" in point.payload["tags"]
    assert set(point.payload["tags"]) >= {tag.lower() for tag in memory["tags"]}


async def test_reading_moves_last_accessed(api: Client) -> None:
    assert await api.recalled(tags="nothing has this tag") == []  # an empty answer touches nobody
    memory_id = await api.stored(f"{CANARY} was read", last_accessed="2020-01-01")

    async def moved() -> bool:
        accessed = str((await api.memory(memory_id))["last_accessed"])
        return accessed > "2020-01-02"

    await wait_until(moved, "last_accessed follows a read")


async def test_a_change_keeps_what_it_does_not_name(api: Client) -> None:
    memory_id = await api.stored(f"{CANARY} keep", tags=["a"], importance=0.7, metadata={"k": 1})
    before = await api.memory(memory_id)
    answer = await api.patch(memory_id, tags=["b", "c"])
    assert answer.status == 200
    assert answer.body["memory_id"] == memory_id
    after = await api.memory(memory_id)
    assert [tag for tag in after["tags"] if not tag.startswith("entity:")] == ["b", "c"]
    assert (after["content"], after["importance"]) == (before["content"], 0.7)
    assert after["metadata"]["k"] == 1
    assert after["updated_at"] > before["updated_at"]
    assert after["version"] > before["version"]


async def test_a_change_during_a_delayed_embedding_ends_with_the_new_vector(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    async with stack.frozen("embedder"):
        changed = await api.stored(f"{CANARY} the cat sleeps on the sofa")
        await api.patch(changed, content="Quarterly revenue rose by nine percent")
    same = await api.stored("Quarterly revenue rose by nine percent")
    await stores.all_done(2)
    points = await stores.points(vectors=True)
    assert float(dense(points[changed]) @ dense(points[same])) > 0.99


async def test_a_change_reaches_the_entities_tags_and_payload(
    api: Client, stores: StoreView
) -> None:
    memory_id = await api.stored(f"{CANARY} Alice met Bob in Berlin", tags=["old"])
    await stores.all_done(1)
    await api.patch(memory_id, content="Carol moved to Lisbon", tags=["New"])
    await stores.all_done(1)
    memory = await api.memory(memory_id)
    text = " ".join(memory["tags"]).lower()
    assert "alice" not in text
    assert "berlin" not in text
    [point] = (await stores.points()).values()
    assert point.payload is not None
    assert "new" in point.payload["tags"]
    assert "old" not in point.payload["tags"]


async def test_simultaneous_changes_all_land_or_are_refused(api: Client) -> None:
    memory_id = await api.stored(f"{CANARY} contested", metadata={})
    changes: list[dict[str, Any]] = [
        {"importance": 0.3},
        {"tags": ["x"]},
        {"project": "p"},
        {"type": "Habit"},
    ]
    answers = await asyncio.gather(*(api.patch(memory_id, **each) for each in changes))
    assert {answer.status for answer in answers} <= {200, 409}
    landed = [
        change for change, answer in zip(changes, answers, strict=True) if answer.status < 300
    ]
    memory = await api.memory(memory_id)
    for change in landed:
        for name, value in change.items():
            found = memory[name]
            assert set(value) <= set(found) if isinstance(value, list) else found == value


async def test_a_deleted_memory_takes_its_point_and_edges_along(
    api: Client, stores: StoreView
) -> None:
    kept = await api.stored(f"{CANARY} The deploy of the billing service failed on Monday")
    gone = await api.stored(f"{CANARY} The deploy of the billing service failed on Monday again")
    await stores.all_done(2)
    assert await stores.number("MATCH (:Memory)-[r:SIMILAR_TO]->(:Memory) RETURN count(r)") == 2
    answer = await api.delete(gone.upper())
    assert answer.status == 200
    assert answer.body["memory_id"] == gone
    refused(await api.get(gone), 404)
    refused(await api.delete(gone), 404)

    async def one_point() -> bool:
        return list(await stores.points()) == [kept]

    await wait_until(one_point, "the point of the deleted memory is gone")
    assert await stores.number("MATCH (:Memory)-[r]-(:Memory) RETURN count(r)") == 0
    assert gone not in await api.recalled("billing deploy failed")


async def test_a_memory_deleted_before_its_embedding_gets_no_point(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    async with stack.frozen("embedder"):
        gone = await api.stored(f"{CANARY} soon forgotten")
        assert (await api.delete(gone)).status == 200
    kept = await api.stored(f"{CANARY} stays")
    await stores.all_done(1)

    async def settled() -> bool:
        return not any((await stores.work()).values())

    await wait_until(settled, "every job is settled")
    assert list(await stores.points()) == [kept]


@pytest.mark.parametrize("verb", ["get", "delete", "patch"])
async def test_an_id_that_is_no_uuid_is_refused(api: Client, verb: str) -> None:
    for wrong in ("x", "123", "%00", "%ff", "a" * 5000, str(uuid.uuid4())[:-1]):
        answer = await getattr(api, verb)(wrong)
        assert "UUID" in refused(answer, 400)


@pytest.mark.parametrize("verb", ["get", "delete", "patch"])
async def test_an_unknown_id_is_not_found(api: Client, verb: str) -> None:
    answer = await getattr(api, verb)(str(uuid.uuid4()))
    assert refused(answer, 404) == "Memory not found"


async def test_a_supplied_embedding_becomes_the_vector(api: Client, stores: StoreView) -> None:
    wanted = [1.0] + [0.0] * 383
    answer = await api.store(f"{CANARY} comes with a vector", embedding=wanted)
    assert answer.body["embedding_status"] == "provided"
    await stores.all_done(1)
    [point] = (await stores.points(vectors=True)).values()
    assert float(dense(point)[0]) == pytest.approx(1.0, abs=1e-3)
