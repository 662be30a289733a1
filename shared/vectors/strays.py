"""Strays: points that no tenant sees, or that hold an id which is another tenant's memory.

The only calls here that reach beyond one tenant: what names no tenant, or a wrong one, is
seen by no filtered read and replaced by no guarded write, so nobody else can mend it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from qdrant_client import AsyncQdrantClient, models

from shared.metrics import POINTS_WRITTEN
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


class Strays:
    """`store.strays`; every deletion spares the tenants that it is told of."""

    def __init__(self, client: AsyncQdrantClient, ask: Ask) -> None:
        self._client = client
        self._ask = ask

    async def among(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> list[StoredPoint]:
        """The points under `ids` that are not the tenant's."""
        if not ids:
            return []
        records = await self._ask(
            "strays",
            lambda collection: self._client.retrieve(
                collection, [filters.point_id(each) for each in ids], with_payload=True
            ),
            generation,
        )
        found = [stored_of(record) for record in records]
        return [point for point in found if point.payload.get("tenant") != tenant]

    async def delete(
        self, spared: Sequence[str], ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete the points under `ids` that are of none of the tenants in `spared`."""
        if not ids:
            return
        selector = models.FilterSelector(filter=filters.strays(spared, ids))
        await self._ask(
            "delete", lambda collection: self._client.delete(collection, selector), generation
        )
        POINTS_WRITTEN.labels(kind="deleted").inc(len(ids))

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
