"""The ask stage: what only the chat model can tell of a memory, its type or its short form.

A stage of its own, so that a model that is slow or down holds up nobody's enrichment: its
jobs wait, are tried again and end in the dead stream as everywhere. Until it is answered the
memory keeps what the rules said.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
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
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Done, Outcome, Retry

_STORE_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    """One memory's answer; None where nothing came of the question."""

    memory: Memory
    answer: Classification | Summary | TransientError | PermanentError | None
    for_type: bool


class ChatClassifier:
    """Handler of the ask stream; safe to run in any number of processes."""

    def __init__(
        self,
        graph: GraphStore,
        outbox: Outbox,
        stats: EnrichmentStats,
        chat: ChatModel | None,
        settings: ApiSettings,
    ) -> None:
        self._graph = graph
        self._outbox = outbox
        self._stats = stats
        self._chat = chat
        self._settings = settings

    def wants(self, memory: Memory) -> bool:
        """Whether there is something to ask about it, and somebody to ask."""
        if self._chat is None:
            return False
        return self._is_long(memory) or has_fallback_type(memory.type, memory.confidence)

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Ask about all of them at once; the model bounds how many calls are under way.

        Raises: Unavailable once what was answered is stored; the rest is asked later.
        """
        by_tenant: dict[str, dict[str, Job]] = defaultdict(dict)
        for job in jobs:
            by_tenant[job.tenant][job.memory_id] = job
        outcomes: dict[tuple[str, str], Outcome] = {}
        tallies: dict[str, Tally] = {}
        down: Unavailable | None = None
        for tenant, mine in by_tenant.items():
            asked = await self._ask(tenant, mine)
            await self._store(tenant, asked)
            later = {each.memory.id for each in asked if isinstance(each.answer, TransientError)}
            done = [(key, job.version) for key, job in mine.items() if key not in later]
            await self._graph.work.asked(tenant, done)
            tallies[tenant] = _tally(asked)
            for each in asked:
                if isinstance(each.answer, Unavailable):
                    down = each.answer
                elif isinstance(each.answer, TransientError):
                    failed = Retry(str(each.answer), each.answer.retry_after_s)
                    outcomes[tenant, each.memory.id] = failed
        await self._stats.add(tallies)
        if down is not None:
            raise down
        return [outcomes.get((job.tenant, job.memory_id), Done()) for job in jobs]

    async def _ask(self, tenant: str, jobs: Mapping[str, Job]) -> list[_Asked]:
        """Of those still at their job's version; a newer one is asked about by its own job."""
        if (chat := self._chat) is None:
            return []
        memories = await self._graph.memories.get(tenant, jobs)
        wanted = [
            memory
            for memory in memories.values()
            if memory.version == jobs[memory.id].version and self.wants(memory)
        ]
        return await asyncio.gather(*(self._asked(chat, memory) for memory in wanted))

    async def _asked(self, chat: ChatModel, memory: Memory) -> _Asked:
        """A long memory's short form; its type is then the next version's matter."""
        for_type = False
        try:
            if self._is_long(memory) and (short := await self._short(chat, memory)):
                return _Asked(memory, short, for_type)
            if not has_fallback_type(memory.type, memory.confidence):
                return _Asked(memory, None, for_type)
            for_type = True
            prompt = chat_type.prompt(memory.content)
            told = await chat.ask(*prompt, Classification, max_tokens=chat_type.MAX_ANSWER_TOKENS)
            return _Asked(memory, told, for_type)
        except (TransientError, PermanentError) as error:
            return _Asked(memory, error, for_type)

    async def _short(self, chat: ChatModel, memory: Memory) -> Summary | None:
        """None where the model refuses, or says nothing that may be stored."""
        asked = chat_summary.request(memory, self._settings)
        try:
            told = await chat.ask(asked.system, asked.user, Summary, max_tokens=asked.max_tokens)
        except PermanentError:
            return None
        return told if chat_summary.condensed(memory, told, self._settings) else None

    async def _store(self, tenant: str, asked: Sequence[_Asked]) -> None:
        typed = [
            Typed(each.memory.id, each.memory.version, *each.answer.believed())
            for each in asked
            if isinstance(each.answer, Classification)
        ]
        short = [
            await self._condense(tenant, each.memory, each.answer)
            for each in asked
            if isinstance(each.answer, Summary)
        ]
        changed: list[Due | Memory] = [*await self._graph.patterns.typed(tenant, typed)]
        changed += [new for new in short if new is not None]
        await self._outbox.announce(
            {
                Stage.ENRICH: [Job(tenant, each.id, each.version) for each in changed],
                Stage.EMBED: [Job(tenant, each.id, each.payload_version) for each in changed],
            },
            exempt=True,
        )

    async def _condense(self, tenant: str, asked: Memory, answer: Summary) -> Memory | None:
        """Store the short content; None where the text was changed meanwhile."""
        seen: Memory | None = asked
        for _ in range(_STORE_TRIES):
            if seen is None or seen.content != asked.content or not self._is_long(seen):
                return None
            new = chat_summary.condensed(seen, answer, self._settings)
            if new is None or await self._graph.memories.replace(
                tenant, new, seen=seen, keep_embedding=True
            ):
                return new
            seen = (await self._graph.memories.get(tenant, [asked.id])).get(asked.id)
        return None

    def _is_long(self, memory: Memory) -> bool:
        return chat_summary.is_long(memory, self._settings)


def _tally(asked: Sequence[_Asked]) -> Tally:
    """Counts of questions for a type; of a short form's only the error is told."""
    tally = Tally()
    for each in asked:
        failed = isinstance(each.answer, TransientError | PermanentError)
        if failed:
            tally.classification_error = str(each.answer)
        if each.for_type:
            tally.llm_attempts += 1
            tally.llm_successes += not failed
            tally.fallbacks += failed
    return tally
