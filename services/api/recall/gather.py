"""Gather: the step of a recall that finds candidates and reads their memories.

While too few of the memories found may be answered, it looks again with a wider net. The first
look also takes what is not current, since a memory that is not may lead to the one that replaced
it. Later looks keep to what is current, so that hidden, superseded or duplicate memories cannot
take all places.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.api.recall import finish, state
from services.api.recall.candidate_source import CandidateSource
from services.api.recall.draft import Draft
from services.api.recall.profile import profile_of
from services.api.recall.rank import Candidate, Question, merged, shortlist
from shared.domain.memory import Memory
from shared.graph.recall.candidates import Candidates

# How much wider each further look is, while too few of what was found may be answered.
_NETS = (1, 4, 16)
_LISTING_NETS = (1, 4, 16, 64)
_LISTING_MOST = 2000
_MIN_READ = 120
_READ_PER_RESULT = 4


@dataclass(slots=True)
class Gather:
    """Finds by text or vector, or lists where a request has neither."""

    stored: Candidates
    source: CandidateSource

    async def gather(self, draft: Draft) -> None:
        """Set the draft's question, texts, candidates and stored memories."""
        by_text = draft.request.texts or draft.request.embedding
        await (self._search(draft) if by_text else self._list(draft))

    async def read(self, draft: Draft, ids: Iterable[str]) -> None:
        """Read those of `ids` that the draft lacks: one query, or none."""
        missing = [key for key in ids if key not in draft.stored]
        draft.stored |= await self.stored.read(draft.tenant, missing)

    async def _search(self, draft: Draft) -> None:
        request, candidates = draft.request, dict[str, Candidate]()
        for look, net in enumerate(_NETS):
            scope = request.scope if look else request.scope.at_any_time()
            found = await self.source.read(draft.tenant, replace(request, scope=scope), growth=net)
            most = net * max(_MIN_READ, _READ_PER_RESULT * request.limit)
            full = found.full or len(found.candidates) > most
            candidates = merged([candidates, shortlist(found.candidates, most)])
            await self.read(draft, (*candidates, *request.hints.ids))
            if not full or _is_enough(draft):
                break
        draft.question, draft.candidates = found.question, candidates
        draft.entities, draft.degraded = found.entities, found.degraded

    async def _list(self, draft: Draft) -> None:
        """List by importance, or by time."""
        request, listed = draft.request, dict[str, Memory]()
        order = request.sort.replace("updated", "time")
        for look, net in enumerate(_LISTING_NETS):
            scope = request.scope if look else request.scope.at_any_time()
            size = min(_LISTING_MOST, net * (2 * request.limit + 10))
            memories = await self.stored.listing(draft.tenant, scope, size, order)
            listed |= {memory.id: memory for memory in memories}
            await self.read(draft, (*listed, *request.hints.ids))
            if len(memories) < size or size == _LISTING_MOST or _is_enough(draft):
                break
        kind = "tag" if request.scope.tags else "trending"
        draft.question = Question(profile=profile_of(request.hints, ""))
        draft.candidates = {
            memory.id: Candidate(memory.id, words=memory.importance, match_type=kind)
            for memory in listed.values()
        }


def _is_enough(draft: Draft) -> bool:
    """Whether enough different memories may be answered without a replacement."""
    request, different = draft.request, set[tuple[object, ...]]()
    for each in draft.stored.values():
        if not draft.is_answerable(each.memory):
            continue
        if request.scope.current_at_ms is not None and state.superseding(each, request.at_ms):
            continue
        different.add(finish.fingerprint(each.memory))
        if len(different) >= request.limit:
            return True
    return False
