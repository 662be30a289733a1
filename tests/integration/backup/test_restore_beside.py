"""A backup restored into other tenants beside the first: the whole product, each for itself.

The second tenant's memories never got a vector, while their receipts said that they had one,
and no model could be switched to any more: both tenants' points were to stand under one id.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.graph.upkeep.runs import RunState
from tests.support.stack.in_process import ADMIN, ADMIN_TOKEN
from tests.support.stack.reembedding import back
from tests.support.stack.stack import REPOSITORY, Client, Stack, running, write_tokens
from tests.support.waiting.conditions import wait_until

TENANTS = ("default", "alpha", "beta")
TOKEN = "token-of-three-tenants-6d1f"
WORDS = ("kettle", "lantern", "marble", "nectar", "opal", "pepper", "quartz", "ribbon")
QUERY = "where is my cooking pot for tea"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Stack]:
    tokens = write_tokens(tmp_path / "tokens.json", {TOKEN: list(TENANTS)})
    settings = {"ADMIN_API_TOKEN": ADMIN_TOKEN, "EUNOE_TOKENS_FILE": str(tokens)}
    roles = ("--only", "api,enricher,embedder,syncer")
    async with running(tmp_path / "stack", settings, *roles) as started:
        yield started


async def _body(stack: Stack, tenant: str, method: str, path: str, **options: Any) -> Any:
    async with stack.client(TOKEN, tenant) as client:
        answer = await client.ask(method, path, headers=ADMIN, **options)
    assert answer.status == 200, answer
    return answer.body


async def _restore(stack: Stack, file: Path, tenant: str) -> None:
    stores = {"REDIS_URL": stack.redis_url, "FALKORDB_URL": stack.redis_url}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.api", "restore", str(file), "--tenant", tenant),
        env=kept | {"PYTHONPATH": str(REPOSITORY)} | stores,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()
    assert process.returncode == 0, error


async def _by_meaning(client: Client) -> list[str]:
    """The ids that a vector found, best first."""
    answer = await client.recall(QUERY, limit=len(WORDS))
    assert answer.status == 200, answer
    return [row["id"] for row in answer.body["results"] if row["match_type"] == "vector"]


async def _agrees(stack: Stack, tenant: str, memories: int) -> None:
    found = await _body(stack, tenant, "POST", "/admin/sync", json={"delete_orphans": True})
    assert found["status"] == "already_synced", found
    assert (found["falkordb_count"], found["qdrant_count"]) == (memories, memories)
    assert (await stack.stores(tenant).points()).keys() == {
        row[0] for row in await stack.stores(tenant).rows("MATCH (m:Memory) RETURN m.id")
    }


async def test_the_memories_of_every_tenant_have_vectors_of_their_own(
    own: Stack, tmp_path: Path
) -> None:
    async with own.client(TOKEN, "default") as client:
        ids = [await client.stored(f"I keep the {word} in a drawer") for word in WORDS]
        await own.stores().all_done(len(ids))
        async with (
            aiohttp.ClientSession(headers=ADMIN) as session,
            session.get(f"{own.url}/backup?tenant=default") as answer,
        ):
            file = tmp_path / "backup.tar.gz"
            await asyncio.to_thread(file.write_bytes, await answer.read())
    for tenant in TENANTS[1:]:
        await _restore(own, file, tenant)
        await own.stores(tenant).all_done(len(ids))
    for tenant in TENANTS:
        async with own.client(TOKEN, tenant) as client:
            assert (await _by_meaning(client))[:1] == ids[:1], tenant
            receipt = await _body(own, tenant, "GET", f"/memory/{ids[0]}/receipt")
            assert [receipt[name] for name in ("embedded", "searchable")] == [True, True]
        await _agrees(own, tenant, len(ids))

    async with own.client(TOKEN, "alpha") as client:
        assert (await client.delete(ids[0])).status == 200

        async def gone() -> bool:
            return ids[0] not in await own.stores("alpha").points()

        await wait_until(gone, "its point is gone")
        assert ids[0] not in await _by_meaning(client)
    for tenant in ("default", "beta"):
        async with own.client(TOKEN, tenant) as client:
            assert (await _by_meaning(client))[:1] == ids[:1], tenant

    async with back(own) as stores:
        run = await stores.start({"provider": "placeholder", "dimension": 64})
        ended = await stores.ended(run)
    assert ended.state is RunState.COMPLETE, ended
    assert ended.result is not None
    assert (ended.result["total"], ended.result["failed"]) == (3 * len(ids) - 1, 0)
    for tenant in TENANTS:
        await _agrees(own, tenant, len(ids) - (tenant == "alpha"))
