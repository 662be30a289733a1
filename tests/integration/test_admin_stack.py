"""The operators' routes of the whole running product: what they set going comes to its end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.stack.in_process import ADMIN, ADMIN_TOKEN
from tests.support.stack.stack import REPOSITORY, Client, Stack, running
from tests.support.waiting.conditions import wait_until


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack that has an admin token; the tests of this module share its one tenant."""
    settings = {"ADMIN_API_TOKEN": ADMIN_TOKEN, "EMBEDDING_PROVIDER": "placeholder"}
    roles = ("--only", "api,enricher,embedder,syncer")
    async with running(tmp_path_factory.mktemp("admin"), settings, *roles) as started:
        yield started
        for name, text in started.logs().items():
            assert ADMIN_TOKEN not in text, name


@pytest.fixture
async def api(own: Stack) -> AsyncIterator[Client]:
    async with own.client() as client:
        yield client


async def _body(api: Client, method: str, path: str, status: int = 200, **options: Any) -> Any:
    answer = await api.ask(method, path, headers=ADMIN, **options)
    assert answer.status == status, answer
    return answer.body


async def _stored(api: Client, count: int) -> list[str]:
    """Ids of memories that have been through every stage."""
    ids = [await api.stored(f"memory number {number} of the operators") for number in range(count)]
    for memory_id in ids:
        await _done(api, memory_id)
    return ids


async def _done(api: Client, memory_id: str) -> Any:
    receipts: list[Any] = []

    async def complete() -> bool:
        body = await _body(api, "GET", f"/memory/{memory_id}/receipt")
        receipts.append(body)
        return all(body[name] for name in ("enriched", "embedded", "related", "searchable"))

    await wait_until(complete, "the memory went through every stage")
    return receipts[-1]


async def test_a_backup_is_read_back_by_the_documented_command(
    api: Client, own: Stack, tmp_path: Path
) -> None:
    """Nobody but stack.json knows the ports of the embedded stores."""
    [memory_id] = await _stored(api, 1)
    file = tmp_path / "backup.tar.gz"
    async with (
        aiohttp.ClientSession(headers=ADMIN) as session,
        session.get(f"{own.url}/backup") as answer,
    ):
        await asyncio.to_thread(file.write_bytes, await answer.read())
    assert (await api.ask("DELETE", f"/memory/{memory_id}")).status == 200
    unset = ("REDIS", "FALKORDB", "QDRANT", "EUNOE")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(unset)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.api", "restore", str(file)),
        cwd=own.folder,
        env=kept | {"PYTHONPATH": str(REPOSITORY), "EUNOE_DATA_DIR": str(own.folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error
    assert json.loads(out)["memories_created"] == 1
    await _done(api, memory_id)


async def test_a_receipt_follows_a_memory_to_its_end(api: Client) -> None:
    [memory_id] = await _stored(api, 1)
    body = await _done(api, memory_id)
    assert {step["state"] for step in body["stages"].values()} == {"done"}
    assert body["enriched_at"] >= body["stored_at"]


async def test_an_unknown_admin_path_is_not_found(api: Client) -> None:
    await _body(api, "GET", "/admin/nothing", 404)
    await _body(api, "PUT", "/admin/runs", 405)


async def test_the_workers_are_seen_at_work(api: Client) -> None:
    await _stored(api, 1)
    body = await _body(api, "GET", "/enrichment/status")
    assert body["status"] == "running"
    assert body["stats"]["successes"] >= 1
    streams = (await _body(api, "GET", "/admin/queues"))["streams"]
    readers = {each["stream"]: each["consumers"] for each in streams}
    for stage in ("enrich", "embed", "relate", "sync"):
        assert [each["alive"] for each in readers[stage]] == [True], stage


async def test_a_memory_is_enriched_again(api: Client) -> None:
    [memory_id] = await _stored(api, 1)
    before = (await _done(api, memory_id))["enriched_at"]
    await _body(api, "POST", "/enrichment/reprocess", 202, json={"ids": [memory_id]})

    async def again() -> bool:
        return bool((await _done(api, memory_id))["enriched_at"] > before)

    await wait_until(again, "it was enriched again")


async def test_a_comparison_finds_stores_that_agree(api: Client) -> None:
    await _stored(api, 3)
    body = await _body(api, "POST", "/admin/sync", json={"dry_run": True})
    assert body["status"] == "dry_run"
    assert body["falkordb_count"] == body["qdrant_count"] >= 3
    assert (body["missing_count"], body["orphaned_count"]) == (0, 0)
    assert (await _body(api, "POST", "/admin/sync"))["status"] == "already_synced"


async def test_all_is_embedded_again_and_then_by_another_model(api: Client) -> None:
    await _stored(api, 2)
    first = await _body(api, "POST", "/admin/reembed", json={"force": True})
    assert (first["status"], first["failed"]) == ("complete", 0)
    assert first["processed"] == first["total"] >= 2
    second = await _body(api, "POST", "/admin/reembed", json={"dimension": 64})
    assert (second["status"], second["failed"]) == ("complete", 0)
    rows = (await _body(api, "GET", "/admin/generations"))["generations"]
    states = {row["name"]: (row["state"], row["dimension"]) for row in rows}
    assert states[second["generation"]] == ("live", 64)
    assert states[first["generation"]][0] == "old"
    path = f"/admin/generations/{first['generation']}"
    back = await _body(api, "POST", f"{path}/activate")
    assert back["generation"] == first["generation"]
    await _body(api, "POST", f"{path}/drop", 409)
    await _body(api, "POST", f"/admin/generations/{second['generation']}/drop")
    runs = (await _body(api, "GET", "/admin/runs?task=reembed"))["runs"]
    assert [run["state"] for run in runs] == ["complete"] * 3
    assert {run["progress"]["ratio"] for run in runs} == {1.0}
