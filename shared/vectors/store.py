"""VectorStore: search, write and audit one tenant's points, in the live generation or a named one.

Who embeds says which generation it works in, since a vector is of one model. Everybody else
follows the alias, and notices within a second that it moved.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import httpx
from qdrant_client import AsyncQdrantClient, models

from shared.config import VectorSettings
from shared.errors import ConfigError, NotFound, Unavailable
from shared.telemetry.metrics import POINTS_WRITTEN
from shared.vectors import filters
from shared.vectors.filters import Hit, VectorQuery
from shared.vectors.foreign_points import ForeignPoints
from shared.vectors.generation import Generation, Generations, mismatch_message
from shared.vectors.observed_call import STORE, asked
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

_OLDEST_SERVER = (1, 17)  # the first with `update_mode`, and with filters on upserts before it
_PING_TIMEOUT_S = 1.0
_REOPEN_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0
_STATE_KEYS = [*PAYLOAD_INDEXES, MEMORY_ID, "archived", "version", "text_hash"]
# qdrant-client turns keep-alive off for local addresses, which doubles a query's time.
# Idle connections are dropped before Qdrant drops them (5 s): nothing here is retried.
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=3.0)


class VectorStore:
    """The points of every tenant; each method sees those of one.

    Where `generation` is not given it is the live one, as this process knows it.

    Construct it in a thread where a loop runs: the client reads certificates and metadata.
    """

    def __init__(self, settings: VectorSettings) -> None:
        key = settings.api_key
        self._client = AsyncQdrantClient(
            url=settings.url,
            api_key=key.get_secret_value() if key else None,
            timeout=math.ceil(settings.timeout_s) + 1,  # whole seconds; `asked` is the limit
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
        self.strays = ForeignPoints(self._client, self._ask)
        self._live: Generation | None = None
        self._again: Callable[[], Awaitable[Generation]] | None = None
        self._opening = asyncio.Lock()
        self._opened_at = -math.inf
        self._follows = False
        self._followed_at = -math.inf

    async def open(self, model: str, dimension: int, *, provider: str = "") -> Generation:
        """Serve the live generation, made now if there is none; any number may open at once.

        Safe to call again. If Qdrant does not answer, later calls open by themselves.

        Raises:
            ConfigError: Qdrant is too old, or the live generation is another model's.
            Unavailable: Qdrant does not answer.
        """
        self._again = partial(self.open, model, dimension, provider=provider)
        async with self._opening:
            self._opened_at = monotonic()
            await self._check_server()
            live = await self.generations.live() or await self._first(model, dimension, provider)
            if not live.fits(model, dimension):
                raise ConfigError(mismatch_message(live, model, dimension))
            await self.generations.ensure_indexes(live)
            self._live = live
            return live

    async def attach(self) -> Generation:
        """Follow the live generation whatever its model: for a role that embeds nothing.

        Raises: ConfigError if Qdrant is too old; Unavailable if it does not answer, or no
        embedding role has made a generation yet. Later calls attach by themselves.
        """
        self._again = self.attach
        self._follows = True
        async with self._opening:
            self._opened_at = monotonic()
            await self._check_server()
            live = await self.generations.live()
            if live is None:
                raise Unavailable(STORE, "no generation has been made yet")
            self._live, self._followed_at = live, monotonic()
            return live

    @property
    def live(self) -> Generation | None:
        """The generation that this process reads and writes; None until it is opened."""
        return self._live

    def use(self, generation: Generation) -> None:
        """Read and write `generation` from now on; its model must be loaded."""
        self._live = generation
        self._again = partial(
            self.open, generation.model, generation.dimension, provider=generation.provider
        )

    async def close(self) -> None:
        await self._client.close()

    async def search(
        self, tenant: str, queries: Sequence[VectorQuery], *, generation: Generation | None = None
    ) -> list[list[Hit]]:
        """The hits of each query, best first, in one call; none for an empty word query."""
        asked_for = {at: query for at, query in enumerate(queries) if not filters.is_empty(query)}
        found: list[list[Hit]] = [[] for _ in queries]
        requests = [filters.request_of(tenant, query) for query in asked_for.values()]
        if requests:
            answers = await self._query("search", requests, generation)
            for at, hits in zip(asked_for, answers, strict=True):
                found[at] = hits
        return found

    async def neighbours(
        self, tenant: str, ids: Sequence[str], *, limit: int, threshold: float
    ) -> dict[str, list[Hit]]:
        """The nearest other memories of each of `ids` at cosine `threshold` or more, best first.

        Two calls, however many ids; an id without a point is missing in the answer.
        """
        # What is related by a generation that serves no more would stay so: look now.
        generation = await self._current(trusted_s=0.0)
        # Asking by id would fail the whole batch for one id that is not there.
        stored = await self.stored(tenant, ids, with_dense=True, generation=generation)
        known = [(key, point.dense) for key, point in stored.items() if point.dense is not None]
        if not known:
            return {}
        requests = [
            models.QueryRequest(
                query=dense.tolist(),
                using=DENSE,
                filter=filters.others(tenant, key),
                score_threshold=threshold,
                limit=limit,
                with_payload=filters.naming(tenant),
            )
            for key, dense in known
        ]
        answers = await self._query("neighbours", requests, generation)
        return {key: hits for (key, _), hits in zip(known, answers, strict=True)}

    async def upsert(
        self, tenant: str, points: Sequence[Point], *, generation: Generation | None = None
    ) -> None:
        """Write each point unless a newer payload_version of it is stored; one call.

        Of an id given twice the newest counts. Which were refused is not told: what is
        stored is then newer. A point that is not there is written whatever its version.
        """
        if not points:
            return
        latest = _latest(tenant, points)
        await self._ask(
            "upsert",
            lambda collection: self._client.upsert(
                collection,
                [struct_of(point) for point in latest],
                update_filter=filters.newest_wins(tenant, latest),
            ),
            generation,
        )
        POINTS_WRITTEN.labels(kind="vector").inc(len(latest))

    async def write_payload(
        self, tenant: str, points: Sequence[Point], *, generation: Generation | None = None
    ) -> None:
        """Replace the payload of stored points of the same text_hash, as `upsert` guards it.

        One call. A point that is absent, or of another text, stays as it is.
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
        await self._ask(
            "write_payload",
            lambda collection: self._client.batch_update_points(collection, operations),
            generation,
        )
        POINTS_WRITTEN.labels(kind="payload").inc(len(latest))

    async def delete(
        self, tenant: str, ids: Sequence[str], *, generation: Generation | None = None
    ) -> None:
        """Delete the tenant's points of `ids`; absent ones are no error."""
        if not ids:
            return
        selector = models.FilterSelector(filter=filters.owned(tenant, ids))
        await self._ask(
            "delete", lambda collection: self._client.delete(collection, selector), generation
        )
        POINTS_WRITTEN.labels(kind="deleted").inc(len(ids))

    async def delete_seen(
        self, tenant: str, seen: Sequence[StoredPoint], *, generation: Generation | None = None
    ) -> None:
        """Delete the tenant's points unless a newer payload_version was stored since; one call."""
        if not seen:
            return
        selector = models.FilterSelector(filter=filters.as_seen(tenant, seen))
        await self._ask(
            "delete", lambda collection: self._client.delete(collection, selector), generation
        )
        POINTS_WRITTEN.labels(kind="deleted").inc(len(seen))

    async def stored(
        self,
        tenant: str,
        ids: Sequence[str],
        *,
        with_dense: bool = False,
        generation: Generation | None = None,
    ) -> dict[str, StoredPoint]:
        """What is stored of `ids`, by id; the payload has every key."""
        if not ids:
            return {}
        asked_for = {point_id(tenant, each): each for each in ids}
        records = await self._ask(
            "stored",
            lambda collection: self._client.retrieve(
                collection,
                [filters.parsed(each) for each in asked_for],
                with_payload=True,
                with_vectors=[DENSE] if with_dense else False,
            ),
            generation,
        )
        found = [stored_of(record) for record in records if _is_of(tenant, record)]
        return {asked_for.get(point.point_id, point.id): point for point in found}

    async def scroll(
        self, tenant: str, *, page: int = 1000, generation: Generation | None = None
    ) -> AsyncIterator[list[StoredPoint]]:
        """Every point of the tenant in pages, by its own id: payloads without vectors."""
        offset: Any = None
        generation = generation or await self._current()  # one for all pages
        wanted = models.Filter(must=[filters.tenant_is(tenant)])
        while True:
            records, offset = await self._ask(
                "scroll", partial(self._page, wanted=wanted, page=page, offset=offset), generation
            )
            if records:
                yield [stored_of(record) for record in records]
            if offset is None:
                return

    async def count(self, tenant: str, *, generation: Generation | None = None) -> int:
        wanted = models.Filter(must=[filters.tenant_is(tenant)])
        answer = await self._ask(
            "count",
            lambda collection: self._client.count(collection, wanted, exact=True),
            generation,
        )
        return answer.count

    async def ping(self) -> None:
        """Raises: Unavailable if Qdrant does not answer within a second."""
        await asked("ping", self._client.info(), _PING_TIMEOUT_S)

    async def _page(
        self, collection: str, *, wanted: models.Filter, page: int, offset: Any
    ) -> tuple[list[models.Record], Any]:
        return await self._client.scroll(
            collection,
            scroll_filter=wanted,
            limit=page,
            offset=offset,
            with_payload=_STATE_KEYS,
            with_vectors=False,
        )

    async def _query(
        self, operation: str, requests: list[models.QueryRequest], generation: Generation | None
    ) -> list[list[Hit]]:
        # One layer below `query_batch_points`, which deep-copies every query in search of
        # texts to embed: 0.4 of the 1.9 ms of CPU that three queries cost here.
        batch = models.QueryRequestBatch(searches=requests)
        answer = await self._ask(
            operation,
            lambda collection: self._client.http.search_api.query_batch_points(
                collection_name=collection, query_request_batch=batch
            ),
            generation,
        )
        return [filters.hits_of(each.points) for each in answer.result or []]

    async def _ask(
        self,
        operation: str,
        call: Callable[[str], Awaitable[_T]],
        generation: Generation | None = None,
    ) -> _T:
        """`call` on that collection; if the live one is gone, the next call opens again."""
        asked_of = generation or await self._current()
        try:
            return await asked(operation, call(asked_of.collection), self._timeout_s)
        except NotFound as error:
            if asked_of == self._live:
                self._live = None
            raise Unavailable(STORE, f"{asked_of.collection} is gone") from error

    async def _current(self, *, trusted_s: float = FOLLOW_EVERY_S) -> Generation:
        """The live generation; who follows has looked at the alias within `trusted_s`."""
        live = self._live or await self._reopened()
        if self._follows and monotonic() - self._followed_at >= trusted_s:
            began = monotonic()
            if (await self.generations.names()).live != live.collection:
                live = self._live = await self._reopened(at_once=True)
            self._followed_at = began
        return live

    async def _reopened(self, *, at_once: bool = False) -> Generation:
        waited = at_once or monotonic() - self._opened_at >= _REOPEN_EVERY_S
        if self._again is None or not waited:
            raise Unavailable(STORE, "no generation is open")
        try:
            return await self._again()
        except ConfigError as error:  # told at start otherwise; here it must not end a request
            raise Unavailable(STORE, str(error)) from error

    async def _first(self, model: str, dimension: int, provider: str) -> Generation:
        """Make generation 1, unless another process's came first: then that one is live."""
        made = await self.generations.create(model, dimension, serial=1, provider=provider)
        live = await self.generations.live()
        if live is None:
            await self.generations.activate(made)
            live = await self.generations.live()
        return live or made

    async def _check_server(self) -> None:
        told = await asked("info", self._client.info(), self._timeout_s)
        numbers = tuple(int(each) for each in re.findall(r"\d+", told.version)[:2])
        if numbers < _OLDEST_SERVER:
            raise ConfigError(
                f"QDRANT_URL: Qdrant {told.version} is too old; conditional writes need 1.17"
            )


def _latest(tenant: str, points: Sequence[Point]) -> list[Point]:
    """Each id once, at its highest payload_version. Raises: ValueError for another tenant's."""
    latest: dict[str, Point] = {}
    for point in points:
        if point.payload.get("tenant") != tenant:
            raise ValueError("a point of another tenant")
        known = latest.get(point.id)
        if known is None or known.payload_version <= point.payload_version:
            latest[point.id] = point
    return list(latest.values())


def _is_of(tenant: str, record: models.Record) -> bool:
    return bool(record.payload) and (record.payload or {}).get("tenant") == tenant
