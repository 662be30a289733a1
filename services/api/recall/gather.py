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
from services.api.recall.request import RecallRequest
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

    async def run(self, draft: Draft) -> None:
        """Set the draft's question, candidates and stored memories."""
        request = draft.request
        by_text = request.texts or request.embedding
        look, nets = (self._search, _NETS) if by_text else (self._list, _LISTING_NETS)
        for net in nets:
            scope = request.scope.at_any_time() if net == 1 else request.scope
            may_be_more = await look(draft, replace(request, scope=scope), net)
            await self.read(draft, (*draft.candidates, *request.hints.ids))
            if not may_be_more or _is_enough(draft):
                break

    async def read(self, draft: Draft, ids: Iterable[str]) -> None:
        """Read the memories of `ids` that the draft lacks, with at most one query."""
        missing = [key for key in ids if key not in draft.stored]
        draft.stored |= await self.stored.read(draft.tenant, missing)

    async def _search(self, draft: Draft, request: RecallRequest, net: int) -> bool:
        """Add what the stores find; return whether they may hold more."""
        found = await self.source.read(draft.tenant, request, growth=net)
        most = net * max(_MIN_READ, _READ_PER_RESULT * request.limit)
        draft.candidates = merged([draft.candidates, shortlist(found.candidates, most)])
        draft.question, draft.entities = found.question, found.entities
        draft.degraded = found.degraded
        return found.full or len(found.candidates) > most

    async def _list(self, draft: Draft, request: RecallRequest, net: int) -> bool:
        """Add what a list by importance or time holds; return whether it may go on."""
        size = min(_LISTING_MOST, net * (2 * request.limit + 10))
        order = request.sort.replace("updated", "time")
        memories = await self.stored.listing(draft.tenant, request.scope, size, order)
        kind = "tag" if request.scope.tags else "trending"
        draft.question = Question(profile=profile_of(request.hints, ""))
        draft.candidates |= {
            memory.id: Candidate(memory.id, words=memory.importance, match_type=kind)
            for memory in memories
        }
        return len(memories) == size < _LISTING_MOST


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
