"""What operators see: health, metrics of every role, and logs that quote no stored text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import CANARY, TOKEN
from tests.support.stack.stack import ROLES, Client, Stack, StoreView
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

_NOT_CLOSED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|^t\d+$|^(alpha|beta|gamma)$")


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=limit_s(10))) as session:
        yield session


async def read(web: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    async with web.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_health_tells_the_stores_and_the_pipeline(api: Client, stores: StoreView) -> None:
    await asyncio.gather(*(api.stored(f"{CANARY} healthy {n}") for n in range(3)))
    await stores.all_done(3)

    async def settled() -> bool:
        health.update(await api.health())
        counted = health["memory_count"] == health["vector_count"] == 3
        # On a busy machine two probes of a store may fail in a row.
        return bool(counted and health["status"] == "healthy")

    health: dict[str, Any] = {}
    await wait_until(settled, "health counts three memories, and is healthy")
    assert [health[name] for name in ("falkordb", "qdrant", "redis")] == ["connected"] * 3
    assert health["sync_status"] == "synced"
    assert health["enrichment"].keys() >= {
        *("status", "queue_depth", "pending", "inflight", "processed", "failed")
    }
    assert (health["enrichment"]["processed"], health["enrichment"]["failed"]) == (3, 0)
    assert health["vector_dimensions"]["effective"] == 384


async def test_a_fresh_write_does_not_degrade_health(api: Client, stack: Stack) -> None:
    async with stack.frozen("embedder", "enricher"):
        await api.stored(f"{CANARY} waits")

        async def pending() -> bool:
            health = await api.health()
            return (health["status"], health["sync_status"]) == ("healthy", "pending")

        await wait_until(pending, "health shows what waits, and is healthy")


async def test_health_needs_no_token(stack: Stack) -> None:
    async with stack.client() as nobody:
        assert (await nobody.ask("GET", "/health")).status == 200
    async with stack.client("wrong") as nobody:
        assert (await nobody.ask("GET", "/health")).status == 200


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_serves_its_probes(
    stack: Stack, web: aiohttp.ClientSession, role: str
) -> None:
    port = stack.one(role).ports["admin"]

    async def is_served(path: str) -> bool:
        status, text = await read(web, port, path)
        return status == 200 and role in text

    for path in ("/livez", "/version"):
        assert await is_served(path)
    # A store that other tests keep busy may miss two probes, and its roles are not ready then.
    await wait_until(lambda: is_served("/readyz"), f"the {role} is ready")


@pytest.mark.parametrize("role", [*ROLES, "supervisor"])
async def test_every_role_exposes_metrics_that_parse(
    stack: Stack, web: aiohttp.ClientSession, role: str
) -> None:
    status, text = await read(web, stack.one(role).ports["admin"], "/metrics")
    assert status == 200
    ours = [f for f in text_string_to_metric_families(text) if f.name.startswith("eunoe_")]
    assert len(ours) > 10
    for family in ours:
        assert family.documentation
        for sample in family.samples:
            open_values = [value for value in sample.labels.values() if _NOT_CLOSED.search(value)]
            assert not open_values, "labels are closed sets: no ids, no tenants"


async def test_metrics_count_what_was_done(
    api: Client, stack: Stack, stores: StoreView, web: aiohttp.ClientSession
) -> None:
    async def total(role: str, name: str, **labels: str) -> float:
        _, text = await read(web, stack.one(role).ports["admin"], "/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    route = {"route": "/memory", "method": "POST", "status": "201"}
    posts = await total("api", "eunoe_http_request_duration_seconds_count", **route)
    points = await total("embedder", "eunoe_points_written_total", kind="vector")
    acked = await total("enricher", "eunoe_jobs_settled_total", stream="enrich", outcome="acked")
    for number in range(5):
        await api.stored(f"{CANARY} counted {number}")
    await stores.all_done(5)
    assert await total("api", "eunoe_http_request_duration_seconds_count", **route) >= posts + 5
    assert await total("embedder", "eunoe_points_written_total", kind="vector") >= points + 5
    stream = {"stream": "enrich", "outcome": "acked"}
    assert await total("enricher", "eunoe_jobs_settled_total", **stream) >= acked + 5


async def test_no_log_quotes_a_memory_or_a_token(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    """Through success, refusal and failure of every part that sees the words."""
    secret = f"{CANARY} xyzzy-plugh"
    memory_id = await api.stored(
        secret,
        tags=["xyzzy-tag"],
        metadata={"xyzzy-key": "xyzzy-value"},
        session_id="xyzzy-session",
    )
    await stores.all_done(1)
    await api.patch(memory_id, content=f"{secret} changed")
    await api.recall("xyzzy-query", tags="xyzzy-tag")
    await api.store(secret + "\0")
    await api.store(secret * 200)
    await api.store(secret, importance="xyzzy-number")
    await api.ask("POST", "/memory", data=f'{{"content": "{secret}'.encode())
    await api.ask("GET", f"/recall?api_key={TOKEN}&query=xyzzy-url")
    await api.ask("GET", "/memory/xyzzy-id")
    async with stack.frozen("qdrant"):
        await api.recall("xyzzy-degraded")
    await stores.all_done(1)
    await api.delete(memory_id)
    for name, text in stack.logs().items():
        for word in ("xyzzy", CANARY, TOKEN):
            assert word not in text, f"{name} shows {word}"


async def test_every_log_line_of_a_role_is_one_json_object(stack: Stack) -> None:
    import json

    for role in ROLES:
        for line in stack.logs()[role].splitlines():
            assert line.startswith("{"), line
            entry = json.loads(line)
            assert {"event", "level", "timestamp", "role"} <= entry.keys(), line
