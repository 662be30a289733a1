"""Strays: points that no tenant sees, or that stand where another's belong.

The only calls here that reach beyond one tenant: what names no tenant, or a wrong one, is
seen by no filtered read and replaced by no guarded write, so nobody else can mend it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from qdrant_client import AsyncQdrantClient, models

from shared.telemetry.metrics import POINTS_WRITTEN
from shared.vectors import filters
from shared.vectors.generation import Generation
from shared.vectors.points import StoredPoint, stored_of

_T = TypeVar("_T")


class Ask(Protocol):
    """`call` on the collection of a generation, the live one where None."""

    async def __call__(
        self,
        operation: str,
        call: Callable[[str], Awaitable[_T]],
        generation: Generation | None = None,
    ) -> _T: ...


class ForeignPoints:
    """`store.strays`; every deletion spares the tenants that it is told of."""

    def __init__(self, client: AsyncQdrantClient, ask: Ask) -> None:
        self._client = client
        self._ask = ask

    async def under(self, point_ids: Sequence[str]) -> list[StoredPoint]:
        """Whatever stands under these ids, of whichever tenant."""
        if not point_ids:
            return []
        records = await self._ask(
            "strays",
            lambda collection: self._client.retrieve(
                collection, [filters.parsed(each) for each in point_ids], with_payload=True
            ),
        )
        return [stored_of(record) for record in records]

    async def delete(self, spared: Sequence[str], point_ids: Sequence[str]) -> None:
        """Delete the points under these ids that are of none of the tenants in `spared`."""
        if not point_ids:
            return
        await self._delete(filters.strays(spared, point_ids))
        POINTS_WRITTEN.labels(kind="deleted").inc(len(point_ids))

    async def make_way(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete what stands where these memories' points belong and is not the tenant's.

        No upsert replaces it and no read shows it: do this before one is embedded again.
        """
        if ids:
            await self._delete(filters.in_the_way(tenant, ids), generation)

    async def _delete(self, which: models.Filter, generation: Generation | None = None) -> None:
        selector = models.FilterSelector(filter=which)
        await self._ask(
            "delete", lambda collection: self._client.delete(collection, selector), generation
        )

    async def scroll(
        self, tenants: Sequence[str], *, page: int = 1000, generation: Generation | None = None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Every point that is of none of `tenants`, in pages, by id: payloads alone."""
        offset: Any = None
        wanted = filters.strays(tenants)
        while True:
            at = offset
            records, offset = await self._ask(
                "scroll",
                lambda collection, at=at: self._client.scroll(  # type: ignore[misc]
                    collection,
                    scroll_filter=wanted,
                    limit=page,
                    offset=at,
                    with_payload=True,
                    with_vectors=False,
                ),
                generation,
            )
            if records:
                yield [stored_of(record) for record in records]
            if offset is None:
                return
