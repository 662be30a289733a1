"""GET /backup: one tenant's memories as a file, in AutoMem's format.

The graph is exported whole (but for what belongs to this installation); the vectors are in
it for AutoMem's sake, a restore here makes them again. Members are spooled to disk before the
first byte is sent, so a store that fails gives a 503 and not half a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from services.api.backup.archive import Member, packed
from services.api.http.middleware import TENANT
from services.api.http.route import Param, Route
from shared.errors import InvalidInput, Overloaded
from shared.graph.upkeep.export import Export, Link, Node
from shared.vectors import VectorStore

PARTS = ("falkordb", "qdrant")
_POINTS_PAGE = 200
# The one before holds on a moment longer than its client reads.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Spooled:
    """Finished members, ready to be sent; `stamp` is the moment in the file's names."""

    stamp: str
    at_s: int
    members: Sequence[Member]

    def pieces(self) -> Iterator[bytes]:
        return packed(self.members, mtime=self.at_s)


class Backup:
    """Makes one backup at a time; `folder` holds the spool (None: the system's for such).

    `patience_s`: how long a backup waits for the one before.
    """

    def __init__(
        self,
        export: Export,
        vectors: VectorStore,
        *,
        folder: Path | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._export = export
        self._vectors = vectors
        self._folder = folder
        self._patience_s = patience_s
        self._busy = asyncio.Lock()

    @asynccontextmanager
    async def spooled(self, tenant: str, include: Sequence[str]) -> AsyncIterator[Spooled]:
        """The tenant's backup on disk, for as long as the block.

        Raises: Unavailable for a store that is needed and down, Overloaded where another
        backup is still being made after the wait.
        """
        async with self._alone():
            now = datetime.now(UTC)
            stamp = now.strftime("%Y%m%d_%H%M%S")
            members: list[Member] = []
            try:
                for part in PARTS:
                    if part in include:
                        name = f"{part}/{part}_{stamp}.json.gz"
                        members.append(await asyncio.to_thread(Member, name, self._folder))
                        await self._fill(part, tenant, members[-1], now.isoformat())
                yield Spooled(stamp, int(now.timestamp()), members)
            finally:
                # A request that is cut off here too must not leave its spool open.
                await asyncio.shield(asyncio.to_thread(_close, members))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._busy.acquire()
        except TimeoutError as error:
            raise Overloaded("Another backup is being made", retry_after_s=30) from error
        try:
            yield
        finally:
            self._busy.release()

    async def _fill(self, part: str, tenant: str, member: Member, timestamp: str) -> None:
        await asyncio.to_thread(member.put, "timestamp", timestamp)
        await asyncio.to_thread(member.put, "tenant", tenant)
        if part == "falkordb":
            await self._graph(tenant, member)
        else:
            await self._points(tenant, member)
        await asyncio.to_thread(member.finish)

    async def _graph(self, tenant: str, member: Member) -> None:
        await asyncio.to_thread(member.put, "format", "eunoe/1")
        await asyncio.to_thread(member.put, "graph_name", self._export.name(tenant))
        pages = ([node_json(node) for node in page] async for page in self._export.nodes(tenant))
        nodes = await _array(member, "nodes", pages)
        pages = ([link_json(link) for link in page] async for page in self._export.links(tenant))
        links = await _array(member, "relationships", pages)
        stats = {"node_count": nodes, "relationship_count": links}
        await asyncio.to_thread(member.put, "stats", stats)

    async def _points(self, tenant: str, member: Member) -> None:
        live = self._vectors.live
        name = live.collection if live else None
        count = await _array(member, "points", self._point_pages(tenant))
        await asyncio.to_thread(member.put, "collection_name", name)
        await asyncio.to_thread(member.put, "stats", {"points_count": count})

    async def _point_pages(self, tenant: str) -> AsyncIterator[list[Any]]:
        async for page in self._vectors.scroll(tenant, page=_POINTS_PAGE):
            found = await self._vectors.stored(
                tenant, [point.id for point in page], with_dense=True
            )
            yield [
                {
                    "id": point.id,
                    "vector": None if point.dense is None else point.dense.tolist(),
                    "payload": dict(point.payload),
                }
                for point in found.values()
            ]


def _close(members: Sequence[Member]) -> None:
    for member in members:
        member.close()


async def _array(member: Member, key: str, pages: AsyncIterator[list[Any]]) -> int:
    await asyncio.to_thread(member.begin, key)
    async for page in pages:
        await asyncio.to_thread(member.add, page)
    return await asyncio.to_thread(member.end)


def node_json(node: Node) -> dict[str, Any]:
    return {"id": node.id, "labels": list(node.labels), "properties": dict(node.properties)}


def link_json(link: Link) -> dict[str, Any]:
    return {
        "source_id": link.source,
        "type": link.type,
        "target_id": link.target,
        "properties": dict(link.properties),
    }


BACKUP: web.AppKey[Backup] = web.AppKey("backup", Backup)


async def backup(request: web.Request) -> web.StreamResponse:
    given = request.query.get("include")
    include = PARTS if given is None else [part.strip() for part in given.split(",")]
    if not set(include) <= set(PARTS):
        raise InvalidInput(f"include must be a comma-separated subset of: {','.join(PARTS)}")
    async with request.app[BACKUP].spooled(request[TENANT], include) as spooled:
        name = f"automem-backup-{spooled.stamp}.tar.gz"
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/gzip",
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
            }
        )
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(response, spooled.pieces())
        return response


async def _send(response: web.StreamResponse, pieces: Iterator[bytes]) -> None:
    take = partial(next, pieces, None)
    try:
        while (piece := await asyncio.to_thread(take)) is not None:
            if piece:
                await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return  # the client hung up: there is nobody left to tell


_INCLUDE = Param("include", {"type": "string"}, f"Comma list of {', '.join(PARTS)}; default both")
_TENANT = Param("tenant", {"type": "string"}, "Or X-Tenant-Id; default: the default tenant")
ROUTES: tuple[Route, ...] = tuple(
    Route(
        "GET",
        path,
        backup,
        "One tenant's memories as a file (the admin token alone)",
        scope="admin_only",
        query=(_INCLUDE, _TENANT),
        answers={200: "A tar.gz", 503: "A store is down, or another backup is being made"},
        media_type="application/gzip",
        group="operations",
        documented=path == "/backup",
    )
    for path in ("/backup", "/backup/")
)
