"""What the stores of a stack hold, read past the product.

So a test never believes the code that it tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdrant_client import AsyncQdrantClient, models
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

if TYPE_CHECKING:
    from tests.support.stack.stack import Stack


_STATE = (
    "MATCH (m:Memory) RETURN count(m),"
    " sum(CASE WHEN m.enriched_version >= m.version AND m.enrich_due IS NULL THEN 1 ELSE 0 END),"
    " sum(CASE WHEN m.embedded_version >= m.payload_version AND m.embed_due IS NULL"
    " THEN 1 ELSE 0 END),"
    " sum(CASE WHEN m.related_version > 0 AND m.relate_due IS NULL THEN 1 ELSE 0 END)"
)


@dataclass(frozen=True, slots=True)
class State:
    """How many memories there are, and how many finished each stage."""

    memories: int
    enriched: int
    embedded: int
    related: int

    @property
    def done(self) -> bool:
        return self.memories == self.enriched == self.embedded == self.related


@dataclass(slots=True)
class StoreView:
    """One tenant's part of the stores, as a test reads it; opens a connection per call."""

    stack: Stack
    tenant: str
    _graph: str = field(init=False)

    def __post_init__(self) -> None:
        self._graph = "memories" if self.tenant == "default" else f"memories:{self.tenant}"

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(
            self.stack.redis_url,
            decode_responses=True,
            protocol=2,
            socket_timeout=limit_s(),
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def rows(self, cypher: str) -> list[list[Any]]:
        """The rows of a query; floats come as text, as FalkorDB's verbose form has them."""
        async with self.redis() as redis:
            answer: Any = await redis.execute_command(  # type: ignore[no-untyped-call]
                "GRAPH.QUERY", self._graph, cypher
            )
        return list(answer[1]) if len(answer) == 3 else []

    async def number(self, cypher: str) -> int:
        rows = await self.rows(cypher)
        return int(rows[0][0]) if rows else 0

    async def state(self) -> State:
        [row] = await self.rows(_STATE)
        return State(*(int(cell or 0) for cell in row))

    async def all_done(self, memories: int) -> None:
        """Wait until there are at least `memories`, each enriched, embedded and related.

        However many there are: it fails only when nothing has changed for the limit of a wait.
        """
        seen: State | None = None

        def done() -> bool:
            return seen is not None and seen.done and seen.memories >= memories

        async def changed() -> bool:
            nonlocal seen
            before = seen
            try:
                seen = await self.state()
            except RedisError:  # killed, or loading what it kept
                return False
            return seen != before or done()

        while not done():
            try:
                await wait_until(changed, "another memory is enriched, embedded or related")
            except AssertionError as error:
                raise AssertionError(f"{error}; {seen}\n{self.stack.log_tail()}") from None

    async def points(self, *, vectors: bool = False) -> dict[str, models.Record]:
        """Every point of the tenant, by its memory's id."""
        client = AsyncQdrantClient(
            url=self.stack.qdrant_url, check_compatibility=False, timeout=int(limit_s())
        )
        wanted = models.Filter(
            must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=self.tenant))]
        )
        found: dict[str, models.Record] = {}
        offset: Any = None
        try:
            while True:
                page, offset = await client.scroll(
                    "memories",
                    scroll_filter=wanted,
                    limit=500,
                    offset=offset,
                    with_payload=True,
                    with_vectors=["dense"] if vectors else False,
                )
                found |= {(each.payload or {})["memory_id"]: each for each in page}
                if offset is None:
                    return found
        finally:
            await client.close()

    async def duplicates(self) -> list[str]:
        """One sentence per thing that exists twice: nodes, edges, tags."""
        found = []
        for label, key in (("Memory", "id"), ("Entity", "id"), ("Fence", "name"), ("Run", "id")):
            twice = await self.rows(
                f"MATCH (n:{label}) WITH n.{key} AS k, count(n) AS c WHERE c > 1 RETURN k, c"
            )
            found += [f"{label} {key} {row[0]}: {row[1]} nodes" for row in twice]
        twice = await self.rows(
            "MATCH (a)-[r]->(b) WITH ID(a) AS x, ID(b) AS y, type(r) AS t, count(r) AS c"
            " WHERE c > 1 RETURN t, c, x, y"
        )
        found += [f"{row[1]} edges {row[0]} from {row[2]} to {row[3]}" for row in twice]
        for memory_id, tags in await self._tags():
            if len(tags) != len(set(tags)):
                found.append(f"tags of {memory_id}: {tags}")
        return found

    async def _tags(self) -> list[tuple[str, list[str]]]:
        rows = await self.rows("MATCH (m:Memory) RETURN m.id, m.tags, m.entity_tags, m.tag_keys")
        found = []
        for memory_id, *lists in rows:
            found += [(memory_id, list_of(each)) for each in lists if each]
        return found

    async def one_sided(self) -> int:
        """SIMILAR_TO edges that lack their other direction."""
        return await self.number(
            "MATCH (a:Memory)-[r:SIMILAR_TO]->(b:Memory) WHERE NOT (b)-[:SIMILAR_TO]->(a)"
            " RETURN count(r)"
        )

    async def work(self) -> dict[str, int]:
        """Return the number of jobs per stage, deferred ones included."""
        found = {}
        async with self.redis() as redis:
            for stage in ("enrich", "embed", "relate"):
                found[stage] = await redis.xlen(f"eunoe:{{{stage}}}:jobs")
                found[stage] += await redis.zcard(f"eunoe:{{{stage}}}:delayed")
        return found


def list_of(cell: Any) -> list[str]:
    """A list of the verbose form, which writes it as text: `[a, b]`."""
    if isinstance(cell, list):
        return [str(each) for each in cell]
    text = str(cell).removeprefix("[").removesuffix("]")
    return text.split(", ") if text else []
