"""Recall: gather, read once, rank, let what is superseded make way, expand, finish.

The number of store calls has a bound that the request's options set, whatever its limit: where
what is hidden or repeated leaves too few, is looked again a few times with a wider net, and a
chain is followed for some hops. Without vectors the newest memories that hold a query word
stand in, and the answer says so; without the graph there is no answer. Ranking itself is in
pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.api.memory.access_times import AccessTimes
from services.api.recall import expand, finish, state
from services.api.recall.find import Finder
from services.api.recall.gather import CandidateSet, CandidateSource
from services.api.recall.rank import (
    Candidate,
    Question,
    Scored,
    ordered,
    score,
)
from services.api.recall.request import RecallRequest
from shared.config import RecallSettings
from shared.domain.memory import Memory
from shared.domain.relations import AUTHORED
from shared.domain.scope import Scope, has_wanted_tags, is_visible
from shared.graph.recall.candidates import KnownEntity, StoredCandidate
from shared.graph.records import Hydrated
from shared.graph.store import GraphStore
from shared.vectors import VectorStore
from shared.vectors.active_model import ModelFollower

# How far beyond the limit repeats and floors are looked for.
_FINISHED_PER_RESULT = 2
_FINISHED_MORE = 20
_INJECTED = 6
_FALLBACK_MOST = 100
# Of what relations reach, some makes way for what is there already.
_REACHED_PER_ANSWERED = 2


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
    pool: int = 0
    injected: bool = False


@dataclass(slots=True)
class _Draft:
    """What is being put together for one request."""

    tenant: str
    request: RecallRequest
    gathered: CandidateSet
    known: dict[str, StoredCandidate]
    rows: list[Scored]
    suppressed: list[state.Suppressed] = field(default_factory=list)
    filtered: set[str] = field(default_factory=set)
    injected: bool = False

    @property
    def at_ms(self) -> int:
        return self.request.at_ms

    @property
    def reach(self) -> Scope:
        """Where expansions may go: they leave the tags unless told to respect them."""
        scope = self.request.scope
        return scope if self.request.expansion.respect_tags else scope.with_any_tags()

    def answerable(self, memory: Memory) -> bool:
        return is_visible(memory, self.request.scope)


class Recall:
    """The use case behind GET /recall."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        serving: ModelFollower,
        touches: AccessTimes,
        settings: RecallSettings,
        *,
        vectors_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._graph = graph
        self._touches = touches
        self._settings = settings
        self._gatherer = CandidateSource(
            graph,
            vectors,
            serving,
            settings,
            vectors_up=vectors_up,
        )
        self._finder = Finder(graph.candidates, self._gatherer)

    async def recall(self, tenant: str, request: RecallRequest) -> Recalled:
        """Raises: Unavailable("graph"), InvalidInput; never an empty answer for a store down."""
        draft = await self._draft(tenant, request)
        await self._inject(draft)
        rows = await self._settled(draft, ordered(draft.rows, "score"), draft.answerable)
        rows, removed = finish.deduplicated(ordered(rows, "score"), _most(request))
        weight = self._settings.weight_temporal
        rows, biased = finish.biased(rows, request.recency_bias, draft.gathered.texts, weight)
        seeds = self._cut(request, self._floored(draft, rows))
        related = await self._related(draft, seeds)
        by_entity, names = await self._by_entities(draft, [*seeds, *related])
        found = [*seeds, *related, *by_entity]
        outside = await self._outside(draft, found, request.limit - len(seeds))
        final = [*found, *(outside or ())]
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
            fell_back=outside is not None,
            injected=draft.injected,
            pool=sum(each.match_type == "vector" for each in draft.gathered.candidates.values()),
        )

    async def _draft(self, tenant: str, request: RecallRequest) -> _Draft:
        gathered, known = await self._finder.find(tenant, request)
        draft = _Draft(tenant, request, gathered, known, [])
        found = (each.memory for key, each in known.items() if key in gathered.candidates)
        draft.rows = self._in_scope(draft, found)
        return draft

    def _in_scope(self, draft: _Draft, memories: Iterable[Memory]) -> list[Scored]:
        """Rows for those that the request may answer, or whose successors it may."""
        scope = draft.request.scope.at_any_time()
        return [self._score(draft, each) for each in memories if is_visible(each, scope)]

    def _score(self, draft: _Draft, memory: Memory) -> Scored:
        candidate = draft.gathered.candidates.get(memory.id) or Candidate(
            memory.id, match_type="priority_id"
        )
        question = draft.gathered.question
        return score(memory, candidate, question, self._settings, at_ms=draft.at_ms)

    async def _settled(
        self, draft: _Draft, rows: Sequence[Scored], passes: Callable[[Memory], bool]
    ) -> list[Scored]:
        """What is hidden makes way for heads that pass; a chain is followed for a few reads."""
        if draft.request.scope.current_at_ms is None:
            return list(rows)
        draft.known |= await self._finder.unread(
            draft.tenant, (row.id for row in rows), draft.known
        )
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
        fitting = (row.memory for row in draft.rows if profile.matches(row.memory))
        if profile.tags and not any(map(draft.answerable, fitting)):
            asked = draft.request.scope
            scope = Scope(
                tags=profile.tags,
                exclude_types=asked.exclude_types,
                current_at_ms=asked.current_at_ms,
            )
            extra += await self._graph.candidates.listing(draft.tenant, scope, _INJECTED)
        fresh = {memory.id: memory for memory in extra if memory.id not in present}
        rows = self._in_scope(draft, fresh.values())
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
        wanted = {row.id: place[key] for row in rows for key in _names(row) if key in place}
        first = sorted((row for row in rows if row.id in wanted), key=lambda row: wanted[row.id])
        rest = ordered((row for row in rows if row.id not in wanted), request.sort)
        return [*first, *rest][: max(request.limit, len(first))]

    async def _related(self, draft: _Draft, seeds: list[Scored]) -> list[Scored]:
        wanted = draft.request.expansion
        if not wanted.relations or not seeds:
            return []
        reach = draft.reach
        links = await self._graph.candidates.around(
            draft.tenant,
            [row.id for row in seeds],
            per_seed=wanted.relation_limit,
            relations=AUTHORED,
            scope=reach.at_any_time(),
            at_ms=reach.current_at_ms,
            least_strength=wanted.min_strength or 0.0,
            least_importance=wanted.min_importance or 0.0,
        )
        rows = expand.by_relations(
            seeds,
            links,
            draft.gathered.candidates,
            draft.gathered.question,
            self._settings,
            at_ms=draft.at_ms,
            limit=_REACHED_PER_ANSWERED * wanted.limit,
        )

        def passes(memory: Memory) -> bool:
            return expand.important_enough(memory, wanted) and is_visible(memory, reach)

        return (await self._added(draft, rows, seeds, passes))[: wanted.limit]

    async def _by_entities(
        self, draft: _Draft, rows: list[Scored]
    ) -> tuple[list[Scored], list[str]]:
        keys = expand.entity_keys(rows) if draft.request.expansion.entities else []
        if not keys:
            return [], []
        reach = draft.reach
        found = await self._graph.candidates.tagged(
            draft.tenant,
            keys,
            expand.PER_ENTITY,
            scope=reach.at_any_time(),
            at_ms=reach.current_at_ms,
        )
        added = expand.by_entities(
            found,
            _ids(rows),
            draft.gathered.candidates,
            draft.gathered.question,
            self._settings,
            at_ms=draft.at_ms,
        )
        added = await self._added(draft, added, rows, lambda memory: is_visible(memory, reach))
        return added, [key.rpartition(":")[2] for key in keys]

    async def _outside(
        self, draft: _Draft, present: Sequence[Scored], missing: int
    ) -> list[Scored] | None:
        """Fill up from outside the tags; None where not asked for, or the scope gave enough."""
        request = draft.request
        if not (request.scope_fallback and request.scope.tags and request.texts and missing > 0):
            return None
        most = min(2 * request.limit, _FALLBACK_MOST)
        found = await self._gatherer.outside(draft.tenant, request, most)
        known = await self._graph.candidates.read(draft.tenant, list(found))
        draft.known |= known
        free = request.scope.with_any_tags()

        def passes(memory: Memory) -> bool:
            return is_visible(memory, free) and not has_wanted_tags(memory, request.scope)

        question = draft.gathered.question
        rows = [
            score(each.memory, found[key], question, self._settings, at_ms=draft.at_ms)
            for key, each in known.items()
            if passes(each.memory)
        ]
        added = await self._added(draft, rows, present, passes)
        return [row.with_note(outside_tag_scope=True) for row in ordered(added, "score")[:missing]]

    async def _hydrated(self, draft: _Draft, rows: list[Scored]) -> Mapping[str, Hydrated]:
        """The answered memories whole, with their relations, in one query."""
        return await self._graph.memories.hydrate(
            draft.tenant,
            [row.id for row in rows],
            relation_limit=self._settings.relation_limit,
            at_ms=draft.request.scope.current_at_ms,
        )


def _most(request: RecallRequest) -> int | None:
    """By score only as many different ones are looked at as may still be answered."""
    if request.sort != "score" or request.hints.ids:
        return None
    return _FINISHED_PER_RESULT * request.limit + _FINISHED_MORE


def _names(row: Scored) -> tuple[object, ...]:
    """Its id, and the one in whose place it stands."""
    return row.id, row.notes.get("state_replaces")


def _ids(rows: Sequence[Scored]) -> set[str]:
    return {row.id for row in rows}
