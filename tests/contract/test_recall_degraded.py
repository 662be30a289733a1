"""Recall answers without its embedding model or its vectors, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from tests.support.providers import scripted
from tests.support.providers.scripted import Provider
from tests.support.stack.api_process import ApiProcess, running_api
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

_REMOTE = {
    "EMBEDDING_PROVIDER": "openai",
    "OPENAI_API_KEY": "only-for-tests",
    "EMBEDDING_MODEL": "text-embedding-3-small",
    "VECTOR_SIZE": "384",
}
_ANSWERS = {"fails": scripted.status(503), "refuses": scripted.status(400)}
# Vectors are only one source of candidates, so a client waits no longer for them.
_PATIENCE_S = 2.0


@pytest.fixture(scope="module")
async def remote(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, falkordb_url: str, qdrant_url: str
) -> AsyncIterator[tuple[ApiProcess, Provider]]:
    provider = Provider(scripted.embeddings(384))
    folder = tmp_path_factory.mktemp("api")
    async with scripted.running(provider):
        settings = {**_REMOTE, "OPENAI_BASE_URL": provider.url, "QDRANT_URL": qdrant_url}
        process = ApiProcess(folder, redis_url, falkordb_url, **settings)
        async with running_api(process) as api:
            yield api, provider


@pytest.mark.parametrize("down", ["fails", "refuses", "is silent"])
async def test_without_the_model_the_other_candidates_answer(
    remote: tuple[ApiProcess, Provider], down: str
) -> None:
    api, provider = remote
    before, gate = asyncio.all_tasks(), asyncio.Event()

    def silent(request: web.Request, body: dict[str, Any]) -> Any:
        async def respond() -> web.Response:
            await gate.wait()
            response: web.Response = scripted.embeddings(384)(request, body)
            return response

        return respond()

    provider.otherwise = _ANSWERS.get(down, silent)
    await _still_answers(api, f"{down}: window seats")

    async def served() -> bool:
        answer = await api.ask("GET", f"/recall?query={uuid4()}")
        return "degraded" not in answer.body

    gate.set()
    provider.otherwise = scripted.embeddings(384)
    await wait_until(served, "recall has its model back")
    await wait_until(lambda: not asyncio.all_tasks() - before, "no call of the provider waits")


async def test_without_the_vectors_the_other_candidates_answer(
    tmp_path: Path, redis_url: str, falkordb_url: str
) -> None:
    async with running_api(ApiProcess(tmp_path, redis_url, falkordb_url)) as api:
        await _still_answers(api, "window seats")


async def _still_answers(api: ApiProcess, query: str) -> None:
    tag = f"travel-{uuid4()}"
    wanted = await api.stored("Ada prefers window seats", tags=[tag])
    await api.stored("The cat sleeps")
    answer = await api.ask("GET", "/recall", params={"query": query, "tags": tag})
    assert answer.status == 200, answer
    assert [row["id"] for row in answer.body["results"]] == [wanted]
    assert answer.body["degraded"] == ["vector"]
    assert answer.body["vector_search"] == {"enabled": False, "matched": False}
    assert answer.seconds < limit_s(_PATIENCE_S)
    listed = await api.ask("GET", f"/recall?tags={tag}")
    assert [row["id"] for row in listed.body["results"]] == [wanted]
    assert "degraded" not in listed.body
