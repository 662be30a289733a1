"""The enrich stage: a batch of memories in; entities, tags, order and summaries out.

One spaCy pipe over the whole batch, then per tenant a fixed number of graph queries. What
was computed for an older version is dropped by the guarded write: a newer job follows.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from services.enricher.entities.nlp import Pipeline
from services.enricher.entities.recognizer import Found, entity_tags, extract, renamed, slug
from services.enricher.stages.patterns import Detected, detect
from services.enricher.stages.summarize import summarize
from shared.config import EnrichmentSettings
from shared.domain.memory import Memory, iso, now_ms
from shared.domain.memory_type import classify, has_fallback_type
from shared.events.emitter import Event, Events, enriched, enriching, enrichment_failed
from shared.events.enrichment_stats import EnrichmentStats, Tally
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import EnrichedResult
from shared.graph.store import GraphStore
from shared.streams.handler import Failure
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Done, Outcome
from shared.telemetry import metrics


class Enricher:
    """Handler of the enrich stream; safe to run in any number of processes."""

    def __init__(
        self,
        graph: GraphStore,
        outbox: Outbox,
        events: Events,
        stats: EnrichmentStats,
        *,
        pipeline: Pipeline,
        settings: EnrichmentSettings,
        asks: Callable[[Memory], bool],
    ) -> None:
        self._asks = asks
        self._events = events
        self._stats = stats
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
        found = iter(await self._extract([m for batch in wanted.values() for m in batch]))
        tallies: dict[str, Tally] = {}
        for tenant, memories in wanted.items():
            names = {memory.id: next(found) for memory in memories}
            done = await self._write(tenant, memories, by_tenant[tenant], names)
            tallies[tenant] = self._tally(done)
            self._tell(tenant, done, by_tenant[tenant], (time.perf_counter() - began) * 1000)
        await self._stats.add(tallies, spacy_model=self._pipeline.name)
        return [Done()] * len(jobs)

    async def failed(self, failures: Sequence[Failure]) -> None:
        """Tell watchers and counters of jobs that this stage could not do."""
        tallies: dict[str, Tally] = defaultdict(Tally)
        for each in failures:
            job, tally = each.job, tallies[each.job.tenant]
            told = enrichment_failed(
                job.memory_id, each.error, job.attempt, each.elapsed_ms, will_retry=each.will_retry
            )
            self._events.emit(job.tenant, Event.ENRICHMENT_FAILED, told)
            tally.failures += 1
            tally.last_error = each.error
        await self._stats.add(tallies)

    def _tell(
        self, tenant: str, done: Sequence[Memory], jobs: Mapping[str, Job], elapsed_ms: float
    ) -> None:
        """Of each job; one whose memory was up to date, is gone or was changed is skipped."""
        written = {memory.id for memory in done}
        for key in jobs:
            told = enriched(key, elapsed_ms, skipped=key not in written)
            self._events.emit(tenant, Event.ENRICHMENT_COMPLETE, told)

    async def _wanted(self, tenant: str, jobs: Mapping[str, Job]) -> list[Memory]:
        """Those that exist and lag, or are forced; the others' jobs are done already."""
        memories = await self._graph.memories.get(tenant, jobs)
        return [m for m in memories.values() if not m.enriched or jobs[m.id].run]

    async def _extract(self, memories: Sequence[Memory]) -> list[Found]:
        if not memories:
            return []
        texts = [memory.content for memory in memories]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._entities, texts)

    def _entities(self, texts: Sequence[str]) -> list[Found]:
        return extract(self._pipeline.annotate(texts))

    async def _write(
        self,
        tenant: str,
        memories: Sequence[Memory],
        jobs: Mapping[str, Job],
        found: Mapping[str, Found],
    ) -> list[Memory]:
        """Those that were written, with their types: a fixed number of queries, however many."""
        if not memories:
            return []
        typed = {memory.id: _typed(memory) for memory in memories}
        placed = [(memory.id, memory.timestamp, memory.session_id) for memory in memories]
        previous = await self._graph.work.previous(tenant, placed)
        await self._graph.work.relink(tenant, placed)
        found = await self._canonical(tenant, found)
        detected = await detect(self._graph, tenant, list(typed.values()))
        rows = [
            self._row(
                typed[memory.id],
                found[memory.id],
                seen_type=memory.type,
                previous=previous.get(memory.id, ()),
                detected=detected.get(memory.id),
                forced=bool(jobs[memory.id].run),
            )
            for memory in memories
        ]
        results = await self._graph.work.enriched(tenant, rows)
        done = [typed[key] for key in results]
        await self._announce(tenant, done, results, jobs)
        _count([row for row in rows if row.id in results])
        return done

    async def _canonical(self, tenant: str, found: Mapping[str, Found]) -> Mapping[str, Found]:
        """Who was merged into another is found as that one."""
        tags = {tag for each in found.values() for tag in entity_tags(each)}
        merged = await self._graph.work.merged(tenant, tags)
        return {key: renamed(each, merged) for key, each in found.items()} if merged else found

    async def _announce(
        self,
        tenant: str,
        done: Sequence[Memory],
        results: Mapping[str, EnrichedResult],
        jobs: Mapping[str, Job],
    ) -> None:
        changed = [
            Job(tenant, key, result.payload_version)
            for key, result in results.items()
            if result.payload_changed
        ]
        # A forced run's is another job: it asks again although the first lies with the dead.
        asked = [
            replace(jobs[memory.id], version=memory.version, attempt=0)
            for memory in done
            if self._asks(memory)
        ]
        await self._outbox.announce({Stage.EMBED: changed, Stage.ASK: asked})

    def _tally(self, done: Sequence[Memory]) -> Tally:
        tally = Tally(successes=len(done), last_success_id=done[-1].id if done else "")
        for memory in done:
            if not has_fallback_type(memory.type, memory.confidence):
                by_rule = (memory.type, memory.confidence) == classify(memory.content)
                tally.pattern_classifications += by_rule
            elif not self._asks(memory):
                tally.fallbacks += 1
        return tally

    def _row(
        self,
        memory: Memory,
        found: Found,
        *,
        seen_type: str,
        previous: Sequence[str],
        detected: Detected | None,
        forced: bool,
    ) -> Enriched:
        return Enriched(
            id=memory.id,
            version=memory.version,
            tags=memory.tags,
            entity_tags=entity_tags(found),
            entities=found,
            enrichment=_block(previous, detected, forced=forced),
            summary=summarize(memory.content) if self._settings.enable_summaries else None,
            seen_type=seen_type,
            type=memory.type,
            confidence=memory.confidence,
            entity_nodes=tuple(
                (category, slug(name), name) for category, names in found.items() for name in names
            ),
            previous_ids=tuple(previous),
            pattern=detected.type if detected else None,
            asks=self._asks(memory),
        )


def _typed(memory: Memory) -> Memory:
    """With the type that a rule finds, where it has none: its text may have changed since."""
    if not has_fallback_type(memory.type, memory.confidence):
        return memory
    kind, confidence = classify(memory.content)
    return replace(memory, type=kind, confidence=confidence)


def _block(previous: Sequence[str], detected: Detected | None, *, forced: bool) -> dict[str, Any]:
    """`metadata.enrichment` as AutoMem's clients read it; the relate stage adds the neighbours."""
    return {
        "last_run": iso(now_ms()),
        "forced": forced,
        "temporal_links": len(previous),
        "patterns_detected": [detected.block()] if detected else [],
    }


def _count(rows: Sequence[Enriched]) -> None:
    for row in rows:
        for category, names in row.entities.items():
            metrics.ENTITIES_FOUND.labels(category=category).inc(len(names))
        metrics.RELATIONS_WRITTEN.labels(type="PRECEDED_BY").inc(len(row.previous_ids))
        metrics.RELATIONS_WRITTEN.labels(type="EXEMPLIFIES").inc(row.pattern is not None)
