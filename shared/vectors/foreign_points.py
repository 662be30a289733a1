"""ForeignPoints: points of no tenant, or with the id of another tenant's point.

These are the only calls that reach beyond one tenant. A point without a tenant, or with a wrong
one, is seen by no filtered read and replaced by no guarded write, so nothing else can repair it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from shared.telemetry.metrics import POINTS_WRITTEN
from shared.vectors import filters
from shared.vectors.generation import Generation
from shared.vectors.points import StoredPoint

if TYPE_CHECKING:
    from shared.vectors.store import VectorStore


class ForeignPoints:
    """`VectorStore.foreign`; every deletion spares the tenants that it is given."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    async def under(self, point_ids: Sequence[str]) -> list[StoredPoint]:
        """Return the points under these ids, of whichever tenant."""
        return await self._store.retrieve("strays", point_ids)

    async def delete(self, spared: Sequence[str], point_ids: Sequence[str]) -> None:
        """Delete the points under these ids that belong to none of the tenants in `spared`."""
        if point_ids:
            await self._store.delete_where(filters.foreign(spared, point_ids))
            POINTS_WRITTEN.labels(kind="deleted").inc(len(point_ids))

    async def make_way(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete points with the ids of these memories' points that are another tenant's.

        No upsert replaces such a point and no read shows it: call this before the memory is
        embedded again.
        """
        if ids:
            await self._store.delete_where(filters.in_the_way(tenant, ids), generation)

    async def scroll(
        self, tenants: Sequence[str], *, page: int = 1000, generation: Generation | None = None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Yield every point of none of `tenants`, in pages, by point id: payloads only."""
        wanted = filters.foreign(tenants)
        async for points in self._store.scroll_where(wanted, page=page, generation=generation):
            yield points
