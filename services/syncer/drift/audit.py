"""Compare a tenant's graph with its vectors, and make them agree again.

A pass over a tenant first finds the points that have no memory any more, then the memories whose
point is missing or wrong. Both are read in pages, so that memory use and the number of
repairs in progress do not grow with the tenant. The graph is the truth: repairs make a memory
due for embedding and publish its job; only points without a memory are deleted here.

A repair is written into the audit before it begins. A process that takes over in the middle
finishes that repair first, so an interrupted pass ends with the same stores and counts as one that
was not interrupted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from services.syncer.drift.findings import (
    DRIFT,
    Audit,
    DriftGauges,
    Finding,
    finding_of,
    sample,
    unwritable,
)
from services.syncer.runs import Progress
from shared.domain.tenant import DEFAULT_TENANT
from shared.errors import Conflict, TransientError
from shared.graph.store import GraphStore
from shared.graph.upkeep.sweeps import Audited
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Published
from shared.telemetry import metrics
from shared.vectors import Generation, StoredPoint, VectorStore
from shared.waiting import backoff_s

TASK = "drift"
_PAGE = 500
_FIRST_POLL_S, _LONGEST_POLL_S = 0.05, 0.5

# Takes the point ids of orphans; returns those that may be deleted now. None: none may.
Deletable = Callable[[Sequence[str]], Awaitable[set[str]]] | None


class SaveAudit(Protocol):
    """Writes the audit, at most once a second unless `at_once`; its errors end the pass."""

    async def __call__(self, *, at_once: bool = False) -> None: ...


async def all_deletable(point_ids: Sequence[str]) -> set[str]:
    return set(point_ids)


@dataclass(slots=True)
class _Compared:
    """Memories with their points as they were read, and each memory's finding."""

    memories: Mapping[str, Audited]
    points: Mapping[str, StoredPoint]
    findings: dict[str, Finding]

    @property
    def drifted(self) -> list[str]:
        return [key for key, finding in self.findings.items() if finding in DRIFT]


@dataclass(slots=True)
class Drift:
    """Audits and repairs one tenant at a time against the live generation.

    A repair fails with TransientError when none of its memories was embedded for `wait_s`.
    """

    graph: GraphStore
    vectors: VectorStore
    outbox: Outbox
    excluded_types: frozenset[str]
    wait_s: float
    page: int = _PAGE

    async def __call__(
        self,
        tenant: str,
        audit: Audit,
        save: SaveAudit,
        *,
        repair: bool,
        deletable: Deletable = None,
        page: int | None = None,
    ) -> None:
        """Audit the tenant from where `audit` is, and fill `audit`.

        At most `page` memories are repaired at once.

        Raises: TransientError when no embedder works: call again with the same audit;
        Conflict when the live generation was switched: begin a new audit; any error of `save`.
        """
        live = await self.vectors.live.attach()
        audit.generation = audit.generation or live.collection
        _check_generation(audit, live)
        if not audit.points_through:
            await self._audit_points(tenant, live, audit, save, deletable)
        if audit.repairing:
            rows = await self.graph.sweeps.audited(tenant, audit.repairing)
            compared = await self._compare(tenant, live, rows.values())
            await self._repair(tenant, live, audit, save, compared)
        size = min(page or self.page, self.page)
        while rows_page := await self.graph.sweeps.memories_page(tenant, audit.after, size):
            counted = (row for row in rows_page if row.memory.type not in self.excluded_types)
            compared = await self._compare(tenant, live, counted)
            audit.count_memories(compared.findings)
            audit.after = rows_page[-1].id
            audit.processed += len(rows_page)
            if repair and compared.drifted:
                audit.repairing = compared.drifted
                await save(at_once=True)
                await self._repair(tenant, live, audit, save, compared)
            await save()

    async def _audit_points(
        self, tenant: str, live: Generation, audit: Audit, save: SaveAudit, deletable: Deletable
    ) -> None:
        """Find the points without a memory, and delete those that are `deletable`.

        A process that takes over starts again at the first point, but keeps counting the points
        that were deleted before.
        """
        audit.orphans_deleted += len(audit.deleting)
        await self._delete(tenant, await self.vectors.under(audit.deleting))
        audit.deleting = []
        audit.qdrant_count = audit.orphaned_count = audit.processed = audit.orphans_deleted
        memories = await self.graph.sweeps.count(tenant)
        points = await self.vectors.count(tenant, generation=live)
        audit.total = audit.processed + memories + points
        async for page in self._point_pages(tenant, live):
            orphans = await self._orphans(tenant, page)
            audit.processed += len(page)
            types = [point.payload.get("type") for point in page]
            audit.qdrant_count += sum(kind not in self.excluded_types for kind in types)
            audit.orphaned_count += len(orphans)
            sample(audit.orphaned_sample, (point.id for point in orphans))
            point_ids = [point.point_id for point in orphans]
            if deletable and (chosen := await deletable(point_ids)):
                audit.deleting = sorted(chosen)
                await save(at_once=True)
                deleted = await self._delete(tenant, [p for p in orphans if p.point_id in chosen])
                audit.orphans_deleted += deleted
                metrics.DRIFT_REPAIRED.labels(outcome="deleted").inc(deleted)
                audit.deleting = []
            await save()
        audit.points_through = True
        await save(at_once=True)

    async def _point_pages(self, tenant: str, live: Generation) -> AsyncIterator[list[StoredPoint]]:
        """Yield the tenant's points; for the default tenant also those of unknown tenants."""
        async for page in self.vectors.scroll(tenant, page=self.page, generation=live):
            yield page
        if tenant != DEFAULT_TENANT:
            return
        known = await self.graph.tenants()
        async for page in self.vectors.scroll_foreign(known, page=self.page, generation=live):
            # A tenant has its graph before its points, so the list after the page is complete.
            tenants = await self.graph.tenants()
            yield [point for point in page if point.payload.get("tenant") not in tenants]

    async def _orphans(self, tenant: str, points: Sequence[StoredPoint]) -> list[StoredPoint]:
        """Return the points without a memory, or whose memory has its point under another id."""
        present = await self.graph.sweeps.present(tenant, [point.id for point in points])
        return [each for each in points if each.id not in present or not each.stands_for(tenant)]

    async def _delete(self, tenant: str, points: Sequence[StoredPoint]) -> int:
        """Delete points that still have no memory, unless rewritten; return how many have none."""
        orphans = await self._orphans(tenant, points)
        foreign = [each.point_id for each in orphans if each.payload.get("tenant") != tenant]
        own = [each for each in orphans if each.point_id not in foreign]
        await self.vectors.delete_seen(tenant, own)
        if foreign:
            await self.vectors.delete_foreign(await self.graph.tenants(), foreign)
        return len(orphans)

    async def _compare(self, tenant: str, live: Generation, rows: Iterable[Audited]) -> _Compared:
        """Compare memories with their points.

        A memory that was changed while its point was read is pending; one that was deleted is
        not among the findings.
        """
        memories = {row.id: row for row in rows}
        points = await self.vectors.stored(tenant, list(memories), generation=live)
        findings = {
            key: finding_of(tenant, row, points.get(key), live.model)
            for key, row in memories.items()
        }
        compared = _Compared(memories, points, findings)
        drifted = compared.drifted
        again = await self.graph.sweeps.audited(tenant, drifted)
        for key in drifted:
            if key not in again:
                del findings[key]
            elif again[key] != memories[key]:
                findings[key] = Finding.PENDING
        return compared

    async def _repair(
        self, tenant: str, live: Generation, audit: Audit, save: SaveAudit, compared: _Compared
    ) -> None:
        """Have `audit.repairing` embedded again, and count how many of them agree then."""
        ids = audit.repairing
        await self._requeue(tenant, live, compared)
        await self._wait_until_embedded(tenant, audit, save)
        _check_generation(audit, await self.vectors.generations.live())
        rows = await self.graph.sweeps.audited(tenant, ids)
        findings = (await self._compare(tenant, live, rows.values())).findings
        failed = [key for key, each in findings.items() if each in DRIFT | {Finding.GIVEN_UP}]
        metrics.DRIFT_REPAIRED.labels(outcome="failed").inc(len(failed))
        metrics.DRIFT_REPAIRED.labels(outcome="synced").inc(len(ids) - len(failed))
        audit.count_repaired(failed)
        await save(at_once=True)

    async def _requeue(self, tenant: str, live: Generation, compared: _Compared) -> None:
        """Make the memories that differ due for embedding and publish their jobs; repeatable."""
        memories, points, drifted = compared.memories, compared.points, compared.drifted
        kept = [points[key] for key in drifted if unwritable(memories[key], points.get(key))]
        await self.vectors.delete_seen(tenant, kept)
        missing = [key for key in drifted if compared.findings[key] is Finding.MISSING]
        await self.vectors.make_way(tenant, missing, generation=live)
        due = await self.graph.work.requeue(tenant, Stage.EMBED, drifted)
        jobs = [Job(tenant, each.id, each.payload_version) for each in due]
        answers = (await self.outbox.announce({Stage.EMBED: jobs}, exempt=True)).get(Stage.EMBED)
        dead = [
            (job.memory_id, job.version)
            for job, answer in zip(jobs, answers or (), strict=False)
            if answer is Published.DEAD
        ]
        await self.graph.work.give_up(tenant, Stage.EMBED, dead)

    async def _wait_until_embedded(self, tenant: str, audit: Audit, save: SaveAudit) -> None:
        """Return once each of `audit.repairing` is embedded, given up or changed meanwhile."""
        waiting = await self.graph.sweeps.unembedded(tenant, audit.repairing)
        last_success, polls = time.monotonic(), 0
        while waiting:
            polls += 1
            await asyncio.sleep(backoff_s(polls, first_s=_FIRST_POLL_S, longest_s=_LONGEST_POLL_S))
            await save()
            still = await self.graph.sweeps.unembedded(tenant, list(waiting))
            left = {key: version for key, version in waiting.items() if still.get(key) == version}
            if len(left) < len(waiting):
                last_success = time.monotonic()
            elif time.monotonic() - last_success > self.wait_s:
                raise TransientError(
                    f"{len(left)} memories wait for an embedder, and none was embedded"
                    f" for {self.wait_s:.0f} s"
                )
            waiting = left


def _check_generation(audit: Audit, live: Generation | None) -> None:
    if live is None or live.collection != audit.generation:
        raise Conflict("the live generation was switched during the run: start another one")


async def drift_task(drift: Drift, gauges: DriftGauges, progress: Progress) -> Mapping[str, Any]:
    """Do a run's task `drift`; return its result.

    Its request: `dry_run`, `repair` (true), `delete_orphans` (false) and `batch_size`, the most
    memories that are repaired at once.
    """
    tenant, run = progress.tenant, progress.run
    dry = run.dry_run or bool(run.request.get("dry_run"))
    repair = not dry and bool(run.request.get("repair", True))
    delete = not dry and bool(run.request.get("delete_orphans"))
    audit = Audit.resumed(progress.state)

    async def save(*, at_once: bool = False) -> None:
        await (progress.write if at_once else progress.write_if_due)(**asdict(audit))

    deletable = all_deletable if delete else None
    page = run.request.get("batch_size")
    await drift(tenant, audit, save, repair=repair, deletable=deletable, page=page)
    progress.state |= asdict(audit)
    gauges.set_left(tenant, audit, repaired=repair)
    return audit.result(dry_run=not (repair or delete))
