"""Tokens and tenants: what one tenant's token can do never touches another's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.conftest import ALPHA, BETA, CANARY, TOKEN
from tests.support.stack.stack import Client, Stack, refused
from tests.support.waiting.conditions import wait_until

PATHS = ("/recall", "/memory/00000000-0000-4000-8000-000000000000", "/no/such/route")


@pytest.fixture
async def alpha(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client(ALPHA) as client:
        yield client


@pytest.fixture
async def beta(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client(BETA) as client:
        yield client


@pytest.fixture
async def nobody(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client() as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_nothing_is_answered(nobody: Client, path: str) -> None:
    refused(await nobody.ask("GET", path), 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer wrong-{ALPHA}", "X-API-Key": ALPHA},
        {"Authorization": f"Basic {ALPHA}"},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ALPHA.upper()},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Authorization": "Bearer \udcff\udcfe"},
        {"X-API-Key": "ключ"},
    ],
    ids=range(10),
)
async def test_a_wrong_token_is_refused(nobody: Client, headers: dict[str, str]) -> None:
    refused(await nobody.ask("GET", "/recall", headers=headers), 401)


@pytest.mark.parametrize("key", ["wrong", "%ff%fe", "%00", ""])
async def test_a_wrong_token_in_the_query_is_refused(nobody: Client, key: str) -> None:
    refused(await nobody.ask("GET", f"/recall?api_key={key}"), 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ALPHA}"},
        {"authorization": f"bEARER {ALPHA}"},
        {"X-API-Key": ALPHA},
        {"Authorization": "Basic eDp5", "X-API-Key": ALPHA},
    ],
    ids=range(4),
)
async def test_a_token_is_read_from_every_place(nobody: Client, headers: dict[str, str]) -> None:
    assert (await nobody.ask("GET", "/recall", headers=headers)).status == 200
    assert (await nobody.ask("GET", f"/recall?api_key={ALPHA}")).status == 200


@pytest.mark.parametrize("name", ["alpha", "default", "", "a|b", "../x", "%61lpha", "x" * 300])
async def test_a_tenant_that_the_token_does_not_grant_is_refused(beta: Client, name: str) -> None:
    refused(await beta.ask("GET", "/recall", headers={"X-Tenant-Id": name}), 403)
    body = {"content": f"{CANARY} for somebody else"}
    refused(await beta.ask("POST", "/memory", json=body, headers={"X-Tenant-Id": name}), 403)


async def test_the_header_selects_among_the_granted(stack: Stack, beta: Client) -> None:
    async with stack.client(BETA, "gamma") as gamma:
        memory_id = await gamma.stored(f"{CANARY} belongs to gamma")
        assert (await gamma.get(memory_id)).status == 200
    refused(await beta.get(memory_id), 404)
    selected = await beta.ask("GET", f"/memory/{memory_id}", headers={"X-Tenant-Id": "gamma"})
    assert selected.status == 200


async def test_no_route_shows_or_changes_another_tenants_memory(
    stack: Stack, alpha: Client, beta: Client
) -> None:
    words = "the vault combination is on the yellow note"
    theirs = await alpha.stored(f"{CANARY} {words}", tags=["vault"])
    own_id = await beta.stored(f"{CANARY} the vault is yellow", tags=["vault"])
    await asyncio.gather(stack.stores("alpha").all_done(1), stack.stores("beta").all_done(1))
    before = await alpha.memory(theirs)

    refused(await beta.get(theirs), 404)
    refused(await beta.patch(theirs, content="taken"), 404)
    refused(await beta.delete(theirs), 404)
    for found in (
        await beta.recall(words, limit=100),
        await beta.recall(tags="vault", limit=100),
        await beta.recall(limit=100, time_query="today"),
        await beta.recall("vault", priority_ids=theirs, expand_relations=1, expand_entities=1),
    ):
        assert theirs not in found.text
        contents = [row["memory"]["content"] for row in found.body["results"]]
        assert not [content for content in contents if "combination" in content]
    assert (await beta.health())["memory_count"] == await stack.stores("beta").number(
        "MATCH (m:Memory) RETURN count(m)"
    )
    after = await alpha.memory(theirs)
    assert after == before | {"last_accessed": after["last_accessed"]}
    # Alike though they are, no edge joins them, and each point is its tenant's alone.
    assert theirs in await stack.stores("alpha").points()
    assert own_id not in await stack.stores("alpha").points()


async def test_the_file_is_read_again_when_it_changes(stack: Stack, nobody: Client) -> None:
    file = stack.folder.parent / "tokens.json"
    before = file.read_text()
    token = "a-token-of-later"
    entry = {
        "digest": hashlib.sha256(token.encode()).hexdigest(),
        "name": "l",
        "tenants": ["alpha"],
    }
    headers = {"Authorization": f"Bearer {token}"}

    async def accepted() -> bool:
        return (await nobody.ask("GET", "/recall", headers=headers)).status == 200

    assert not await accepted()
    file.write_text(json.dumps([*json.loads(before), entry]))
    try:
        await wait_until(accepted, "the new token is accepted")
        file.write_text("[{half a file")
        assert await accepted()
    finally:
        file.write_text(before)

    async def refused_again() -> bool:
        return not await accepted()

    await wait_until(refused_again, "the removed token is refused")


async def test_eight_connections_meet_at_a_tenants_first_moment(
    stack: Stack, tenants: Iterator[str]
) -> None:
    """MERGE makes duplicates while a label is new, so everything exists before a first write."""
    for tenant in (next(tenants) for _ in range(4)):
        async with stack.client(TOKEN, tenant) as client:
            texts = [f"{CANARY} Alice {n} met Bob in Berlin at Acme Corp" for n in range(24)]
            await client.store_all(texts, connections=8)
        view = stack.stores(tenant)
        await view.all_done(24)
        assert await view.duplicates() == []
        assert await view.number("MATCH (f:Fence) RETURN count(f)") > 0
        assert await view.number("MATCH (s:Schema) RETURN count(s)") == 1
