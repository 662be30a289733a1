"""Backups for tests: a graph with something of everything, and its file from GET /backup."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from services.api.backup import backup as api
from services.api.backup.backup import BACKUP, Backup
from services.api.backup.restore import Report, Restorer
from shared.domain.memory import Memory, now_ms
from shared.graph.records import Embedding, Idem
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import Embedded, Related
from shared.graph.store import GraphStore
from shared.vectors import VectorStore
from tests.support.stack.in_process import ADMIN, make_app, served, tokens
from tests.support.stores.graphs import TENANT, a_memory, associate

# Whom backups are read back for where a test names nobody.
OTHER = "restored"


def backup_app(store: GraphStore, vectors: VectorStore) -> web.Application:
    app = make_app(api.ROUTES, tokens())
    app[BACKUP] = Backup(store.export, vectors)
    return app


async def raw_backup(app: web.Application, query: str = "", **headers: str) -> bytes:
    async with served(app, **ADMIN, **headers) as client:
        answer = await client.get(f"/backup{query}")
        raw = await answer.read()
        assert answer.status == 200, raw
        assert answer.headers["Content-Type"] == "application/gzip"
        assert "automem-backup-" in answer.headers["Content-Disposition"]
    return raw


async def filled(store: GraphStore) -> list[Memory]:
    """Memories with relations, an entity and a supplied vector, one of them fully worked off."""
    memories = [
        a_memory(
            "Ann: hello \u2028 \U0001f600",
            tags=("a/b",),
            metadata={"k": [1, {"x": None}]},
            speaker="Ann",
        ),
        a_memory("two", importance=0.9, session_id="s", project="p", archived=True),
        a_memory("three", t_invalid=now_ms() + 1000, layer="semantic"),
    ]
    await store.memories.create(TENANT, memories[0], embedding=Embedding("m", [0.5, 0.25]))
    await store.memories.create_many(
        TENANT, memories[1:], idem=Idem("key", "hash", (memories[1].id,), "{}")
    )
    one, two, three = memories
    await associate(store, TENANT, one.id, two.id, "PREFERS_OVER", reason="better")
    await associate(store, TENANT, two.id, three.id, "EVOLVED_INTO")
    enriched = Enriched(
        *(one.id, one.version, one.tags, ("entity:people:ann",), {"people": ["Ann"]}, {}),
        summary="hello",
        entity_nodes=(("people", "ann", "Ann"),),
        previous_ids=(two.id,),
    )
    [result] = (await store.work.enriched(TENANT, [enriched])).values()
    await store.work.embedded(TENANT, [Embedded(one.id, result.payload_version, "h", relate=True)])
    related = Related(one.id, "h", result.payload_version, ((three.id, 0.9),))
    await store.work.related(TENANT, [related])
    return memories


async def restored(store: GraphStore, raw: bytes, folder: Path, tenant: str = OTHER) -> Report:
    """What came of reading a backup back."""
    file = folder / f"{uuid4().hex}.tar.gz"
    await asyncio.to_thread(file.write_bytes, raw)
    return await Restorer(store.restore, tenant).restore(file)
