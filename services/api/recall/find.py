"""Finding: what a request may be answered with, looked for with wider nets while it is too little.

At first the stores are asked whatever holds now: a memory that does not may lead to the one
that took its place. Only a further look keeps to what holds, so that no crowd of what is
hidden, superseded or repeated takes the places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from services.api.recall import finish, state
from services.api.recall.gather import CandidateSet, CandidateSource
from services.api.recall.profile import profile_of
from services.api.recall.rank import Candidate, Question, merged, shortlist
from services.api.recall.request import RecallRequest
from shared.domain.memory import Memory
from shared.domain.scope import is_visible
from shared.graph.recall.candidates import Candidates, StoredCandidate

# How much wider each further look is, while too few of what was found may be answered.
_NETS = (1, 4, 16)
_LISTING_NETS = (1, 4, 16, 64)
_LISTING_MOST = 2000
_MIN_READ = 120
_READ_PER_RESULT = 4

Found = tuple[CandidateSet, dict[str, StoredCandidate]]


class Finder:
    """Candidates with what the graph knows of them; also of the ids that a request names."""

    def __init__(self, candidates: Candidates, gatherer: CandidateSource) -> None:
        self._candidates = candidates
        self._gatherer = gatherer

    async def find(self, tenant: str, request: RecallRequest) -> Found:
        by_text = bool(request.texts or request.embedding)
        return await (self._heard if by_text else self._listed)(tenant, request)

    async def unread(
        self, tenant: str, ids: Iterable[str], known: Mapping[str, StoredCandidate]
    ) -> dict[str, StoredCandidate]:
        """Those of `ids` that are not among `known` and exist; one query, or none."""
        return await self._candidates.read(tenant, [key for key in ids if key not in known])

    async def _heard(self, tenant: str, request: RecallRequest) -> Found:
        """By texts, or by a vector."""
        known: dict[str, StoredCandidate] = {}
        candidates: dict[str, Candidate] = {}
        for look, net in enumerate(_NETS):
            wider = request if look else replace(request, scope=request.scope.at_any_time())
            gathered = await self._gatherer.gather(tenant, wider, growth=net)
            most = net * max(_MIN_READ, _READ_PER_RESULT * request.limit)
            full = gathered.full or len(gathered.candidates) > most
            candidates = merged([candidates, shortlist(gathered.candidates, most)])
            wanted = (*candidates, *request.hints.ids)
            known |= await self.unread(tenant, wanted, known)
            if not full or self._enough(request, known):
                break
        return replace(gathered, candidates=candidates), known

    async def _listed(self, tenant: str, request: RecallRequest) -> Found:
        """Without a query: by importance, or by time."""
        order = request.sort.replace("updated", "time")
        known: dict[str, StoredCandidate] = {}
        listed: dict[str, Memory] = {}
        for look, net in enumerate(_LISTING_NETS):
            scope = request.scope if look else request.scope.at_any_time()
            size = min(_LISTING_MOST, net * (2 * request.limit + 10))
            memories = await self._candidates.listing(tenant, scope, size, order)
            listed |= {memory.id: memory for memory in memories}
            known |= await self.unread(tenant, (*listed, *request.hints.ids), known)
            ended = len(memories) < size or size == _LISTING_MOST
            if ended or self._enough(request, known):
                break
        question = Question("", profile=profile_of(request.hints, ""))
        kind = "tag" if request.scope.tags else "trending"
        candidates = {
            memory.id: Candidate(memory.id, words=memory.importance, match_type=kind)
            for memory in listed.values()
        }
        return CandidateSet(question, (), candidates), known

    def _enough(self, request: RecallRequest, known: Mapping[str, StoredCandidate]) -> bool:
        """Whether as many different ones as wanted stand, whatever replaces the others."""
        scope, different = request.scope, set[tuple[object, ...]]()
        for each in known.values():
            if not is_visible(each.memory, scope):
                continue
            if scope.current_at_ms is not None and state.superseding(each, request.at_ms):
                continue
            different.add(finish.likeness(each.memory))
            if len(different) >= request.limit:
                return True
        return False
