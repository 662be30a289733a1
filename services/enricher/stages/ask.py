"""The ask stage: ask a chat model for a memory's type, or for the summary of a long one.

It is a stage of its own so that a slow or absent model delays no enrichment: its jobs wait, are
retried and end in the dead stream. Until the answer comes, the memory keeps the rules' type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.enricher.stages import chat_summary, chat_type
from services.enricher.stages.chat_summary import Summary
from services.enricher.stages.chat_type import Classification
from shared.config import ApiSettings
from shared.domain.memory import Memory
from shared.domain.memory_type import has_fallback_type
from shared.errors import PermanentError, TransientError, Unavailable
from shared.events.enrichment_stats import EnrichmentStats, Tally
from shared.graph.records import Due
from shared.graph.stages.patterns import Typed
from shared.graph.store import GraphStore
from shared.models.chat import ChatModel
from shared.streams.job import Job, Stage, by_tenant
from shared.streams.outbox import Outbox
from shared.streams.transitions import Done, Outcome, Retry

_STORE_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the model answered about one memory; None where it was of no use or not needed."""

    memory: Memory
    answer: Classification | Summary | TransientError | PermanentError | None
    for_type: bool


@dataclass(slots=True)
class ChatClassifier:
    """Handler of the ask stream; safe to run in any number of processes."""

    graph: GraphStore
    outbox: Outbox
    stats: EnrichmentStats
    chat: ChatModel | None
    settings: ApiSettings

    def wants(self, memory: Memory) -> bool:
        """Return whether a chat model is configured and the memory needs its type or summary."""
        return self.chat is not None and (
            self._is_long(memory) or has_fallback_type(memory.type, memory.confidence)
        )

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Ask about all memories at once; the model bounds how many calls run concurrently.

        Raises: Unavailable once the answers so far are stored; the rest is asked later.
        """
        tallies: dict[str, Tally] = {}
        # The errors of the questions that are to be repeated.
        failed: dict[tuple[str, str], TransientError] = {}
        for tenant, its_jobs in by_tenant(jobs).items():
            replies = await self._ask(tenant, its_jobs)
            await self._store(tenant, replies)
            for reply in replies:
                if isinstance(reply.answer, TransientError):
                    failed[tenant, reply.memory.id] = reply.answer
            done = [
                (key, job.version) for key, job in its_jobs.items() if (tenant, key) not in failed
            ]
            await self.graph.work.ask_done(tenant, done)
            tallies[tenant] = _tally(replies)
        await self.stats.add(tallies)
        for error in failed.values():
            if isinstance(error, Unavailable):
                raise error
        return [
            Retry(str(failure), failure.retry_after_s)
            if (failure := failed.get((job.tenant, job.memory_id)))
            else Done()
            for job in jobs
        ]

    async def _ask(self, tenant: str, jobs: Mapping[str, Job]) -> list[_Reply]:
        """Ask about memories still at their job's version; a newer version has its own job."""
        if (chat := self.chat) is None:
            return []
        memories = await self.graph.memories.get(tenant, jobs)
        wanted = [
            memory
            for memory in memories.values()
            if memory.version == jobs[memory.id].version and self.wants(memory)
        ]
        return await asyncio.gather(*(self._reply(chat, memory) for memory in wanted))

    async def _reply(self, chat: ChatModel, memory: Memory) -> _Reply:
        """Ask for the summary of a long memory, else for its type.

        A summarized memory is typed at its next version.
        """
        for_type = False
        try:
            if self._is_long(memory) and (
                summary := await chat_summary.ask(chat, memory, self.settings)
            ):
                return _Reply(memory, summary, for_type)
            if not has_fallback_type(memory.type, memory.confidence):
                return _Reply(memory, None, for_type)
            for_type = True
            return _Reply(memory, await chat_type.ask(chat, memory.content), for_type)
        except (TransientError, PermanentError) as error:
            return _Reply(memory, error, for_type)

    async def _store(self, tenant: str, replies: Sequence[_Reply]) -> None:
        typed = [
            Typed(each.memory.id, each.memory.version, *each.answer.believed())
            for each in replies
            if isinstance(each.answer, Classification)
        ]
        summarized = [
            await self._store_summary(tenant, each.memory, each.answer)
            for each in replies
            if isinstance(each.answer, Summary)
        ]
        changed: list[Due | Memory] = [*await self.graph.patterns.typed(tenant, typed)]
        changed += [new for new in summarized if new is not None]
        await self.outbox.announce(
            {
                Stage.ENRICH: [Job(tenant, each.id, each.version) for each in changed],
                Stage.EMBED: [Job(tenant, each.id, each.payload_version) for each in changed],
            },
            exempt=True,
        )

    async def _store_summary(self, tenant: str, memory: Memory, answer: Summary) -> Memory | None:
        """Return the memory with the short content; None where its text has changed since."""
        seen: Memory | None = memory
        for _ in range(_STORE_TRIES):
            if seen is None or seen.content != memory.content or not self._is_long(seen):
                return None
            new = chat_summary.summarized(seen, answer, self.settings)
            if new is None or await self.graph.memories.replace(
                tenant, new, seen=seen, keep_embedding=True
            ):
                return new
            seen = (await self.graph.memories.get(tenant, [memory.id])).get(memory.id)
        return None

    def _is_long(self, memory: Memory) -> bool:
        return chat_summary.is_long(memory, self.settings)


def _tally(replies: Sequence[_Reply]) -> Tally:
    """Count the questions for a type; a question for a summary adds only its error."""
    tally = Tally()
    for reply in replies:
        failed = isinstance(reply.answer, TransientError | PermanentError)
        if failed:
            tally.classification_error = str(reply.answer)
        if reply.for_type:
            tally.llm_attempts += 1
            tally.llm_successes += not failed
            tally.fallbacks += failed
    return tally
