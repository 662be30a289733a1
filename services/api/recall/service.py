"""Recall: gather candidates side by side, hydrate them in one query, rank, answer.

A request makes a fixed number of store calls whatever its limit: one vector batch, one for
what is not embedded yet, one hydration. Without vectors the newest memories that hold a
query word stand in, and the answer says `degraded`; without the graph there is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.api.recall.rank import Candidate, Scored, fuse, ordered, score, visible, words_of
from services.api.recall.request import RecallRequest, Scope
from services.api.touch import Touches
from shared.config import RecallSettings
from shared.errors import TransientError
from shared.graph.memories import Text
from shared.graph.store import GraphStore
from shared.lexical import bm25_scores, sparse_query, tokens
from shared.memory import Memory, now_ms, tag_keys
from shared.models.embedding import EmbeddingModel
from shared.vectors import Hit, RecallFilter, VectorQuery, VectorStore

_MIN_FETCH = 50
_UNEMBEDDED_ROWS = 500
_DEGRADED_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall found, and what it had to do without."""

    rows: list[Scored]
    degraded: tuple[str, ...]
    vector_matched: bool


class Recall:
    """The use case behind GET /recall."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        model: EmbeddingModel,
        touches: Touches,
        settings: RecallSettings,
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._model = model
        self._touches = touches
        self._settings = settings
        self._excluded = frozenset(
            each.strip() for each in settings.excluded_types.split(",") if each.strip()
        )

    async def recall(self, tenant: str, request: RecallRequest) -> Recalled:
        """Raises: Unavailable("graph"); never an empty answer for a store that is down."""
        at_ms = now_ms()
        degraded: list[str] = []
        if request.texts or request.embedding:
            found = await self._search(tenant, request, at_ms, degraded)
            memories = await self._graph.memories.get(tenant, list(found))
        else:
            listed = await self._listed(tenant, request.scope, request.limit)
            memories = {memory.id: memory for memory in listed}
            found = {key: _trending(memories[key]) for key in memories}
        rows = self._ranked(request, found, memories, at_ms)
        self._touches.add(tenant, [row.memory.id for row in rows], at_ms)
        matched = any(row.candidate.source == "qdrant" for row in rows)
        return Recalled(rows, tuple(degraded), matched)

    async def _search(
        self, tenant: str, request: RecallRequest, at_ms: int, degraded: list[str]
    ) -> dict[str, Candidate]:
        text = " ".join(request.texts)
        by_vector, fresh = await asyncio.gather(
            self._by_vector(tenant, text, request, at_ms, degraded),
            self._unembedded(tenant, text),
        )
        if "vector" in degraded:
            fresh = await self._graph.memories.newest(tenant, _words(text), limit=_DEGRADED_ROWS)
        dense, context, words = by_vector
        ranked = {**dict(words)}
        for key, value in _bm25(text, fresh):
            ranked[key] = max(value, ranked.get(key, 0.0))
        return fuse(dense, context, ranked.items(), query=text)

    async def _by_vector(
        self,
        tenant: str,
        text: str,
        request: RecallRequest,
        at_ms: int,
        degraded: list[str],
    ) -> tuple[list[Hit], list[Hit], list[Hit]]:
        try:
            vector = request.embedding or await self._model.embed_query(text)
        except TransientError:
            degraded.append("embedding")
            vector = None
        fetch = self._fetch(request)
        scope = filter_of(request.scope, at_ms, self._excluded)
        queries = [VectorQuery("bm25", sparse_query(text), fetch, scope)]
        if vector is not None:
            queries += [VectorQuery(kind, vector, fetch, scope) for kind in ("dense", "context")]
        try:
            words, *dense = await self._vectors.search(tenant, queries)
        except TransientError:
            degraded.append("vector")
            return [], [], []
        return (dense[0], dense[1], words) if dense else ([], [], words)

    def _fetch(self, request: RecallRequest) -> int:
        wanted = self._settings.overfetch * request.per_query_limit
        return min(self._settings.fetch_cap, max(_MIN_FETCH, wanted))

    async def _unembedded(self, tenant: str, text: str) -> list[Text]:
        return await self._graph.memories.unembedded(tenant, _words(text), limit=_UNEMBEDDED_ROWS)

    async def _listed(self, tenant: str, scope: Scope, limit: int) -> list[Memory]:
        if scope.tags:
            return await self._graph.memories.by_tags(tenant, tag_keys(scope.tags), limit, 0)
        newest = await self._graph.memories.newest(tenant, [], limit=limit)
        return list((await self._graph.memories.get(tenant, [each.id for each in newest])).values())

    def _ranked(
        self,
        request: RecallRequest,
        found: dict[str, Candidate],
        memories: dict[str, Memory],
        at_ms: int,
    ) -> list[Scored]:
        terms = words_of(" ".join(request.texts))
        rows = [
            score(memory, found[key], terms, self._settings, at_ms=at_ms)
            for key, memory in memories.items()
            if visible(memory, request.scope, at_ms=at_ms, excluded_types=self._excluded)
        ]
        return ordered(rows, request.sort)[: request.limit]


def _words(text: str) -> list[str]:
    return list(tokens(text))


def _bm25(text: str, memories: Sequence[Text]) -> list[tuple[str, float]]:
    if not memories:
        return []
    scores = bm25_scores(tokens(text), [memory.content for memory in memories])
    return [(memory.id, value) for memory, value in zip(memories, scores, strict=True) if value > 0]


def _trending(memory: Memory) -> Candidate:
    return Candidate(id=memory.id, words=memory.importance, match_type="trending")


def filter_of(scope: Scope, at_ms: int, excluded: frozenset[str]) -> RecallFilter:
    """The scope as the vector store filters by it."""
    return RecallFilter(
        tags=scope.tags,
        tag_mode=scope.tag_mode,
        tag_match=scope.tag_match,
        exclude_tags=scope.exclude_tags,
        start_ms=scope.start_ms,
        end_ms=scope.end_ms,
        project=scope.project,
        session_id=scope.session_id,
        layer=scope.layer,
        exclude_types=tuple(sorted(excluded)),
        current_at_ms=at_ms if scope.current else None,
    )
