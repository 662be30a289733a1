"""Fill another generation while recall uses the live one, then make it the live one.

A memory is done when the target stores its point at the memory's version, whichever process
wrote that point. So the same passes complete a run that was killed, or a generation that was live
before, and they embed only the memories that lack such a point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.syncer.reembedding.forced_jobs import ForcedJobs
from services.syncer.runs import Progress
from shared.domain.memory import Memory
from shared.errors import Conflict, PermanentError
from shared.graph.store import GraphStore
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.telemetry.log import get_logger
from shared.vectors import Generation, StoredPoint, VectorQuery, VectorStore
from shared.vectors.active_model import REFRESH_EVERY_S

log = get_logger(__name__)

FILLING, SETTLING = "filling", "settling"
# A larger page would delay ordinary jobs, which wait behind the jobs of the page.
_PAGE = 128
_SEEN_AFTER_S = 2.5 * REFRESH_EVERY_S
_MOST_PASSES = 20
# The target's model may refuse ten memories, or a twentieth of all if that is more.
_REFUSED_RATIO = 0.05
_REFUSED_ANYWAY = 10
_SAMPLE = 16
_SELF_SCORE = 0.99
_COUNT_TRIES = 20
_COUNT_EVERY_S = 0.5


@dataclass(slots=True)
class Switch:
    """One run's switch from the live generation to `target`; any step may be done again."""

    graph: GraphStore
    vectors: VectorStore
    outbox: Outbox
    progress: Progress
    target: Generation
    # The ids that the target's model refused, by tenant.
    _refused: dict[str, set[str]] = field(default_factory=dict, init=False)

    async def __call__(self) -> list[str]:
        """Fill the target, prove it, and make it live; return the ids that its model refused.

        Raises: Conflict if another run took its place, PermanentError if the target is not
        complete; RunLost.
        """
        if "total" not in self.progress.state:
            tenants = await self.graph.tenants()
            counts = [await self.graph.memories.counts(tenant) for tenant in tenants]
            await self.progress.write(total=sum(each.memories for each in counts), processed=0)
        if (await self.vectors.generations.names()).live != self.target.collection:
            await self._begin_filling()
            await self._run_passes()
            await self._verify()
            await self.vectors.generations.activate(self.target)
        if self.progress.state.get("phase") != SETTLING:
            await self._enter(SETTLING)
        # Until every process has noticed the switch, some still write to the previous generation.
        await asyncio.sleep(_SEEN_AFTER_S)
        await self._run_passes()
        # What the new live model refused is given up, as any failed embedding.
        for tenant, ids in self._refused.items():
            due = await self.graph.work.requeue(tenant, Stage.EMBED, ids)
            rows = [(each.id, each.payload_version) for each in due]
            await self.graph.work.give_up(tenant, Stage.EMBED, rows)
        return sorted(key for keys in self._refused.values() for key in keys)

    async def _begin_filling(self) -> None:
        if self.progress.state.get("phase") == FILLING:
            await self._check_target()
            return
        await self.vectors.generations.fill(self.target)
        await self._enter(FILLING)
        await asyncio.sleep(_SEEN_AFTER_S)

    async def _enter(self, phase: str) -> None:
        await self.progress.write(phase=phase, **{"pass": 0}, tenant="", cursor="")

    async def _check_target(self) -> None:
        """Raises: Conflict if no process writes to the target any more, so waiting cannot help."""
        if self.target.collection not in await self.vectors.generations.names():
            raise Conflict(
                f"{self.target.collection} is neither live nor filled any more: it was"
                " abandoned, or another run switched to another generation"
            )

    async def _run_passes(self) -> None:
        """Read all memories again and again, until one whole pass finds nothing to embed.

        A memory whose ordinary job is still waiting does not count: that job writes its point.

        Raises: PermanentError after too many passes, Conflict, RunLost.
        """
        state, run_id = self.progress.state, self.progress.run.id
        name = f"{run_id}/{state['phase']}"
        forced = ForcedJobs(self.outbox, self.progress, name, self._unfinished)
        for number in range(state["pass"], _MOST_PASSES):
            whole = not state["tenant"]  # Else the pass goes on where another process left it.
            self._refused, found = {}, 0
            for tenant in await self.graph.tenants():
                found += await self._fill_tenant(tenant, forced)
            log.info("generation.pass", phase=state["phase"], found=found, run_id=run_id)
            await self.progress.write(**{"pass": number + 1}, tenant="", cursor="")
            if whole and not found:
                return
        raise PermanentError(f"{self.target.collection} is behind after {_MOST_PASSES} passes")

    async def _fill_tenant(self, tenant: str, forced: ForcedJobs) -> int:
        """Embed what the tenant lacks; return how many memories had no ordinary job waiting."""
        state, found = self.progress.state, 0
        if tenant < (reached := state["tenant"]):
            return 0
        after = state["cursor"] if tenant == reached else ""
        while rows := await self.graph.sweeps.memories_page(tenant, after, _PAGE):
            found += await self._fill_page(tenant, [row.memory for row in rows], forced)
            after = rows[-1].id
            first_pass = state["phase"] == FILLING and state["pass"] == 0
            state |= {"tenant": tenant, "cursor": after, "failed": self._refused_count()}
            state["processed"] += len(rows) if first_pass else 0
            await self.progress.write_if_due()
        return found

    async def _fill_page(self, tenant: str, memories: Sequence[Memory], forced: ForcedJobs) -> int:
        await self._check_target()
        lacking = await self._lacking(tenant, memories)
        if not lacking:
            return 0
        await self.vectors.make_way(tenant, list(lacking), generation=self.target)
        versions = {key: each.payload_version for key, each in lacking.items()}
        refused = await forced(tenant, versions)
        self._refused.setdefault(tenant, set()).update(refused)
        filled = (lacking[key] for key in lacking.keys() - refused)
        return sum(each.embedded_version >= each.payload_version for each in filled)

    async def _lacking(self, tenant: str, memories: Sequence[Memory]) -> dict[str, Memory]:
        ids = [memory.id for memory in memories]
        stored = await self.vectors.stored(tenant, ids, generation=self.target)
        return {each.id: each for each in memories if self._lacks(each, stored.get(each.id))}

    def _lacks(self, memory: Memory, point: StoredPoint | None) -> bool:
        """Return whether the memory's point is missing, or of an older version of the memory.

        Once the target is live, a memory also lacks its point while its node still has the text
        hash of the previous generation.
        """
        if point is None or point.payload_version < memory.payload_version:
            return True
        return self.progress.state["phase"] == SETTLING and point.text_hash != memory.text_hash

    async def _unfinished(self, tenant: str, versions: Mapping[str, int]) -> set[str]:
        """Return which of these memories still exist and lack their point at that version."""
        await self._check_target()
        rows = await self.graph.sweeps.audited(tenant, versions)
        memories = [replace(rows[key].memory, payload_version=versions[key]) for key in rows]
        return set(await self._lacking(tenant, memories))

    async def _verify(self) -> None:
        """Raises: PermanentError unless the target has a point per memory, and searches find it."""
        refused, total = self._refused_count(), self.progress.state["total"]
        if refused > max(_REFUSED_ANYWAY, _REFUSED_RATIO * total):
            raise PermanentError(f"{self.target.model} refused {refused} of {total} memories")
        for tenant in await self.graph.tenants():
            await self._verify_count(tenant)
            await self._verify_sample(tenant)

    async def _verify_count(self, tenant: str) -> None:
        """Compare the counts again and again, because both stores are written meanwhile."""
        refused = len(self._refused.get(tenant, ()))
        # Even if the counts agree: an orphan and a point that is not yet written cancel out.
        await self._delete_orphans(tenant)
        for _ in range(_COUNT_TRIES):
            counts = await self.graph.memories.counts(tenant)
            points = await self.vectors.count(tenant, generation=self.target)
            waiting = counts.lagging[Stage.EMBED]
            if counts.memories - refused - waiting <= points <= counts.memories:
                return
            if points > counts.memories:
                await self._delete_orphans(tenant)
            await self.progress.write_if_due()
            await asyncio.sleep(_COUNT_EVERY_S)
        raise PermanentError(
            f"{self.target.collection} holds {points} points of a tenant with"
            f" {counts.memories} memories, {refused} of them refused"
        )

    async def _delete_orphans(self, tenant: str) -> None:
        """Delete points whose memory was deleted or moved while this generation was not live."""
        async for page in self.vectors.scroll(tenant, generation=self.target):
            # The point was read before its memory is looked for, so an absent memory was deleted.
            present = await self.graph.sweeps.present(tenant, [point.id for point in page])
            orphans = [p for p in page if p.id not in present or not p.stands_for(tenant)]
            await self.vectors.delete_seen(tenant, orphans, generation=self.target)
            await self.progress.write_if_due()

    async def _verify_sample(self, tenant: str) -> None:
        """Raises: PermanentError unless points find themselves, or equals, by their vectors."""
        target = self.target
        pages = self.vectors.scroll(tenant, page=_SAMPLE, generation=target)
        ids = [point.id for point in await anext(pages, list[StoredPoint]())]
        stored = await self.vectors.stored(tenant, ids, with_dense=True, generation=target)
        known = [point.dense for point in stored.values() if point.dense is not None]
        queries = [VectorQuery("dense", dense, 1) for dense in known]
        answers = await self.vectors.search(tenant, queries, generation=target)
        lost = sum(not hits or hits[0].score < _SELF_SCORE for hits in answers)
        if lost or len(queries) < len(stored):
            raise PermanentError(
                f"{target.collection} does not find {lost} of {len(stored)} points that were"
                " searched for by their own vectors"
            )

    def _refused_count(self) -> int:
        return sum(map(len, self._refused.values()))
