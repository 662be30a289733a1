"""Graphs for tests: a store over a base graph of its own, and memories to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from shared.config import GraphSettings
from shared.domain.memory import Memory, now_ms
from shared.domain.relations import RELATIONS
from shared.graph.engine.schema import PROPERTY_KEYS, UNIQUE
from shared.graph.memory.links import Association, Value
from shared.graph.store import GraphStore

TENANT = "default"
_NAMES = {
    "CALL db.propertyKeys() YIELD propertyKey RETURN propertyKey": {*PROPERTY_KEYS},
    "CALL db.labels() YIELD label RETURN label": {*UNIQUE, "Registering"},
    "CALL db.relationshipTypes() YIELD relationshipType AS t RETURN t": {*RELATIONS},
}


def a_memory(content: str = "Paris is the capital of France", **fields: Any) -> Memory:
    """A new memory of now; `fields` replace what they name."""
    now = now_ms()
    times = dict.fromkeys(("timestamp", "updated_at", "last_accessed", "t_valid"), now)
    given = {"id": str(uuid4()), "version": now, "payload_version": now, **times, **fields}
    return Memory(content=content, **given)


def graph_settings(url: str, **variables: Any) -> GraphSettings:
    """Settings whose base graph no other test has."""
    given: dict[str, Any] = {
        "FALKORDB_GRAPH": f"g{uuid4().hex[:12]}",
        "EUNOE_GRAPH_TIMEOUT_SECONDS": 60,
        "EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS": 50,
    }
    return GraphSettings(FALKORDB_URL=url, **(given | variables))


async def associate(
    store: GraphStore, tenant: str, from_id: str, to_id: str, kind: str, **properties: Value
) -> bool:
    """One relation as a client authors it; False if an end is missing."""
    return (
        await store.links.associate_many(tenant, [Association(from_id, to_id, kind, properties)])
    )[0]


@asynccontextmanager
async def opened(
    settings: GraphSettings, *, outbox_delay_s: float = 60.0
) -> AsyncIterator[GraphStore]:
    """An open store; its tenants' graphs are checked and deleted at the end."""
    store = await GraphStore(settings, outbox_delay_s=outbox_delay_s).open()
    try:
        yield store
        assert not await unregistered(settings)
    finally:
        await store.close()
        await drop(settings)


async def unregistered(settings: GraphSettings) -> set[str]:
    """Names in use that the schema does not list: a failing query would corrupt values."""
    found: set[str] = set()
    async with Redis.from_url(settings.url, decode_responses=True) as redis:
        for graph in await _graphs(redis, settings):
            for call, known in _NAMES.items():
                found |= {row[0] for row in await _query(redis, graph, call)} - known
    return found


async def drop(settings: GraphSettings) -> None:
    """Delete every graph of these settings, behind any store's back."""
    async with Redis.from_url(settings.url, decode_responses=True) as redis:
        for graph in await _graphs(redis, settings):
            await redis.delete(graph)


async def cypher(settings: GraphSettings, text: str, tenant: str = TENANT) -> list[list[Any]]:
    """Rows of a query past the store, for what only a test wants to see (verbose form)."""
    graph = settings.graph if tenant == TENANT else f"{settings.graph}:{tenant}"
    async with Redis.from_url(settings.url, decode_responses=True) as redis:
        return await _query(redis, graph, text)


async def _graphs(redis: Redis, settings: GraphSettings) -> list[str]:
    names = await redis.execute_command("GRAPH.LIST")  # type: ignore[no-untyped-call]
    return [name for name in names if name.partition(":")[0] == settings.graph]


async def _query(redis: Redis, graph: str, text: str) -> list[list[Any]]:
    reply = await redis.execute_command("GRAPH.QUERY", graph, text)  # type: ignore[no-untyped-call]
    return list(reply[1]) if len(reply) == 3 else []
