"""VectorStore: search, write and audit one tenant's points, in the live generation or a given one.

The embedder names the generation that it writes to, since a vector belongs to one model. All
other callers follow the alias and notice within a second that it moved.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import httpx
from qdrant_client import AsyncQdrantClient, models

from shared.config import VectorSettings
from shared.errors import NotFound, Unavailable
from shared.telemetry.metrics import POINTS_WRITTEN
from shared.vectors import filters
from shared.vectors.filters import Hit, VectorQuery
from shared.vectors.generation import Generation, Generations
from shared.vectors.live_generation import LiveGeneration
from shared.vectors.observed_call import STORE, observed_call
from shared.vectors.points import (
    DENSE,
    MEMORY_ID,
    PAYLOAD_INDEXES,
    Point,
    StoredPoint,
    point_id,
    stored_of,
    struct_of,
)

_T = TypeVar("_T")

_PING_TIMEOUT_S = 1.0
_STATE_KEYS = [*PAYLOAD_INDEXES, MEMORY_ID, "archived", "version", "text_hash"]
# qdrant-client turns keep-alive off for local addresses, which doubles a query's time.
# Idle connections are dropped before Qdrant drops them (5 s): nothing here is retried.
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=3.0)


class VectorStore:
    """The points of every tenant; each method reads or changes those of one.

    Without `generation` a method uses the live one, as far as this process knows.

    Foreign points, of no tenant or with the id of another tenant's point, are seen by no filtered
    read and replaced by no guarded write, so only the last four public methods can repair them.

    Construct it in a thread where a loop runs: the client reads certificates and metadata.
    """

    def __init__(self, settings: VectorSettings) -> None:
        key = settings.api_key
        # The client takes whole seconds; the limit that counts is that of `observed_call`.
        timeout_s = math.ceil(settings.timeout_s) + 1
        self._client = AsyncQdrantClient(
            url=settings.url,
            api_key=key.get_secret_value() if key else None,
            timeout=timeout_s,
            check_compatibility=False,  # it would start a thread; `open` checks what we need
            limits=_LIMITS,
        )
        self._timeout_s = settings.timeout_s
        self.generations = Generations(
            self._client,
            settings.collection,
            timeout_s=settings.timeout_s,
            ensure_indexes=settings.ensure_indexes,
        )
        self.live = LiveGeneration(self._client, self.generations, settings.timeout_s)

    async def close(self) -> None:
        await self._client.close()

    async def ping(self) -> None:
        """Raises: Unavailable if Qdrant does not answer within a second."""
        await observed_call("ping", self._client.info(), _PING_TIMEOUT_S)

    async def search(
        self, tenant: str, queries: Sequence[VectorQuery], *, generation: Generation | None = None
    ) -> list[list[Hit]]:
        """Return the hits of each query, best first, in one call; none for an empty word query."""
        requests = [filters.request_of(tenant, each) for each in queries if not each.is_empty]
        answers = iter(await self._query("search", requests, generation))
        return [[] if query.is_empty else next(answers) for query in queries]

    async def neighbours(
        self, tenant: str, ids: Sequence[str], *, limit: int, threshold: float
    ) -> dict[str, list[Hit]]:
        """Return the nearest other memories of each at cosine `threshold` or more, best first.

        Makes two calls, however many ids there are; an id without a point is missing in the answer.
        """
        # Edges that were computed with a former generation would stay: look at the alias now.
        generation = await self.live.current(trusted_s=0.0)
        # A query by id would fail the whole batch if one id has no point.
        stored = await self.stored(tenant, ids, with_dense=True, generation=generation)
        known = {key: point.dense for key, point in stored.items() if point.dense is not None}
        requests = [
            models.QueryRequest(
                query=dense.tolist(),
                using=DENSE,
                filter=filters.others(tenant, key),
                score_threshold=threshold,
                limit=limit,
                with_payload=filters.naming(tenant),
            )
            for key, dense in known.items()
        ]
        answers = await self._query("neighbours", requests, generation)
        return dict(zip(known, answers, strict=True))

    async def upsert(
        self, tenant: str, points: Sequence[Point], *, generation: Generation | None = None
    ) -> None:
        """Write each point unless a newer payload_version of it is stored; one call.

        Of points with the same id the newest counts. The answer does not say which points were
        not written because a newer one is stored. An absent point is written at any version.
        """
        if not points:
            return
        latest = _latest(tenant, points)
        call = partial(
            self._client.upsert,
            points=[struct_of(point) for point in latest],
            update_filter=filters.newest_wins(tenant, latest),
        )
        await self._ask("upsert", generation, call)
        POINTS_WRITTEN.labels(kind="vector").inc(len(latest))

    async def write_payload(
        self, tenant: str, points: Sequence[Point], *, generation: Generation | None = None
    ) -> None:
        """Replace the payload of stored points of the same text_hash; one call.

        Guarded as `upsert` is. A point that is absent, or of another text, stays as it is.
        """
        if not points:
            return
        latest = _latest(tenant, points)
        operations = [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(
                    payload=dict(point.payload), filter=filters.same_text(tenant, point)
                )
            )
            for point in latest
        ]
        call = partial(self._client.batch_update_points, update_operations=operations)
        await self._ask("write_payload", generation, call)
        POINTS_WRITTEN.labels(kind="payload").inc(len(latest))

    async def delete(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete the tenant's points of `ids`; absent ones are no error."""
        await self._delete(filters.owned(tenant, ids), len(ids), generation)

    async def delete_seen(
        self, tenant: str, seen: Sequence[StoredPoint], *, generation: Generation | None = None
    ) -> None:
        """Delete the tenant's points unless a newer payload_version was stored since; one call."""
        await self._delete(filters.as_seen(tenant, seen), len(seen), generation)

    async def stored(
        self,
        tenant: str,
        ids: Sequence[str],
        *,
        with_dense: bool = False,
        generation: Generation | None = None,
    ) -> dict[str, StoredPoint]:
        """Return the stored points of memories, by memory id; the payload has every key."""
        memory_ids = {point_id(tenant, each): each for each in ids}
        points = await self._retrieve("stored", [*memory_ids], generation, with_dense=with_dense)
        return {
            memory_ids.get(point.point_id, point.id): point
            for point in points
            if point.payload.get("tenant") == tenant
        }

    def scroll(
        self, tenant: str, *, page: int = 1000, generation: Generation | None = None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Yield every point of the tenant in pages, by point id: payloads without vectors."""
        return self._scroll(filters.of_tenant(tenant), page, generation)

    async def count(self, tenant: str, *, generation: Generation | None = None) -> int:
        call = partial(self._client.count, count_filter=filters.of_tenant(tenant), exact=True)
        return (await self._ask("count", generation, call)).count

    async def under(self, point_ids: Sequence[str]) -> list[StoredPoint]:
        """Return the points under these ids, of whichever tenant; absent ones are left out."""
        return await self._retrieve("strays", point_ids)

    async def delete_foreign(self, spared: Sequence[str], point_ids: Sequence[str]) -> None:
        """Delete the points under these ids that belong to none of the tenants in `spared`."""
        await self._delete(filters.foreign_points(spared, point_ids), len(point_ids))

    async def make_way(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete points with the ids of these memories' points that are another tenant's.

        No upsert replaces such a point and no read shows it: call this before the memory is
        embedded again.
        """
        if ids:
            wanted = filters.of_other_tenants(tenant, ids)
            call = partial(self._client.delete, points_selector=wanted)
            await self._ask("delete", generation, call)

    def scroll_foreign(
        self, tenants: Sequence[str], *, page: int = 1000, generation: Generation | None = None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Yield every point of none of `tenants`, in pages, by point id: payloads only."""
        return self._scroll(filters.foreign_points(tenants), page, generation)

    async def _retrieve(
        self,
        operation: str,
        point_ids: Sequence[str],
        generation: Generation | None = None,
        *,
        with_dense: bool = False,
    ) -> list[StoredPoint]:
        if not point_ids:
            return []
        call = partial(
            self._client.retrieve,
            ids=[filters.parsed(each) for each in point_ids],
            with_payload=True,
            with_vectors=[DENSE] if with_dense else False,
        )
        return [stored_of(record) for record in await self._ask(operation, generation, call)]

    async def _scroll(
        self, wanted: models.Filter, page: int, generation: Generation | None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Yield the points that match in pages, by point id, with the keys that an audit reads."""
        offset: Any = None
        generation = generation or await self.live.current()  # one for all pages
        while True:
            call = partial(
                self._client.scroll,
                scroll_filter=wanted,
                limit=page,
                offset=offset,
                with_payload=_STATE_KEYS,
                with_vectors=False,
            )
            records, offset = await self._ask("scroll", generation, call)
            if records:
                yield [stored_of(record) for record in records]
            if offset is None:
                return

    async def _delete(
        self, which: models.Filter, most: int, generation: Generation | None = None
    ) -> None:
        """Delete the points that match, which are `most` at most."""
        if most:
            call = partial(self._client.delete, points_selector=which)
            await self._ask("delete", generation, call)
            POINTS_WRITTEN.labels(kind="deleted").inc(most)

    async def _query(
        self, operation: str, requests: list[models.QueryRequest], generation: Generation | None
    ) -> list[list[Hit]]:
        if not requests:
            return []
        # This is one layer below `query_batch_points`, which deep-copies every query in search
        # of texts to embed: 0.4 of the 1.9 ms of CPU that three queries cost here.
        call = partial(
            self._client.http.search_api.query_batch_points,
            query_request_batch=models.QueryRequestBatch(searches=requests),
        )
        reply = await self._ask(operation, generation, call)
        return [filters.hits_of(answer.points) for answer in reply.result or []]

    async def _ask(
        self, operation: str, generation: Generation | None, call: Callable[[str], Awaitable[_T]]
    ) -> _T:
        """Run `call` on the collection; if the live one is gone, the next call opens again."""
        target = generation or await self.live.current()
        try:
            return await observed_call(operation, call(target.collection), self._timeout_s)
        except NotFound as error:
            self.live.lost(target)
            raise Unavailable(STORE, f"{target.collection} is gone") from error


def _latest(tenant: str, points: Sequence[Point]) -> list[Point]:
    """Return each id once, at its newest version. Raises: ValueError for another tenant's."""
    latest: dict[str, Point] = {}
    for point in points:
        if point.payload.get("tenant") != tenant:
            raise ValueError("a point of another tenant")
        known = latest.get(point.id)
        if known is None or known.payload_version <= point.payload_version:
            latest[point.id] = point
    return list(latest.values())
