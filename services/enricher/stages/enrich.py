"""The enrich stage: find and store entities, tags, order and summaries of a batch of memories.

spaCy reads the whole batch at once; then each tenant takes a fixed number of graph queries. The
graph rejects what was computed for an older version of a memory; a newer job follows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.enricher.entities.filter import slug
from services.enricher.entities.reader import TEXT_CPU_S, EntityReader
from services.enricher.entities.recognizer import Found, entity_tags, renamed
from services.enricher.stages.patterns import Detected, detect
from services.enricher.stages.summarize import summarize
from shared.config import EnrichmentSettings
from shared.domain.memory import Memory, iso, now_ms
from shared.domain.memory_type import classify, has_fallback_type
from shared.events.emitter import Event, Events, preview
from shared.events.enrichment_stats import EnrichmentStats, Tally
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.writes import EnrichedResult
from shared.graph.store import GraphStore
from shared.streams.batch import Failure
from shared.streams.job import Job, Stage, by_tenant
from shared.streams.outbox import Outbox
from shared.streams.transitions import DeadLetter, Done, Outcome
from shared.telemetry import metrics

_TOO_SLOW = DeadLetter(
    "permanent", f"finding the entities took more than {TEXT_CPU_S} s of CPU time"
)


@dataclass(slots=True)
class Enricher:
    """Handler of the enrich stream; safe to run in any number of processes.

    `needs_chat` says whether the ask stage is to ask a chat model about a memory.
    """

    graph: GraphStore
    outbox: Outbox
    events: Events
    stats: EnrichmentStats
    reader: EntityReader
    settings: EnrichmentSettings
    needs_chat: Callable[[Memory], bool]

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Enrich the memories of all jobs; a text that takes too long is dead-lettered.

        Raises: SlowText for several jobs, of which one is to be dead-lettered.
        """
        jobs_of = by_tenant(jobs)
        lagging = {tenant: await self._lagging(tenant, its) for tenant, its in jobs_of.items()}
        began = time.perf_counter()
        for tenant, memories in lagging.items():
            for memory in memories:
                body = {"memory_id": memory.id, "attempt": jobs_of[tenant][memory.id].attempt + 1}
                self.events.emit(tenant, Event.ENRICHMENT_START, body)
        entities = await self._entities(lagging)
        too_slow = {key for key, found in entities.items() if found is None}
        tallies: dict[str, Tally] = {}
        for tenant, memories in lagging.items():
            found = {m.id: names for m in memories if (names := entities[tenant, m.id]) is not None}
            written = await self._write(tenant, memories, jobs_of[tenant], found)
            tallies[tenant] = self._tally(written)
            finished = [key for key in jobs_of[tenant] if (tenant, key) not in too_slow]
            elapsed_ms = (time.perf_counter() - began) * 1000
            self._announce_completion(tenant, finished, written, elapsed_ms)
        await self.stats.add(tallies, spacy_model=self.reader.pipeline.name)
        return [_TOO_SLOW if (job.tenant, job.memory_id) in too_slow else Done() for job in jobs]

    async def failed(self, failures: Sequence[Failure]) -> None:
        """Emit an event for each job that failed, and count it."""
        tallies: dict[str, Tally] = defaultdict(Tally)
        for failure in failures:
            job, tally = failure.job, tallies[failure.job.tenant]
            body = {
                "memory_id": job.memory_id,
                "error": preview(failure.error, 100),
                "attempt": job.attempt,
                "elapsed_ms": round(failure.elapsed_ms, 2),
                "will_retry": failure.will_retry,
            }
            self.events.emit(job.tenant, Event.ENRICHMENT_FAILED, body)
            tally.failures += 1
            tally.last_error = failure.error
        await self.stats.add(tallies)

    def _announce_completion(
        self, tenant: str, ids: Sequence[str], written: Sequence[Memory], elapsed_ms: float
    ) -> None:
        """Emit an event per id; a memory that is gone, up to date or changed was skipped."""
        written_ids = {memory.id for memory in written}
        for key in ids:
            body = {
                "memory_id": key,
                "success": True,
                "elapsed_ms": round(elapsed_ms, 2),
                "skipped": key not in written_ids,
            }
            self.events.emit(tenant, Event.ENRICHMENT_COMPLETE, body)

    async def _lagging(self, tenant: str, jobs: Mapping[str, Job]) -> list[Memory]:
        """Memories that exist and are not enriched at their version, or whose job is forced."""
        memories = await self.graph.memories.get(tenant, jobs)
        return [m for m in memories.values() if not m.enriched or jobs[m.id].run]

    async def _entities(
        self, memories: Mapping[str, Sequence[Memory]]
    ) -> dict[tuple[str, str], Found | None]:
        """Return the entities by (tenant, memory id); None for a text that took too long."""
        keyed = [(tenant, memory) for tenant, each in memories.items() for memory in each]
        entities = await self.reader.read([memory.content for _, memory in keyed])
        ids = [(tenant, memory.id) for tenant, memory in keyed]
        return dict(zip(ids, entities, strict=True))

    async def _write(
        self,
        tenant: str,
        memories: Sequence[Memory],
        jobs: Mapping[str, Job],
        found: Mapping[str, Found],
    ) -> list[Memory]:
        """Write the memories in `found` with a fixed number of queries; return those it wrote.

        They are returned with their types.
        """
        memories = [memory for memory in memories if memory.id in found]
        if not memories:
            return []
        typed = {memory.id: _typed(memory) for memory in memories}
        places = [(memory.id, memory.timestamp, memory.session_id) for memory in memories]
        previous = await self.graph.work.previous(tenant, places)
        await self.graph.work.relink(tenant, places)
        found = await self._canonical(tenant, found)
        detected = await detect(self.graph, tenant, list(typed.values()))
        rows = [
            self._row(
                typed[memory.id],
                found[memory.id],
                previous.get(memory.id, ()),
                detected.get(memory.id),
                seen_type=memory.type,
                forced=bool(jobs[memory.id].run),
            )
            for memory in memories
        ]
        results = await self.graph.work.enriched(tenant, rows)
        written = [typed[key] for key in results]
        await self._announce(tenant, written, results, jobs)
        _count([row for row in rows if row.id in results])
        return written

    async def _canonical(self, tenant: str, found: Mapping[str, Found]) -> Mapping[str, Found]:
        """Replace each entity that was merged into another by that one."""
        tags = {tag for each in found.values() for tag in entity_tags(each)}
        merged = await self.graph.work.merged(tenant, tags)
        return {key: renamed(each, merged) for key, each in found.items()} if merged else found

    async def _announce(
        self,
        tenant: str,
        written: Sequence[Memory],
        results: Mapping[str, EnrichedResult],
        jobs: Mapping[str, Job],
    ) -> None:
        """Publish embed jobs for changed payloads, and ask jobs where a chat model is needed."""
        changed = [
            Job(tenant, key, result.payload_version)
            for key, result in results.items()
            if result.payload_changed
        ]
        # The job of a forced run differs, so it is published although the first is dead.
        chat_jobs = [
            replace(jobs[memory.id], version=memory.version, attempt=0)
            for memory in written
            if self.needs_chat(memory)
        ]
        await self.outbox.announce({Stage.EMBED: changed, Stage.ASK: chat_jobs})

    def _tally(self, written: Sequence[Memory]) -> Tally:
        tally = Tally(successes=len(written), last_success_id=written[-1].id if written else "")
        for memory in written:
            if not has_fallback_type(memory.type, memory.confidence):
                by_rule = (memory.type, memory.confidence) == classify(memory.content)
                tally.pattern_classifications += by_rule
            elif not self.needs_chat(memory):
                tally.fallbacks += 1
        return tally

    def _row(
        self,
        memory: Memory,
        found: Found,
        previous: Sequence[str],
        detected: Detected | None,
        *,
        seen_type: str,
        forced: bool,
    ) -> Enriched:
        # `metadata.enrichment` in AutoMem's shape; the relate stage adds the neighbours.
        enrichment = {
            "last_run": iso(now_ms()),
            "forced": forced,
            "temporal_links": len(previous),
            "patterns_detected": [detected.block()] if detected else [],
        }
        return Enriched(
            id=memory.id,
            version=memory.version,
            tags=memory.tags,
            entity_tags=entity_tags(found),
            entities=found,
            enrichment=enrichment,
            summary=summarize(memory.content) if self.settings.enable_summaries else None,
            seen_type=seen_type,
            type=memory.type,
            confidence=memory.confidence,
            entity_nodes=tuple(
                (category, slug(name), name) for category, names in found.items() for name in names
            ),
            previous_ids=tuple(previous),
            pattern=detected.type if detected else None,
            asks=self.needs_chat(memory),
        )


def _typed(memory: Memory) -> Memory:
    """Return the memory with the type that a rule finds, if it has only the fallback type.

    The API ran the rules too, but the text may have changed since.
    """
    if not has_fallback_type(memory.type, memory.confidence):
        return memory
    kind, confidence = classify(memory.content)
    return replace(memory, type=kind, confidence=confidence)


def _count(rows: Sequence[Enriched]) -> None:
    for row in rows:
        for category, names in row.entities.items():
            metrics.ENTITIES_FOUND.labels(category=category).inc(len(names))
        metrics.RELATIONS_WRITTEN.labels(type="PRECEDED_BY").inc(len(row.previous_ids))
        metrics.RELATIONS_WRITTEN.labels(type="EXEMPLIFIES").inc(row.pattern is not None)
