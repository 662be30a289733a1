"""GET /stream of the running API: it sends what is stored and recalled."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp

from tests.support.stack.api_process import ApiProcess
from tests.support.waiting.conditions import limited


class Watcher:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self, kind: str, key: str, *values: Any) -> dict[str, Any]:
        """The data of the next event of that kind with one of the values under the key.

        Other tests share the API: an event of theirs may come after this test began to watch.
        """
        async with limited():
            async for line in self._answer.content:
                event = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if event.get("type") == kind and event["data"][key] in values:
                    return dict(event["data"])
        raise EOFError


@asynccontextmanager
async def watching(api: ApiProcess) -> AsyncIterator[Watcher]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{api.url}/stream") as answer,
    ):
        assert answer.status == 200
        assert await answer.content.readline() == b": connected\n"
        yield Watcher(answer)


async def test_a_store_is_announced(api: ApiProcess) -> None:
    async with watching(api) as watcher:
        memory_id = await api.stored("Told at once", tags=["t"], type="Habit", importance=0.7)
        data = await watcher.next("memory.store", "id", memory_id)
    assert data.pop("elapsed_ms") > 0
    assert data == {
        "id": memory_id,
        "content_preview": "Told at once",
        "type": "Habit",
        "importance": 0.7,
        "tags": ["t"],
        "size_bytes": 12,
    }


async def test_every_memory_of_a_batch_is_announced_once(api: ApiProcess) -> None:
    rows = [{"content": f"Row {at} {uuid4()}"} for at in range(3)]
    key = {"Idempotency-Key": str(uuid4())}
    async with watching(api) as watcher:
        stored = await api.ask("POST", "/memory/batch", json={"memories": rows}, headers=key)
        again = await api.ask("POST", "/memory/batch", json={"memories": rows}, headers=key)
        last = await api.stored("The one after them")
        ids = [*stored.body["memory_ids"], last]
        events = [await watcher.next("memory.store", "id", *ids) for _ in range(4)]
    assert (stored.status, again.status) == (201, 201)
    assert [data["id"] for data in events] == ids
    assert [data["content_preview"] for data in events[:3]] == [row["content"] for row in rows]


async def test_a_recall_is_announced(api: ApiProcess) -> None:
    tag = f"told-{uuid4()}"
    await api.stored("Recalled", tags=[tag])
    async with watching(api) as watcher:
        await api.ask("GET", f"/recall?query=Recalled{'+again' * 10}&tags={tag}&limit=7")
        data = await watcher.next("memory.recall", "tags", [tag])
    assert data.pop("elapsed_ms") > 0
    shown = ("Recalled" + " again" * 10)[:47] + "..."
    assert data == {"query": shown, "limit": 7, "result_count": 1, "tags": [tag]}
