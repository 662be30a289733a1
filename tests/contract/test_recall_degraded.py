"""Recall answers without its embedding model or its vectors, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.providers import scripted
from tests.support.providers.scripted import Provider
from tests.support.stack.api_process import ApiProcess, running_api
from tests.support.waiting.pace import limit_s

_REMOTE = {
    "EMBEDDING_PROVIDER": "openai",
    "OPENAI_API_KEY": "only-for-tests",
    "EMBEDDING_MODEL": "text-embedding-3-small",
    "VECTOR_SIZE": "384",
}
_ANSWERS = {
    "fails": scripted.status(503),
    "refuses": scripted.status(400),
    "is silent": scripted.silent,
}
# A client waits no longer for what is only one road of several.
_PATIENCE_S = 2.0


@pytest.mark.parametrize("down", ["fails", "refuses", "is silent"])
async def test_without_the_model_the_other_candidates_answer(
    tmp_path: Path, redis_url: str, falkordb_url: str, qdrant_url: str, down: str
) -> None:
    provider = Provider(scripted.embeddings(384))
    async with scripted.running(provider):
        remote = {**_REMOTE, "OPENAI_BASE_URL": provider.url, "QDRANT_URL": qdrant_url}
        async with running_api(ApiProcess(tmp_path, redis_url, falkordb_url, **remote)) as api:
            provider.otherwise = _ANSWERS[down]
            await _still_answers(api)


async def test_without_the_vectors_the_other_candidates_answer(
    tmp_path: Path, redis_url: str, falkordb_url: str
) -> None:
    async with running_api(ApiProcess(tmp_path, redis_url, falkordb_url)) as api:
        await _still_answers(api)


async def _still_answers(api: ApiProcess) -> None:
    wanted = await api.stored("Ada prefers window seats", tags=["travel"])
    await api.stored("The cat sleeps")
    answer = await api.ask("GET", "/recall?query=window+seats&tags=travel")
    assert answer.status == 200, answer
    assert [row["id"] for row in answer.body["results"]] == [wanted]
    assert answer.body["degraded"] == ["vector"]
    assert answer.body["vector_search"] == {"enabled": False, "matched": False}
    assert answer.seconds < limit_s(_PATIENCE_S)
    listed = await api.ask("GET", "/recall?tags=travel")
    assert [row["id"] for row in listed.body["results"]] == [wanted]
    assert "degraded" not in listed.body
