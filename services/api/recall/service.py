"""Recall: gather, read once, rank, let what is superseded make way, expand, finish.

The number of store calls has a bound that the request's options set, whatever its limit: a
listing is read again a few times, a chain is followed for a few hops. Without vectors the
newest memories that hold a query word stand in, and the answer says so; without the graph
there is no answer. Ranking itself is in pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.api.recall import expand, finish, state
from services.api.recall.gather import Gathered, Gatherer, listing_of
from services.api.recall.profile import profile_of
from services.api.recall.rank import (
    Candidate,
    Question,
    Scored,
    ordered,
    score,
    shortlist,
    tagged,
    visible,
)
from services.api.recall.request import RecallRequest, Scope
from services.api.touch import Touches
from shared.config import RecallSettings
from shared.graph.candidates import Candidate as Known
from shared.graph.candidates import KnownEntity, Link
from shared.graph.nodes import Hydrated
from shared.graph.schema import AUTHORED
from shared.graph.store import GraphStore
from shared.memory import Memory, now_ms
from shared.serving import Serving
from shared.vectors import VectorStore

_MIN_READ = 120
_READ_PER_RESULT = 4
# How far beyond the limit repeats and floors are looked for.
_FINISHED_PER_RESULT = 2
_FINISHED_MORE = 20
_INJECTED = 6
_FALLBACK_MOST = 100
# Of what relations reach, some makes way for what is there already.
_REACHED_PER_ANSWERED = 2
# A listing is read again, larger, while too few of its rows stand; so often at most.
_LISTINGS = 4
_LISTING_GROWTH = 4
_LISTING_MOST = 2000


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall found, and what a caller may want to know of how."""

    rows: list[Scored]
    hydrated: Mapping[str, Hydrated] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    question: Question = field(default_factory=lambda: Question(""))
    texts: tuple[str, ...] = ()
    entities: tuple[KnownEntity, ...] = ()
    suppressed: tuple[state.Suppressed, ...] = ()
    dedup_removed: int = 0
    filtered: int = 0
    seeds: int = 0
    related: int = 0
    entity_rows: int = 0
    entity_names: tuple[str, ...] = ()
    biased: bool = False
    fell_back: bool = False
    injected: bool = False


@dataclass(slots=True)
class _Draft:
    """What is being put together for one request."""

    tenant: str
    request: RecallRequest
    at_ms: int
    gathered: Gathered
    known: dict[str, Known]
    rows: list[Scored]
    suppressed: list[state.Suppressed] = field(default_factory=list)
    filtered: set[str] = field(default_factory=set)
    injected: bool = False


class Recall:
    """The use case behind GET /recall."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        serving: Serving,
        touches: Touches,
        settings: RecallSettings,
        *,
        vectors_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._graph = graph
        self._touches = touches
        self._settings = settings
        self._excluded = frozenset(
            each.strip() for each in settings.excluded_types.split(",") if each.strip()
        )
        self._gatherer = Gatherer(
            graph,
            vectors,
            serving,
            settings,
            excluded_types=self._excluded,
            vectors_up=vectors_up,
        )

    async def recall(self, tenant: str, request: RecallRequest) -> Recalled:
        """Raises: Unavailable("graph"), InvalidInput; never an empty answer for a store down."""
        draft = await self._draft(tenant, request, at_ms=now_ms())
        await self._inject(draft)
        await self._settle_state(draft)
        rows, removed = finish.deduplicated(ordered(draft.rows, "score"), _most(request))
        rows, biased = finish.biased(rows, request.recency_bias, draft.gathered.texts)
        seeds = self._cut(request, self._floored(draft, rows))
        related = await self._related(draft, seeds)
        by_entity, names = await self._by_entities(draft, [*seeds, *related])
        found = [*seeds, *related, *by_entity]
        outside = await self._outside(draft, found, request.limit - len(seeds))
        final = [*found, *outside]
        self._touches.add(tenant, [row.id for row in seeds], draft.at_ms)
        return Recalled(
            rows=final,
            hydrated=await self._hydrated(draft, final),
            degraded=draft.gathered.degraded,
            question=draft.gathered.question,
            texts=draft.gathered.texts,
            entities=draft.gathered.entities,
            suppressed=tuple(draft.suppressed),
            dedup_removed=removed,
            filtered=len(draft.filtered),
            seeds=len(seeds),
            related=len(related),
            entity_rows=len(by_entity),
            entity_names=tuple(names),
            biased=biased,
            fell_back=bool(outside),
            injected=draft.injected,
        )

    async def _draft(self, tenant: str, request: RecallRequest, *, at_ms: int) -> _Draft:
        if request.texts or request.embedding:
            gathered = await self._gatherer.gather(tenant, request, at_ms=at_ms)
            most = max(_MIN_READ, _READ_PER_RESULT * request.limit)
            gathered = replace(gathered, candidates=shortlist(gathered.candidates, most))
            wanted = [*gathered.candidates, *request.hints.ids]
            known = await self._graph.candidates.read(tenant, wanted)
        else:
            gathered, known = await self._listed(tenant, request, at_ms)
        draft = _Draft(tenant, request, at_ms, gathered, known, [])
        draft.rows = [
            self._score(draft, each.memory)
            for key, each in known.items()
            if key in gathered.candidates and self._passes(request.scope, each.memory, at_ms)
        ]
        return draft

    async def _listed(
        self, tenant: str, request: RecallRequest, at_ms: int
    ) -> tuple[Gathered, dict[str, Known]]:
        """Without a query: by importance, or by time; a superseded one may make way."""
        order = request.sort.replace("updated", "time")
        wanted = listing_of(request.scope, order, at_ms, self._excluded)
        size = 2 * request.limit + 10
        known: dict[str, Known] = {}
        for _ in range(_LISTINGS):
            memories = await self._graph.candidates.listing(tenant, wanted, size)
            unread = [memory.id for memory in memories if memory.id not in known]
            known |= await self._graph.candidates.read(tenant, unread)
            enough = self._standing(request.scope, known, at_ms) >= request.limit
            if enough or len(memories) < size or size >= _LISTING_MOST:
                break
            size = min(_LISTING_MOST, _LISTING_GROWTH * size)
        question = Question("", profile=profile_of(request.hints, ""))
        kind = "tag" if request.scope.tags else "trending"
        candidates = {
            memory.id: Candidate(memory.id, words=memory.importance, match_type=kind)
            for memory in memories
        }
        return Gathered(question, (), candidates), known

    def _score(self, draft: _Draft, memory: Memory) -> Scored:
        candidate = draft.gathered.candidates.get(memory.id) or Candidate(
            memory.id, match_type="priority_id"
        )
        question = draft.gathered.question
        return score(memory, candidate, question, self._settings, at_ms=draft.at_ms)

    def _standing(self, scope: Scope, known: Mapping[str, Known], at_ms: int) -> int:
        """How many different ones may be answered as they are, whatever replaces the others."""
        found = (
            finish.likeness(each.memory)
            for each in known.values()
            if self._passes(scope, each.memory, at_ms)
            and not (scope.current and state.superseding(each, at_ms))
        )
        return len(set(found))

    def _passes(self, scope: Scope, memory: Memory, at_ms: int) -> bool:
        return visible(memory, scope, at_ms=at_ms, excluded_types=self._excluded)

    async def _settle_state(self, draft: _Draft) -> None:
        scope, at_ms = draft.request.scope, draft.at_ms
        draft.rows = await self._settled(
            draft, draft.rows, lambda memory: self._passes(scope, memory, at_ms)
        )
        if scope.current:
            draft.suppressed += state.expired(draft.known, at_ms)

    async def _settled(
        self, draft: _Draft, rows: Sequence[Scored], passes: Callable[[Memory], bool]
    ) -> list[Scored]:
        """Replace what is superseded by heads that pass; follows chains for at most five reads."""
        if not draft.request.scope.current:
            return list(rows)
        unread = [row.id for row in rows if row.id not in draft.known]
        draft.known |= await self._graph.candidates.read(draft.tenant, unread)
        for _ in range(state.MOST_HOPS):
            heads = state.wanted_heads(draft.known, draft.at_ms)
            found = await self._graph.candidates.read(draft.tenant, heads)
            if not found:
                break
            draft.known |= found
        allowed = [key for key, each in draft.known.items() if passes(each.memory)]
        kept, hidden = state.settle(rows, draft.known, allowed, at_ms=draft.at_ms)
        told = {each.id for each in draft.suppressed}
        draft.suppressed += [each for each in hidden if each.id not in told]
        return kept

    async def _inject(self, draft: _Draft) -> None:
        """Where nothing found fits the caller's context, what does fit joins the list."""
        profile = draft.gathered.question.profile
        if profile is None:
            return
        present = {row.id for row in draft.rows}
        extra = [
            draft.known[key].memory
            for key in profile.ids
            if key in draft.known and key not in present
        ]
        if profile.tags and not any(profile.matches(row.memory) for row in draft.rows):
            scope = replace(Scope(current=draft.request.scope.current), tags=profile.tags)
            wanted = listing_of(scope, "score", draft.at_ms, self._excluded)
            extra += await self._graph.candidates.listing(draft.tenant, wanted, _INJECTED)
        fresh = {memory.id: memory for memory in extra if memory.id not in present}
        unread = [key for key in fresh if key not in draft.known]
        if unread:  # what supersedes them; state is settled after this
            draft.known |= await self._graph.candidates.read(draft.tenant, unread)
        scope = draft.request.scope
        rows = [
            self._score(draft, memory)
            for memory in fresh.values()
            if self._passes(scope, memory, draft.at_ms)
        ]
        draft.injected = bool(rows)
        draft.rows += rows

    def _floored(self, draft: _Draft, rows: list[Scored]) -> list[Scored]:
        """The floor is that of the rows that would be answered."""
        request = draft.request
        adaptive = request.adaptive_floor and request.sort == "score" and bool(request.texts)
        most = request.limit if request.sort == "score" else None
        kept = finish.floored(rows, adaptive=adaptive, min_score=request.min_score, most=most)
        draft.filtered |= _ids(rows[:most]) - _ids(kept)
        return kept

    async def _added(
        self,
        draft: _Draft,
        rows: Sequence[Scored],
        present: Sequence[Scored],
        passes: Callable[[Memory], bool],
    ) -> list[Scored]:
        """What joins the results: only what stands, is not there yet and scores enough."""
        before = _ids(present)
        settled = await self._settled(draft, rows, passes)
        fresh = [row for row in settled if row.id not in before]
        kept = finish.floored(fresh, adaptive=False, min_score=draft.request.min_score)
        draft.filtered |= _ids(fresh) - _ids(kept)
        return kept

    @staticmethod
    def _cut(request: RecallRequest, rows: list[Scored]) -> list[Scored]:
        """The first `limit` in the wanted order; priority ids come first, in their order."""
        place = {key: at for at, key in enumerate(request.hints.ids)}
        first = sorted((row for row in rows if row.id in place), key=lambda row: place[row.id])
        rest = ordered((row for row in rows if row.id not in place), request.sort)
        return [*first, *rest][: max(request.limit, len(first))]

    async def _related(self, draft: _Draft, seeds: list[Scored]) -> list[Scored]:
        wanted = draft.request.expansion
        if not wanted.relations or not seeds:
            return []
        links = await self._graph.candidates.around(
            draft.tenant, [row.id for row in seeds], per_seed=wanted.relation_limit, types=AUTHORED
        )
        rows = expand.by_relations(
            seeds,
            [link for link in links if self._reachable(draft, link)],
            draft.gathered.candidates,
            draft.gathered.question,
            self._settings,
            at_ms=draft.at_ms,
            limit=_REACHED_PER_ANSWERED * wanted.limit,
        )

        def passes(memory: Memory) -> bool:
            return expand.important_enough(memory, wanted) and self._in_reach(draft, memory)

        return (await self._added(draft, rows, seeds, passes))[: wanted.limit]

    def _reachable(self, draft: _Draft, link: Link) -> bool:
        wanted = draft.request.expansion
        return expand.strong_enough(link, wanted) and self._in_reach(draft, link.memory)

    def _in_reach(self, draft: _Draft, memory: Memory) -> bool:
        """An expansion leaves the tags unless told to respect them, nothing else."""
        scope = draft.request.scope
        if not draft.request.expansion.respect_tags:
            scope = replace(scope, tags=())
        return self._passes(scope, memory, draft.at_ms)

    async def _by_entities(
        self, draft: _Draft, rows: list[Scored]
    ) -> tuple[list[Scored], list[str]]:
        keys = expand.entity_keys(rows) if draft.request.expansion.entities else []
        if not keys:
            return [], []
        found = await self._graph.candidates.tagged(draft.tenant, keys, expand.PER_ENTITY)
        found = [(key, memory) for key, memory in found if self._in_reach(draft, memory)]
        added = expand.by_entities(
            found,
            _ids(rows),
            draft.gathered.candidates,
            draft.gathered.question,
            self._settings,
            at_ms=draft.at_ms,
        )
        added = await self._added(draft, added, rows, lambda memory: self._in_reach(draft, memory))
        return added, [key.rpartition(":")[2] for key in keys]

    async def _outside(
        self, draft: _Draft, present: Sequence[Scored], missing: int
    ) -> list[Scored]:
        """Fill up from outside the tags, where asked for and the scope gave too little."""
        request = draft.request
        if not (request.scope_fallback and request.scope.tags and request.texts and missing > 0):
            return []
        most = min(2 * request.limit, _FALLBACK_MOST)
        found = await self._gatherer.outside(draft.tenant, request, most, at_ms=draft.at_ms)
        known = await self._graph.candidates.read(draft.tenant, list(found))
        draft.known |= known
        free = replace(request.scope, tags=())

        def passes(memory: Memory) -> bool:
            return self._passes(free, memory, draft.at_ms) and not tagged(memory, request.scope)

        question = draft.gathered.question
        rows = [
            score(each.memory, found[key], question, self._settings, at_ms=draft.at_ms)
            for key, each in known.items()
            if passes(each.memory)
        ]
        added = await self._added(draft, rows, present, passes)
        return [row.noted(outside_tag_scope=True) for row in ordered(added, "score")[:missing]]

    async def _hydrated(self, draft: _Draft, rows: list[Scored]) -> Mapping[str, Hydrated]:
        """The answered memories whole, with their relations, in one query."""
        return await self._graph.memories.hydrate(
            draft.tenant,
            [row.id for row in rows],
            relation_limit=self._settings.relation_limit,
            at_ms=draft.at_ms if draft.request.scope.current else None,
        )


def _most(request: RecallRequest) -> int | None:
    """By score only as many different ones are looked at as may still be answered."""
    if request.sort != "score" or request.hints.ids:
        return None
    return _FINISHED_PER_RESULT * request.limit + _FINISHED_MORE


def _ids(rows: Sequence[Scored]) -> set[str]:
    return {row.id for row in rows}
