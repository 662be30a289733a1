"""Switch: fill another generation while recall serves the live one, then let it serve.

What is done is told by the stores alone: a point that is there at its memory's version is
filled, whoever filled it. So a run that was killed, or a generation that served before, is
brought up by the same passes, and only what is missing is embedded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from services.syncer.reembedding.forced_jobs import ForcedJobs
from services.syncer.runs import Progress
from shared.domain.memory import Memory
from shared.errors import Conflict, PermanentError
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.telemetry.log import get_logger
from shared.vectors import Generation, StoredPoint, VectorQuery, VectorStore
from shared.vectors.active_model import REFRESH_EVERY_S

log = get_logger(__name__)

FILLING, SETTLING = "filling", "settling"
# More would delay what is written meanwhile: its jobs queue behind a page of these.
_PAGE = 128
_SEEN_AFTER_S = 2.5 * REFRESH_EVERY_S
_MOST_PASSES = 20
_REFUSED_RATIO = 0.05
_REFUSED_ANYWAY = 10
_SAMPLE = 16
_LIKE_ITSELF = 0.99
_COUNT_TRIES = 20
_COUNT_EVERY_S = 0.5

Lacks: TypeAlias = Callable[[Memory, StoredPoint | None], bool]


class Switch:
    """One run's way from the live generation to `target`; safe to begin again anywhere."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        outbox: Outbox,
        *,
        run: Run,
        progress: Progress,
        target: Generation,
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._generations = vectors.generations
        self._outbox = outbox
        self._run_id = run.id
        self._progress = progress
        self._target = target
        self._failed: dict[str, set[str]] = {}

    async def __call__(self) -> list[str]:
        """Bring it about; the ids that the target's model refused.

        Raises: Conflict if another run took its place, PermanentError if what was filled
        does not prove right; RunLost.
        """
        if "total" not in self._progress.noted:
            await self._progress.note(total=await self._total(), processed=0)
        if (await self._generations.names()).live != self._target.collection:
            await self._begin()
            await self._passes(_unfilled)
            await self._verify()
            await self._generations.activate(self._target)
        if self._progress.noted.get("phase") != SETTLING:
            await self._enter(SETTLING)
        # Until every process has noticed, some write to the generation before.
        await asyncio.sleep(_SEEN_AFTER_S)
        await self._passes(_unsettled)
        await self._mark_failed()
        return sorted(key for keys in self._failed.values() for key in keys)

    async def _begin(self) -> None:
        if self._progress.noted.get("phase") == FILLING:
            await self._still_mine()
            return
        await self._generations.fill(self._target)
        await self._enter(FILLING)
        await asyncio.sleep(_SEEN_AFTER_S)

    async def _total(self) -> int:
        counts = [await self._graph.memories.counts(each) for each in await self._graph.tenants()]
        return sum(each.memories for each in counts)

    async def _enter(self, phase: str) -> None:
        await self._progress.note(phase=phase, **{"pass": 0}, tenant="", cursor="")

    async def _still_mine(self) -> None:
        """Raises: Conflict if nobody writes to the target any more: no waiting would help."""
        names = await self._generations.names()
        if self._target.collection not in names:
            raise Conflict(
                f"{self._target.collection} is neither live nor filled any more: it was"
                " abandoned, or another run brought about another switch"
            )

    # -- passes ---------------------------------------------------------------------------

    async def _passes(self, lacks: Lacks) -> None:
        """Go over all memories until a whole pass finds nothing that nobody works on."""
        noted = self._progress.noted
        forced = ForcedJobs(self._outbox, self._progress, f"{self._run_id}/{noted['phase']}")
        for number in range(noted["pass"], _MOST_PASSES):
            whole = not noted["tenant"]  # else it goes on where another process left it
            self._failed, found = {}, 0
            for tenant in await self._graph.tenants():
                found += await self._tenant(tenant, lacks, forced)
            log.info("generation.pass", phase=noted["phase"], found=found, run_id=self._run_id)
            await self._progress.note(**{"pass": number + 1}, tenant="", cursor="")
            if whole and not found:
                return
        raise PermanentError(f"{self._target.collection} is behind after {_MOST_PASSES} passes")

    async def _tenant(self, tenant: str, lacks: Lacks, forced: ForcedJobs) -> int:
        """How many had to be asked for that nobody was working on."""
        noted, found = self._progress.noted, 0
        if tenant < (at := noted["tenant"]):
            return 0
        after = noted["cursor"] if tenant == at else ""
        while rows := await self._graph.sweeps.memories_page(tenant, after, _PAGE):
            found += await self._page(tenant, [row.memory for row in rows], lacks, forced)
            after = rows[-1].id
            first = noted["phase"] == FILLING and noted["pass"] == 0
            noted |= {"tenant": tenant, "cursor": after, "failed": self._refused()}
            noted["processed"] += len(rows) if first else 0
            await self._progress.alive()
        return found

    async def _page(
        self, tenant: str, memories: Sequence[Memory], lacks: Lacks, forced: ForcedJobs
    ) -> int:
        await self._still_mine()
        lacking = await self._lacking(tenant, memories, lacks)
        if not lacking:
            return 0
        await self._vectors.foreign.make_way(tenant, list(lacking), generation=self._target)
        versions = {key: each.payload_version for key, each in lacking.items()}
        dead = await forced(tenant, versions, partial(self._left, tenant, lacks))
        self._failed.setdefault(tenant, set()).update(dead)
        return sum(_embedded(lacking[key]) for key in lacking.keys() - dead)

    async def _lacking(
        self, tenant: str, memories: Sequence[Memory], lacks: Lacks
    ) -> dict[str, Memory]:
        ids = [memory.id for memory in memories]
        stored = await self._vectors.stored(tenant, ids, generation=self._target)
        return {each.id: each for each in memories if lacks(each, stored.get(each.id))}

    async def _left(self, tenant: str, lacks: Lacks, asked: Mapping[str, int]) -> set[str]:
        """Of what was asked for, what is neither gone nor up to the version asked for."""
        await self._still_mine()
        rows = await self._graph.sweeps.audited(tenant, asked)
        memories = [replace(rows[key].memory, payload_version=asked[key]) for key in rows]
        return set(await self._lacking(tenant, memories, lacks))

    # -- proof ----------------------------------------------------------------------------

    async def _verify(self) -> None:
        """Raises: PermanentError unless the target holds what the graph says, and finds it."""
        refused, total = self._refused(), self._progress.noted["total"]
        if refused > max(_REFUSED_ANYWAY, _REFUSED_RATIO * total):
            raise PermanentError(f"{self._target.model} refused {refused} of {total} memories")
        for tenant in await self._graph.tenants():
            await self._verify_count(tenant)
            await self._verify_sample(tenant)

    async def _verify_count(self, tenant: str) -> None:
        """Both stores are written meanwhile, so the counts may need a few looks to agree."""
        refused = len(self._failed.get(tenant, ()))
        # Not only where there are too many: one that is on its way would hide one too many.
        await self._delete_orphans(tenant)
        for _ in range(_COUNT_TRIES):
            counts = await self._graph.memories.counts(tenant)
            points = await self._vectors.count(tenant, generation=self._target)
            waiting = counts.lagging[Stage.EMBED]
            if counts.memories - refused - waiting <= points <= counts.memories:
                return
            if points > counts.memories:
                await self._delete_orphans(tenant)
            await self._progress.alive()
            await asyncio.sleep(_COUNT_EVERY_S)
        raise PermanentError(
            f"{self._target.collection} holds {points} points of a tenant with"
            f" {counts.memories} memories, {refused} of them refused"
        )

    async def _delete_orphans(self, tenant: str) -> None:
        """Delete points whose memory went, or moved, while this generation did not serve."""
        async for page in self._vectors.scroll(tenant, generation=self._target):
            # The point was seen first: a memory that is absent now has been deleted.
            present = await self._graph.sweeps.present(tenant, [point.id for point in page])
            gone = [p for p in page if p.id not in present or not p.stands_for(tenant)]
            await self._vectors.delete_seen(tenant, gone, generation=self._target)
            await self._progress.alive()

    async def _verify_sample(self, tenant: str) -> None:
        """Ask for points by their own vectors: each finds itself, or its very like."""
        target = self._target
        ids: list[str] = []
        async for page in self._vectors.scroll(tenant, page=_SAMPLE, generation=target):
            ids = [point.id for point in page]
            break
        stored = await self._vectors.stored(tenant, ids, with_dense=True, generation=target)
        queries = [
            VectorQuery("dense", point.dense, 1)
            for point in stored.values()
            if point.dense is not None
        ]
        answers = await self._vectors.search(tenant, queries, generation=target)
        lost = sum(not hits or hits[0].score < _LIKE_ITSELF for hits in answers)
        if lost or len(queries) < len(stored):
            raise PermanentError(
                f"{target.collection} does not find {lost} of {len(stored)} points that were"
                " asked for by their own vectors"
            )

    # -- what was refused -------------------------------------------------------------------

    def _refused(self) -> int:
        return sum(map(len, self._failed.values()))

    async def _mark_failed(self) -> None:
        """Show what the model that serves now refused where other failures are shown."""
        for tenant, ids in self._failed.items():
            due = await self._graph.work.requeue(tenant, Stage.EMBED, ids)
            rows = [(each.id, each.payload_version) for each in due]
            await self._graph.work.give_up(tenant, Stage.EMBED, rows)


def _unfilled(memory: Memory, point: StoredPoint | None) -> bool:
    """Whether its point is missing or older; the text of a point follows its version."""
    return point is None or point.payload_version < memory.payload_version


def _unsettled(memory: Memory, point: StoredPoint | None) -> bool:
    """Whether that, or its node still tells of the vector of the generation before."""
    return point is None or _unfilled(memory, point) or point.text_hash != memory.text_hash


def _embedded(memory: Memory) -> bool:
    return memory.embedded_version >= memory.payload_version
