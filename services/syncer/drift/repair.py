"""Drift: whether graph and vectors agree, and what makes them agree again (I10).

One pass over a tenant: first its points (which have no memory any more?), then its memories
(whose point is missing or wrong?), both in pages, so that memory use and the number of
repairs under way do not grow with the tenant. The graph is right: repairs make a memory due
for embedding and publish its job; only points without a memory are deleted here.

What is about to be done is noted before it is done. Whoever goes on in the middle finishes
that first, so an interrupted repair ends as an undisturbed one, in its counts, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from services.syncer.drift.findings import DRIFT, Audit, Finding, finding_of, sample, unwritable
from services.syncer.drift.gauges import DriftGauges
from services.syncer.runs import Progress
from shared.domain.tenant import DEFAULT_TENANT
from shared.errors import Conflict, TransientError
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run
from shared.graph.upkeep.sweeps import Audited
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Published
from shared.telemetry import metrics
from shared.vectors import Generation, StoredPoint, VectorStore

TASK = "drift"
_PAGE = 500
_FIRST_POLL_S, _LONGEST_POLL_S = 0.05, 0.5

# Which of these orphans, by their points' ids, may be deleted now.
MayGo = Callable[[Sequence[str]], Awaitable[set[str]]]


class Beat(Protocol):
    """Note the audit; at most once a second unless `at_once`. Raises what ends the pass."""

    async def __call__(self, audit: Audit, *, at_once: bool = False) -> None: ...


async def all_go(point_ids: Sequence[str]) -> set[str]:
    return set(point_ids)


async def none_goes(_point_ids: Sequence[str]) -> set[str]:
    return set()


class Drift:
    """Audits and repairs one tenant at a time against the live generation.

    `wait_s`: a repair of which nothing was embedded for so long has failed for now.
    """

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        outbox: Outbox,
        *,
        excluded_types: frozenset[str],
        wait_s: float,
        page: int = _PAGE,
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._outbox = outbox
        self._excluded = excluded_types
        self._wait_s = wait_s
        self._page = page

    async def __call__(
        self,
        tenant: str,
        audit: Audit,
        beat: Beat,
        *,
        repair: bool,
        may_go: MayGo,
        page: int | None = None,
    ) -> None:
        """Go over the tenant from where `audit` is; fills it. At most `page` memories at once
        are repaired.

        Raises: TransientError when no embedder works: call again with the same audit;
        Conflict when the live generation was switched: begin a new one. What `beat` raises.
        """
        live = await self._vectors.attach()
        audit.generation = audit.generation or live.collection
        _demand_same(audit, live)
        if not audit.points_through:
            await self._points(tenant, live, audit, beat, may_go)
        if audit.repairing:
            await self._repair(tenant, live, audit, beat)
        size = min(page or self._page, self._page)
        await self._memories(tenant, live, audit, beat, repair=repair, size=size)

    async def _points(
        self, tenant: str, live: Generation, audit: Audit, beat: Beat, may_go: MayGo
    ) -> None:
        """Find the points without a memory. Begins anew: what is gone stays counted."""
        audit.orphans_deleted += len(audit.deleting)
        await self._drop(tenant, await self._vectors.foreign.under(audit.deleting))
        audit.deleting = []
        audit.qdrant_count = audit.orphaned_count = audit.processed = audit.orphans_deleted
        memories = await self._graph.sweeps.count(tenant)
        points = await self._vectors.count(tenant, generation=live)
        audit.total = audit.processed + memories + points
        async for page in self._pages(tenant, live):
            await self._points_of(tenant, page, audit, beat, may_go)
        audit.points_through = True
        await beat(audit, at_once=True)

    async def _pages(self, tenant: str, live: Generation) -> AsyncIterator[list[StoredPoint]]:
        """The tenant's points; with the default tenant's those of nobody, whom nobody else has."""
        async for page in self._vectors.scroll(tenant, page=self._page, generation=live):
            yield page
        if tenant != DEFAULT_TENANT:
            return
        known = await self._graph.tenants()
        strays = self._vectors.foreign.scroll(known, page=self._page, generation=live)
        async for page in strays:
            # A tenant's graph is there before its points: asked now, it tells.
            now = await self._graph.tenants()
            yield [point for point in page if point.payload.get("tenant") not in now]

    async def _points_of(
        self, tenant: str, page: Sequence[StoredPoint], audit: Audit, beat: Beat, may_go: MayGo
    ) -> None:
        orphans = await self._orphans(tenant, page)
        audit.processed += len(page)
        audit.qdrant_count += sum(point.payload.get("type") not in self._excluded for point in page)
        audit.orphaned_count += len(orphans)
        sample(audit.orphaned_sample, (point.id for point in orphans))
        going = await may_go([point.point_id for point in orphans])
        if going:
            audit.deleting = sorted(going)
            await beat(audit, at_once=True)
            gone = await self._drop(tenant, [each for each in orphans if each.point_id in going])
            audit.orphans_deleted += gone
            metrics.DRIFT_REPAIRED.labels(outcome="deleted").inc(gone)
            audit.deleting = []
        await beat(audit)

    async def _orphans(self, tenant: str, points: Sequence[StoredPoint]) -> list[StoredPoint]:
        """Those without a memory, or whose memory has its point elsewhere."""
        present = await self._graph.sweeps.present(tenant, [point.id for point in points])
        return [each for each in points if each.id not in present or not each.stands_for(tenant)]

    async def _drop(self, tenant: str, points: Sequence[StoredPoint]) -> int:
        """Delete points as they were seen, if the graph says again that there is no memory;
        how many those are."""
        gone = await self._orphans(tenant, points)
        strays = [each.point_id for each in gone if each.payload.get("tenant") != tenant]
        mine = [each for each in gone if each.point_id not in strays]
        await self._vectors.delete_seen(tenant, mine)
        if strays:
            await self._vectors.foreign.delete(await self._graph.tenants(), strays)
        return len(gone)

    async def _memories(
        self, tenant: str, live: Generation, audit: Audit, beat: Beat, *, repair: bool, size: int
    ) -> None:
        while page := await self._graph.sweeps.memories_page(tenant, audit.after, size):
            rows = [row for row in page if row.memory.type not in self._excluded]
            found = await self._findings(tenant, live, rows)
            audit.count_memories(found)
            audit.after = page[-1].id
            audit.processed += len(page)
            if repair and (wrong := _drifted(found)):
                audit.repairing = wrong
                await beat(audit, at_once=True)
                await self._repair(tenant, live, audit, beat)
            await beat(audit)

    async def _findings(
        self, tenant: str, live: Generation, rows: Sequence[Audited]
    ) -> dict[str, Finding]:
        """Compare; a memory that was changed while its point was read is pending, one that
        was deleted is not among the answers."""
        ids = [row.id for row in rows]
        stored = await self._vectors.stored(tenant, ids, generation=live)
        found = {row.id: finding_of(tenant, row, stored.get(row.id), live.model) for row in rows}
        wrong = set(_drifted(found))
        again = await self._graph.sweeps.audited(tenant, wrong) if wrong else {}
        for row in rows:
            if row.id in wrong and again.get(row.id) != row:
                found[row.id] = Finding.PENDING
                if row.id not in again:
                    del found[row.id]
        return found

    async def _repair(self, tenant: str, live: Generation, audit: Audit, beat: Beat) -> None:
        """Bring `audit.repairing` about, and count what came of it."""
        ids = audit.repairing
        await self._requeue(tenant, live, ids)
        await self._embedded(tenant, audit, beat)
        _demand_same(audit, await self._vectors.generations.live())
        rows = (await self._graph.sweeps.audited(tenant, ids)).values()
        found = await self._findings(tenant, live, list(rows))
        failed = DRIFT | {Finding.GIVEN_UP}
        wrong = [key for key, each in found.items() if each in failed]
        metrics.DRIFT_REPAIRED.labels(outcome="failed").inc(len(wrong))
        metrics.DRIFT_REPAIRED.labels(outcome="synced").inc(len(ids) - len(wrong))
        audit.count_repaired(wrong)
        await beat(audit, at_once=True)

    async def _requeue(self, tenant: str, live: Generation, ids: Sequence[str]) -> None:
        """Make those due that still differ; twice is harmless."""
        # The points first: what the graph says later can only be newer than they are.
        stored = await self._vectors.stored(tenant, ids, generation=live)
        rows = await self._graph.sweeps.audited(tenant, ids)
        found = {
            key: finding_of(tenant, row, stored.get(key), live.model) for key, row in rows.items()
        }
        wrong = _drifted(found)
        kept = [stored[key] for key in wrong if unwritable(rows[key], stored.get(key))]
        await self._vectors.delete_seen(tenant, kept)
        missing = [key for key in wrong if found[key] is Finding.MISSING]
        await self._vectors.foreign.make_way(tenant, missing, generation=live)
        due = await self._graph.work.requeue(tenant, Stage.EMBED, wrong)
        jobs = [Job(tenant, each.id, each.payload_version) for each in due]
        answers = (await self._outbox.announce({Stage.EMBED: jobs}, exempt=True)).get(Stage.EMBED)
        dead = [
            (job.memory_id, job.version)
            for job, answer in zip(jobs, answers or (), strict=False)
            if answer is Published.DEAD
        ]
        await self._graph.work.give_up(tenant, Stage.EMBED, dead)

    async def _embedded(self, tenant: str, audit: Audit, beat: Beat) -> None:
        """Return once none of `audit.repairing` is waited for, embedded or given up.

        One that is changed meanwhile is somebody else's work from then on.
        """
        waiting = await self._graph.sweeps.unembedded(tenant, audit.repairing)
        moved_at, poll_s = time.monotonic(), _FIRST_POLL_S
        while waiting:
            await asyncio.sleep(poll_s)
            poll_s = min(_LONGEST_POLL_S, poll_s * 2)
            await beat(audit)
            now = await self._graph.sweeps.unembedded(tenant, list(waiting))
            left = {key: version for key, version in waiting.items() if now.get(key) == version}
            if len(left) < len(waiting):
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > self._wait_s:
                raise TransientError(
                    f"{len(left)} memories wait for an embedder, and none came through"
                    f" for {self._wait_s:.0f} s"
                )
            waiting = left


def _demand_same(audit: Audit, live: Generation | None) -> None:
    if live is None or live.collection != audit.generation:
        raise Conflict("the live generation was switched during the run: ask for another one")


def _drifted(found: Mapping[str, Finding]) -> list[str]:
    return [key for key, each in found.items() if each in DRIFT]


class DriftTask:
    """The task `drift` of a Run: `dry_run`, `repair` (true), `delete_orphans` (false) and
    `batch_size`, the most that is repaired at once."""

    def __init__(self, drift: Drift, shown: DriftGauges) -> None:
        self._drift = drift
        self._shown = shown

    async def __call__(self, tenant: str, run: Run, progress: Progress) -> Mapping[str, Any]:
        dry = run.dry_run or bool(run.request.get("dry_run"))
        repair = not dry and bool(run.request.get("repair", True))
        delete = not dry and bool(run.request.get("delete_orphans"))
        audit = Audit.resumed(progress.noted)

        async def beat(audit: Audit, *, at_once: bool = False) -> None:
            await (progress.note if at_once else progress.alive)(**audit.noted())

        may_go = all_go if delete else none_goes
        page = run.request.get("batch_size")
        await self._drift(tenant, audit, beat, repair=repair, may_go=may_go, page=page)
        progress.noted |= audit.noted()
        self._shown.left(tenant, audit, repaired=repair)
        if not (repair or delete):
            return audit.result("dry_run")
        done = audit.drifted or audit.orphans_deleted
        return audit.result("complete" if done else "already_synced")
