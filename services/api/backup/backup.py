"""GET /backup: one tenant's memories as a file, in AutoMem's format.

The graph is exported whole, except what belongs to this installation. The vectors are in the
file for AutoMem; a restore here makes them again. Members are spooled to disk before the
first byte is sent, so a store that fails gives a 503 and not half a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohttp import web

from services.api.backup.archive import Member, packed
from services.api.http.middleware import TENANT
from services.api.http.parameters import Param, Query, text
from services.api.http.route import Routes
from shared.config import Settings
from shared.errors import InvalidInput, Overloaded
from shared.graph.upkeep.backup import Export
from shared.vectors import StoredPoint, VectorStore

PARTS = ("falkordb", "qdrant")
_POINTS_PAGE = 200
_STAMP = "%Y%m%d_%H%M%S"
# A backup ends a moment after its client has read it.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Backup:
    """Makes one backup at a time; one waits up to `patience_s` for an earlier one to end."""

    export: Export
    vectors: VectorStore
    _: KW_ONLY
    patience_s: float = _PATIENCE_S
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def spooled(
        self, tenant: str, include: Sequence[str]
    ) -> AsyncIterator[tuple[datetime, list[Member]]]:
        """Keep the tenant's backup on disk for the length of the block: its time and its members.

        Raises: Unavailable for a store that is needed and down, Overloaded where another
        backup is still being made after the wait.
        """
        async with self._alone():
            now = datetime.now(UTC)
            members: list[Member] = []
            try:
                for part in PARTS:
                    if part in include:
                        name = f"{part}/{part}_{now:{_STAMP}}.json.gz"
                        members.append(await asyncio.to_thread(Member, name))
                        await self._fill(part, tenant, members[-1], now.isoformat())
                yield now, members
            finally:
                # Shielded: a request that is cancelled here must not leave its spool open.
                await asyncio.shield(asyncio.to_thread(_close, members))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.patience_s):
                await self._busy.acquire()
        except TimeoutError as error:
            raise Overloaded("Another backup is being made", retry_after_s=30) from error
        try:
            yield
        finally:
            self._busy.release()

    async def _fill(self, part: str, tenant: str, member: Member, timestamp: str) -> None:
        head = {"timestamp": timestamp, "tenant": tenant}
        if part == "falkordb":
            head |= {"format": "eunoe/1", "graph_name": self.export.name(tenant)}
            await asyncio.to_thread(member.put, head)
            nodes = await _array(member, "nodes", self.export.nodes(tenant))
            links = await _array(member, "relationships", self.export.links(tenant))
            tail: dict[str, object] = {"stats": {"node_count": nodes, "relationship_count": links}}
        else:
            live = self.vectors.live.generation
            await asyncio.to_thread(member.put, head)
            count = await _array(member, "points", self._point_pages(tenant))
            collection = live.collection if live else None
            tail = {"collection_name": collection, "stats": {"points_count": count}}
        await asyncio.to_thread(member.put, tail)
        await asyncio.to_thread(member.finish)

    async def _point_pages(self, tenant: str) -> AsyncIterator[Iterable[object]]:
        async for page in self.vectors.scroll(tenant, page=_POINTS_PAGE):
            ids = [point.id for point in page]
            found = await self.vectors.stored(tenant, ids, with_dense=True)
            yield map(_point_json, found.values())


def _point_json(point: StoredPoint) -> dict[str, Any]:
    vector = None if point.dense is None else point.dense.tolist()
    return {"id": point.id, "vector": vector, "payload": dict(point.payload)}


def _close(members: Sequence[Member]) -> None:
    for member in members:
        member.close()


async def _array(member: Member, key: str, pages: AsyncIterator[Iterable[object]]) -> int:
    """Write all rows of `pages` as the array `key`; return how many there were."""
    await asyncio.to_thread(member.begin, key)
    async for page in pages:
        await asyncio.to_thread(member.add, page)
    return await asyncio.to_thread(member.end)


def _parts(values: Sequence[str], _settings: Settings) -> Sequence[str]:
    """Parse the parameter; unlike in other parameters an empty value is refused."""
    if not values:
        return PARTS
    parts = [part.strip() for part in values[0].split(",")]
    if not set(parts) <= set(PARTS):
        raise InvalidInput(f"include must be a comma-separated subset of: {','.join(PARTS)}")
    return parts


BACKUP: web.AppKey[Backup] = web.AppKey("backup", Backup)
_INCLUDE = Param(
    "include",
    _parts,
    lambda _settings: {"type": "string"},
    f"Comma list of {', '.join(PARTS)}; default both",
)
_TENANT = text("tenant", "Or X-Tenant-Id; default: the default tenant")
ROUTES = Routes(
    scope="admin_only",
    query=(_INCLUDE, _TENANT),
    answers={200: "A tar.gz", 503: "A store is down, or another backup is being made"},
    media_type="application/gzip",
    group="operations",
)
_SUMMARY = "One tenant's memories as a file (the admin token alone)"


@ROUTES.add("GET", "/backup/", _SUMMARY, documented=False)
@ROUTES.add("GET", "/backup", _SUMMARY)
async def backup(request: web.Request) -> web.StreamResponse:
    include = Query.of(request)[_INCLUDE]
    async with request.app[BACKUP].spooled(request[TENANT], include) as (at, members):
        name = f"automem-backup-{at:{_STAMP}}.tar.gz"
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/gzip",
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
            }
        )
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(response, packed(members, mtime=int(at.timestamp())))
        return response


async def _send(response: web.StreamResponse, pieces: Iterator[bytes]) -> None:
    take = partial(next, pieces, None)
    try:
        while (piece := await asyncio.to_thread(take)) is not None:
            if piece:
                await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return  # the client hung up
