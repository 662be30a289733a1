"""Gathering: all roads to candidates side by side, in a fixed number of store calls.

First what the graph knows of the names in the query (one call); then at once the vectors
(one batch for all query texts), the not yet embedded, and metadata and entities (one call
each). All keep to the scope before they cut: with excluded tags the graph first says, while
the model works, which tags begin so (one call). What is down is left out and said so; only
the graph must answer. Who needs more than came asks again, with a wider net.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.memory.metadata import tokens as metadata_tokens
from services.api.recall.dates import period_of
from services.api.recall.profile import profile_of
from services.api.recall.rank import Candidate, Channels, Question, fuse, merged
from services.api.recall.request import RecallRequest
from services.api.recall.words import decomposed, grams, named, names, query_tokens, without
from shared.config import RecallSettings
from shared.domain.memory import tag_keys
from shared.domain.scope import Scope
from shared.errors import InvalidInput, PermanentError, TransientError, Unavailable
from shared.graph.recall.candidates import KnownEntity
from shared.graph.recall.word_index import Text
from shared.graph.store import GraphStore
from shared.models.embedding import EmbeddingModel
from shared.models.types import Vectors
from shared.vectors import Hit, VectorQuery, VectorStore
from shared.vectors.active_model import ModelFollower
from shared.vectors.sparse import bm25_scores, sparse_query, tokens, words

_MIN_FETCH = 50
_UNEMBEDDED_ROWS = 500
_UNEMBEDDED_KEPT = 50
_DEGRADED_ROWS = 20_000
_MOST_TEXTS = 10
# How long a recall waits for vectors before it answers without them.
_PATIENCE_S = 1.2
# And for the model that makes them; what comes later is kept for the next one who asks.
_MODEL_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Candidates by id, what is known of the query, and what could not be asked.

    `full`: there may be more, since some channel gave as many as it was asked for.
    """

    question: Question
    texts: tuple[str, ...]
    candidates: dict[str, Candidate]
    entities: tuple[KnownEntity, ...] = ()
    degraded: tuple[str, ...] = ()
    full: bool = False


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the text channels said, the not yet embedded among them."""

    channels: Sequence[Channels]
    degraded: tuple[str, ...]
    full: bool

    @property
    def candidates(self) -> dict[str, Candidate]:
        return merged(map(fuse, self.channels))


class CandidateSource:
    """Asks the stores for candidates; scores nothing."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        serving: ModelFollower,
        settings: RecallSettings,
        *,
        vectors_up: Callable[[], bool],
    ) -> None:
        self._vectors_up = vectors_up
        self._graph = graph
        self._vectors = vectors
        self._serving = serving
        self._settings = settings

    async def gather(self, tenant: str, request: RecallRequest, *, growth: int = 1) -> CandidateSet:
        """`growth` times as many of each text channel as the request needs.

        Raises: Unavailable("graph"), InvalidInput for an embedding of another size.
        """
        self._check_size(request.embedding)
        texts = texts_of(request)
        whole = " ".join(texts)
        known = await self._graph.candidates.known(tenant, names(whole), grams(whole))
        speakers = named(whole, known.speakers)
        heard, (by_metadata, by_entity) = await asyncio.gather(
            self._heard(tenant, request, texts, speakers, growth),
            self._roads(tenant, whole, [entity.id for entity in known.entities], request.scope),
        )
        found = heard.candidates
        for kind, ids in (("metadata", by_metadata), ("entity", by_entity)):
            for key in ids:
                found.setdefault(key, unheard(key, kind, heard.channels))
        question = Question(
            text=whole,
            tokens=tuple(query_tokens(texts)),
            terms=frozenset(metadata_tokens(whole)),
            speakers=speakers,
            period=period_of(whole),
            entity_ids=frozenset(entity.id for entity in known.entities),
            profile=profile_of(request.hints, whole),
        )
        return CandidateSet(question, texts, found, known.entities, heard.degraded, heard.full)

    async def outside(
        self, tenant: str, request: RecallRequest, limit: int
    ) -> dict[str, Candidate]:
        """Candidates whatever their tags, for when the scope is too small.

        Two calls, and a third for excluded tags.
        """
        free = replace(request, scope=request.scope.with_any_tags(), per_query_limit=limit)
        heard = await self._heard(tenant, free, texts_of(request), {})
        return heard.candidates

    async def _heard(
        self,
        tenant: str,
        request: RecallRequest,
        texts: Sequence[str],
        speakers: Mapping[str, float],
        growth: int = 1,
    ) -> _Heard:
        """Without vectors the newest that hold a word of the query stand in."""
        whole, degraded = " ".join(texts), list[str]()
        fetch, kept = growth * self._fetch(request), growth * _UNEMBEDDED_KEPT
        channels, fresh = await asyncio.gather(
            self._channels(tenant, request, texts, speakers, degraded, fetch),
            self._unembedded(tenant, whole, request.scope),
        )
        if "vector" in degraded:
            fresh = await self._graph.words.newest(
                tenant, list(words(whole)), _DEGRADED_ROWS, scope=request.scope
            )
        full = len(fresh) > kept or any(each.longest >= fetch for each in channels)
        with_all = [with_fresh(each, fresh, kept) for each in channels]
        return _Heard(with_all, tuple(degraded), full)

    async def _channels(
        self,
        tenant: str,
        request: RecallRequest,
        texts: Sequence[str],
        speakers: Mapping[str, float],
        degraded: list[str],
        fetch: int,
    ) -> list[Channels]:
        # One pair for question and answer, should another be switched to in between.
        live = self._serving.live
        vectors, unwanted = await asyncio.gather(
            self._query_vectors(live.model, request, texts, speakers, degraded),
            self._graph.candidates.tag_keys(tenant, tag_keys(request.scope.exclude_tags)),
        )
        # The vector store knows tags by whole segments only.
        excluded = (*request.scope.exclude_tags, *unwanted)
        scope = replace(request.scope, exclude_tags=excluded)
        queries: list[VectorQuery] = []
        for text, vector in zip(texts, vectors, strict=True):
            queries.append(VectorQuery("bm25", sparse_query(text), fetch, scope))
            if vector is not None:
                queries.append(VectorQuery("dense", vector, fetch, scope))
                queries.append(VectorQuery("context", vector, fetch, scope))
        try:
            if live.generation is None or not self._vectors_up():
                raise Unavailable("vectors", "down")
            async with asyncio.timeout(_PATIENCE_S):
                found = await self._vectors.search(tenant, queries, generation=live.generation)
        except (TransientError, TimeoutError):
            degraded.append("vector")
            return [Channels(text, ()) for text in texts]
        hits = iter(found)
        return [
            Channels(text, next(hits))
            if vector is None
            else Channels(text, next(hits), next(hits), next(hits))
            for text, vector in zip(texts, vectors, strict=True)
        ]

    async def _query_vectors(
        self,
        model: EmbeddingModel,
        request: RecallRequest,
        texts: Sequence[str],
        speakers: Mapping[str, float],
        degraded: list[str],
    ) -> list[Vectors | Sequence[float] | None]:
        """One vector per text; a supplied one stands for all. None where the model gives none."""
        if request.embedding is not None:
            if len(request.embedding) == model.dimension:
                return [request.embedding] * len(texts)
            degraded.append("vector")  # switched since its size was checked
            return [None] * len(texts)
        asked = [without(text, speakers) for text in texts]
        try:
            async with asyncio.timeout(_MODEL_PATIENCE_S):
                return list(await asyncio.gather(*map(model.embed_query, asked)))
        except (TransientError, PermanentError, TimeoutError):  # a text may also be refused
            degraded.append("vector")
            return [None] * len(texts)

    async def _unembedded(self, tenant: str, text: str, scope: Scope) -> list[Text]:
        return await self._graph.words.unembedded(
            tenant, list(words(text)), _UNEMBEDDED_ROWS, scope=scope
        )

    async def _roads(
        self, tenant: str, text: str, entity_ids: Sequence[str], scope: Scope
    ) -> tuple[list[str], list[str]]:
        terms: list[str] = []
        if self._settings.metadata_search:
            terms = [token for token in metadata_tokens(text) if len(token) > 2]
        return await self._graph.candidates.roads(tenant, terms, entity_ids, scope)

    def _fetch(self, request: RecallRequest) -> int:
        wanted = self._settings.overfetch * request.per_query_limit
        return min(self._settings.fetch_cap, max(_MIN_FETCH, wanted))

    def _check_size(self, embedding: Sequence[float] | None) -> None:
        dimension = self._serving.live.model.dimension
        if embedding is not None and len(embedding) != dimension:
            raise InvalidInput(f"Embedding must contain exactly {dimension} values")


def texts_of(request: RecallRequest) -> tuple[str, ...]:
    """What is searched for; a supplied embedding alone is one empty text."""
    texts = request.texts or ("",)
    if request.auto_decompose and len(request.texts) == 1:
        texts = tuple(dict.fromkeys((*texts, *decomposed(texts[0]))))
    return texts[:_MOST_TEXTS]


def with_fresh(channels: Channels, fresh: Sequence[Text], most: int) -> Channels:
    """The not yet embedded join the words' channel by the same BM25."""
    if not fresh or not channels.text:
        return channels
    scores = bm25_scores(tokens(channels.text), [each.content for each in fresh])
    ranked = sorted(
        (Hit(each.id, value) for each, value in zip(fresh, scores, strict=True) if value > 0),
        key=lambda hit: (-hit.score, hit.id),
    )
    known = dict(channels.words)
    for hit in ranked[:most]:
        known[hit.id] = max(hit.score, known.get(hit.id, 0.0))
    return replace(channels, words=[Hit(*pair) for pair in known.items()])


def unheard(memory_id: str, kind: str, channels: Sequence[Channels]) -> Candidate:
    """A candidate that no text channel named: no nearer than the furthest that one did."""
    first = channels[0] if channels else Channels("", ())
    return Candidate(
        id=memory_id,
        dense=min((hit.score for hit in first.dense or ()), default=0.0),
        context=min((hit.score for hit in first.context or ()), default=0.0),
        match_type=kind,
        query=first.text,
    )
