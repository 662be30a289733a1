"""Recall, the use case of GET /recall, as a list of steps over one draft.

CandidateSource finds candidates and reads their memories; rank scores them and replaces what is
superseded; expand adds what the results lead to; finish reads the results whole. The options of
a request bound the number of store calls, whatever its limit. Without vectors the answer is
degraded; without the graph there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.api.memory.access_times import AccessTimes
from services.api.recall import expand, finish
from services.api.recall.candidate_source import CandidateSource
from services.api.recall.rank import Candidate, Draft, Scored, ordered
from services.api.recall.request import RecallRequest
from shared.config import RecallSettings
from shared.domain.memory import Memory
from shared.domain.relations import AUTHORED
from shared.domain.scope import Scope, has_wanted_tags, is_visible
from shared.graph.store import GraphStore

# How many more rows than the limit are searched for duplicates and the floor.
_RANKED_PER_RESULT = 2
_RANKED_MORE = 20
_INJECTED = 6
_OUTSIDE_MOST = 100
# Some of the memories that relations reach are among the results already.
_REACHED_PER_ADDED = 2
# How many memories of a chain are read one after the other.
_MOST_HOPS = 16

_Passes = Callable[[Memory], bool]


@dataclass(slots=True)
class Recall:
    """The use case behind GET /recall."""

    graph: GraphStore
    candidates: CandidateSource
    access_times: AccessTimes
    settings: RecallSettings

    async def recall(self, tenant: str, request: RecallRequest) -> Draft:
        """Raises: Unavailable("graph"), InvalidInput; it never answers empty for a store down."""
        draft = Draft(tenant, request, self.settings)
        await self.candidates.run(draft)
        await self._rank(draft)
        await self._expand(draft)
        await self._finish(draft)
        return draft

    # -- rank ---------------------------------------------------------------------------

    async def _rank(self, draft: Draft) -> None:
        """Set the rows to the results in their order."""
        request = draft.request
        found = (each.memory for key, each in draft.stored.items() if key in draft.candidates)
        rows = _scored(draft, found)
        rows += await self._injected(draft, rows)
        rows = await self._replaced(draft, ordered(rows, "score"), draft.is_answerable)
        rows, draft.duplicates = finish.deduplicated(ordered(rows, "score"), _most_ranked(request))
        rows, draft.biased = finish.biased(
            rows, request.recency_bias, draft.question.texts, self.settings.weight_temporal
        )
        draft.rows = _cut(request, _floored(draft, rows))
        draft.seeds = len(draft.rows)

    async def _injected(self, draft: Draft, rows: list[Scored]) -> list[Scored]:
        """Return rows that fit the caller's context, where no row found so far does."""
        profile = draft.question.profile
        if profile is None:
            return []
        present, scope = _ids(rows), draft.request.scope
        extra = [draft.stored[key].memory for key in profile.ids if key in draft.stored]
        fitting = (row.memory for row in rows if profile.matches(row.memory))
        if profile.tags and not any(map(draft.is_answerable, fitting)):
            wider = Scope(
                tags=profile.tags,
                exclude_types=scope.exclude_types,
                current_at_ms=scope.current_at_ms,
            )
            extra += await self.graph.candidates.listing(draft.tenant, wider, _INJECTED)
        fresh = {memory.id: memory for memory in extra if memory.id not in present}
        injected = _scored(draft, fresh.values())
        draft.injected = bool(injected)
        return injected

    async def _replaced(
        self, draft: Draft, rows: Sequence[Scored], passes: _Passes
    ) -> list[Scored]:
        """Drop hidden rows, and replace superseded ones where the replacement passes."""
        if draft.request.scope.current_at_ms is None:
            return list(rows)
        await self.candidates.read(draft, (row.id for row in rows))
        for _ in range(_MOST_HOPS):
            successors = (each.successor for each in draft.stored.values() if each.successor)
            if not await self.candidates.read(draft, sorted({each.id for each in successors})):
                break
        allowed = {key for key, each in draft.stored.items() if passes(each.memory)}
        kept, hidden = finish.replace_superseded(
            rows, draft.stored, allowed, at_ms=draft.request.at_ms
        )
        for each in hidden:
            draft.suppressed.setdefault(each.id, each)
        return kept

    # -- expand -------------------------------------------------------------------------

    async def _expand(self, draft: Draft) -> None:
        """Append the memories that the rows lead to; on request also those outside the tags."""
        related = await self._related(draft)
        draft.related = len(related)
        draft.rows += related
        by_entity = await self._by_entities(draft)
        draft.entity_rows = len(by_entity)
        draft.rows += by_entity
        draft.rows += await self._outside_tags(draft)

    async def _related(self, draft: Draft) -> list[Scored]:
        wanted, scope = draft.request.expansion, _expansion_scope(draft)
        if not wanted.relations or not draft.rows:
            return []
        least_importance = wanted.min_importance or 0.0
        links = await self.graph.candidates.around(
            draft.tenant,
            [row.id for row in draft.rows],
            per_seed=wanted.relation_limit,
            relations=AUTHORED,
            scope=scope,
            least_strength=wanted.min_strength or 0.0,
            least_importance=least_importance,
        )
        reached = expand.by_relations(draft, links, limit=_REACHED_PER_ADDED * wanted.limit)

        def passes(memory: Memory) -> bool:
            return memory.importance >= least_importance and is_visible(memory, scope)

        return (await self._added(draft, reached, passes))[: wanted.limit]

    async def _by_entities(self, draft: Draft) -> list[Scored]:
        wanted = draft.request.expansion.entities
        keys = expand.entity_keys(draft.rows) if wanted else []
        if not keys:
            return []
        draft.entity_names = [key.rpartition(":")[2] for key in keys]
        scope = _expansion_scope(draft)
        tagged = await self.graph.candidates.tagged(draft.tenant, keys, expand.PER_ENTITY, scope)
        reached = expand.by_entities(draft, tagged)
        return await self._added(draft, reached, lambda memory: is_visible(memory, scope))

    async def _outside_tags(self, draft: Draft) -> list[Scored]:
        """Return rows from outside the tags, where the scope gave too few and it is wanted."""
        request, missing = draft.request, draft.request.limit - draft.seeds
        if not (request.scope_fallback and request.scope.tags and request.texts and missing > 0):
            return []
        draft.fell_back = True
        most = min(2 * request.limit, _OUTSIDE_MOST)
        found = await self.candidates.with_any_tags(draft, most)
        await self.candidates.read(draft, found)
        scope = request.scope.with_any_tags()

        def passes(memory: Memory) -> bool:
            return is_visible(memory, scope) and not has_wanted_tags(memory, request.scope)

        rows = [
            draft.scorer.score(draft.stored[key].memory, candidate)
            for key, candidate in found.items()
            if key in draft.stored and passes(draft.stored[key].memory)
        ]
        added = ordered(await self._added(draft, rows, passes), "score")[:missing]
        return [row.with_note(outside_tag_scope=True) for row in added]

    async def _added(self, draft: Draft, rows: Sequence[Scored], passes: _Passes) -> list[Scored]:
        """Return the `rows` that are current, not among the draft's, and score enough."""
        present = _ids(draft.rows)
        fresh = [row for row in await self._replaced(draft, rows, passes) if row.id not in present]
        kept = [row for row in fresh if row.final >= draft.request.min_score]
        draft.filtered_ids |= _ids(fresh) - _ids(kept)
        return kept

    # -- finish -------------------------------------------------------------------------

    async def _finish(self, draft: Draft) -> None:
        """Note the access times; read the answered memories and their relations in one query."""
        results = [row.id for row in draft.rows[: draft.seeds]]
        self.access_times.add(draft.tenant, results, draft.request.at_ms)
        draft.hydrated = await self.graph.memories.hydrate(
            draft.tenant,
            [row.id for row in draft.rows],
            relation_limit=self.settings.relation_limit,
            at_ms=draft.request.scope.current_at_ms,
        )


def _scored(draft: Draft, memories: Iterable[Memory]) -> list[Scored]:
    """Score those that the request may answer, or may replace by what superseded them."""
    scope, scorer = draft.request.scope.at_any_time(), draft.scorer
    return [
        scorer.score(
            memory,
            draft.candidates.get(memory.id) or Candidate(memory.id, match_type="priority_id"),
        )
        for memory in memories
        if is_visible(memory, scope)
    ]


def _floored(draft: Draft, rows: list[Scored]) -> list[Scored]:
    """Cut low scores; the adaptive floor looks at the rows that would be answered."""
    request = draft.request
    adaptive = request.adaptive_floor and request.sort == "score" and bool(request.texts)
    most = request.limit if request.sort == "score" else None
    kept = finish.floored(rows, adaptive=adaptive, min_score=request.min_score, most=most)
    draft.filtered_ids |= _ids(rows[:most]) - _ids(kept)
    return kept


def _cut(request: RecallRequest, rows: list[Scored]) -> list[Scored]:
    """Return the first `limit` in the wanted order; priority ids come first, in their order.

    A row that replaced a memory of a priority id counts as that memory.
    """
    place = {key: at for at, key in enumerate(request.hints.ids)}
    wanted = {
        row.id: place[key]
        for row in rows
        for key in (row.id, row.notes.get("state_replaces"))
        if key in place
    }
    first = sorted((row for row in rows if row.id in wanted), key=lambda row: wanted[row.id])
    rest = ordered((row for row in rows if row.id not in wanted), request.sort)
    return [*first, *rest][: max(request.limit, len(first))]


def _expansion_scope(draft: Draft) -> Scope:
    """Return the request's scope; expansions ignore its tags unless they shall respect them."""
    scope = draft.request.scope
    return scope if draft.request.expansion.respect_tags else scope.with_any_tags()


def _most_ranked(request: RecallRequest) -> int | None:
    """Return how many different rows are looked at; all, unless the score alone orders them."""
    if request.sort != "score" or request.hints.ids:
        return None
    return _RANKED_PER_RESULT * request.limit + _RANKED_MORE


def _ids(rows: Sequence[Scored]) -> set[str]:
    return {row.id for row in rows}
