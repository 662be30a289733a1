"""The enrich stage: a batch of memories in; entities, tags, order and summaries out.

One spaCy pipe over the whole batch, then per tenant a fixed number of graph queries. What
was computed for an older version is dropped by the guarded write: a newer job follows.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.enricher.entities import Found, entity_tags, extract, slug
from services.enricher.nlp import Pipeline
from services.enricher.summarize import summarize
from shared import metrics
from shared.config import EnrichmentSettings
from shared.consumer import Done, Outcome
from shared.events import Event, Events, enriched, enriching
from shared.graph.store import GraphStore
from shared.graph.work import Enriched
from shared.job import Job, Stage
from shared.memory import Memory, iso, now_ms
from shared.outbox import Outbox


class Enricher:
    """Handler of the enrich stream; safe to run in any number of processes."""

    def __init__(
        self,
        graph: GraphStore,
        outbox: Outbox,
        events: Events,
        pipeline: Pipeline,
        settings: EnrichmentSettings,
    ) -> None:
        self._events = events
        self._graph = graph
        self._outbox = outbox
        self._pipeline = pipeline
        self._settings = settings
        # One thread: spaCy holds the interpreter's lock, and the loop must go on renewing.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spacy")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        by_tenant: dict[str, dict[str, Job]] = defaultdict(dict)
        for job in jobs:
            by_tenant[job.tenant][job.memory_id] = job
        wanted = {tenant: await self._wanted(tenant, mine) for tenant, mine in by_tenant.items()}
        began = time.perf_counter()
        for tenant, memories in wanted.items():
            for memory in memories:
                told = enriching(memory.id, by_tenant[tenant][memory.id].attempt + 1)
                self._events.emit(tenant, Event.ENRICHMENT_START, told)
        found = await self._extract([m for batch in wanted.values() for m in batch])
        for tenant, memories in wanted.items():
            await self._write(tenant, memories, by_tenant[tenant], found)
            self._tell(tenant, memories, by_tenant[tenant], (time.perf_counter() - began) * 1000)
        return [Done()] * len(jobs)

    def _tell(
        self, tenant: str, memories: Sequence[Memory], jobs: Mapping[str, Job], elapsed_ms: float
    ) -> None:
        done = {memory.id for memory in memories}
        for key in jobs:
            told = enriched(key, elapsed_ms, skipped=key not in done)
            self._events.emit(tenant, Event.ENRICHMENT_COMPLETE, told)

    async def _wanted(self, tenant: str, jobs: Mapping[str, Job]) -> list[Memory]:
        """Those that exist and lag, or are forced; the others' jobs are done already."""
        memories = await self._graph.memories.get(tenant, jobs)
        return [m for m in memories.values() if not m.enriched or jobs[m.id].run]

    async def _extract(self, memories: Sequence[Memory]) -> dict[str, Found]:
        if not memories:
            return {}
        texts = [memory.content for memory in memories]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._entities, texts)
        return dict(zip((memory.id for memory in memories), found, strict=True))

    def _entities(self, texts: Sequence[str]) -> list[Found]:
        return extract(self._pipeline.annotate(texts))

    async def _write(
        self,
        tenant: str,
        memories: Sequence[Memory],
        jobs: Mapping[str, Job],
        found: Mapping[str, Found],
    ) -> None:
        if not memories:
            return
        previous = await self._graph.work.previous(
            tenant, [(memory.id, memory.timestamp, memory.session_id) for memory in memories]
        )
        rows = [
            self._row(memory, found[memory.id], previous.get(memory.id, ()), jobs[memory.id])
            for memory in memories
        ]
        results = await self._graph.work.enriched(tenant, rows)
        changed = [
            Job(tenant, key, result.payload_version)
            for key, result in results.items()
            if result.payload_changed
        ]
        await self._outbox.announce({Stage.EMBED: changed})
        _count(rows)

    def _row(self, memory: Memory, found: Found, previous: Sequence[str], job: Job) -> Enriched:
        return Enriched(
            id=memory.id,
            version=memory.version,
            tags=memory.tags,
            entity_tags=entity_tags(found),
            entities=found,
            enrichment=_block(job, previous),
            summary=summarize(memory.content) if self._settings.enable_summaries else None,
            entity_nodes=tuple(
                (category, slug(name), name) for category, names in found.items() for name in names
            ),
            previous_ids=tuple(previous),
        )


def _block(job: Job, previous: Sequence[str]) -> dict[str, Any]:
    """`metadata.enrichment` as AutoMem's clients read it."""
    return {
        "last_run": iso(now_ms()),
        "forced": bool(job.run),
        "temporal_links": len(previous),
        "patterns_detected": [],
    }


def _count(rows: Sequence[Enriched]) -> None:
    for row in rows:
        for category, names in row.entities.items():
            metrics.ENTITIES_FOUND.labels(category=category).inc(len(names))
        metrics.RELATIONS_WRITTEN.labels(type="PRECEDED_BY").inc(len(row.previous_ids))
