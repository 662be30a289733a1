"""CandidateSource: the candidates of a recall, read from both stores in a bounded number of calls.

First the graph names the speakers and entities in the query (one call). Then, at the same time,
the vectors are searched (one batch for all query texts), and the graph looks for memories
without vectors, for metadata and for entities (one call each). All apply the scope before they
cut. Only the graph must answer: without vectors the newest memories with a word of the query
stand in, and the answer says that it is degraded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
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
# A recall waits so long for vectors, and for the model, before it answers without them. What
# the model gives later is cached for the next request.
_VECTORS_TIMEOUT_S = 1.2
_MODEL_TIMEOUT_S = 1.0

_QueryVectors = list[Vectors | Sequence[float]] | None


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Candidates by id, the query as scoring reads it, and whether vectors are missing.

    `full`: there may be more, since some channel returned as many as it was asked for.
    """

    question: Question
    candidates: dict[str, Candidate]
    entities: Sequence[KnownEntity] = ()
    degraded: bool = False
    full: bool = False


@dataclass(slots=True)
class CandidateSource:
    """Reads candidates from the stores; it scores nothing."""

    graph: GraphStore
    vectors: VectorStore
    models: ModelFollower
    settings: RecallSettings
    vectors_up: Callable[[], bool]

    async def read(self, tenant: str, request: RecallRequest, *, growth: int = 1) -> CandidateSet:
        """Return `growth` times as many of each text channel as the request needs.

        Raises: Unavailable("graph"); InvalidInput for an embedding of another dimension.
        """
        dimension = self.models.live.model.dimension
        if request.embedding is not None and len(request.embedding) != dimension:
            raise InvalidInput(f"Embedding must contain exactly {dimension} values")
        texts = texts_of(request)
        whole = " ".join(texts)
        speakers, entities = await self.graph.candidates.known(tenant, names(whole), grams(whole))
        entity_ids = [entity.id for entity in entities]
        question = Question(
            text=whole,
            texts=texts,
            tokens=tuple(query_tokens(texts)),
            terms=frozenset(metadata_tokens(whole)),
            speakers=named(whole, speakers),
            period=period_of(whole),
            entity_ids=frozenset(entity_ids),
            profile=profile_of(request.hints, whole),
        )
        terms = [term for term in metadata_tokens(whole) if len(term) > 2]
        terms = terms if self.settings.metadata_search else []
        (channels, degraded, full), (by_metadata, by_entity) = await asyncio.gather(
            self._search(tenant, request, question, growth),
            self.graph.candidates.lookups(tenant, terms, entity_ids, request.scope),
        )
        found = merged(map(fuse, channels))
        for kind, ids in (("metadata", by_metadata), ("entity", by_entity)):
            for key in ids:
                found.setdefault(key, without_text_match(key, kind, channels[0]))
        return CandidateSet(question, found, entities, degraded, full)

    async def read_with_any_tags(
        self, tenant: str, request: RecallRequest, limit: int
    ) -> dict[str, Candidate]:
        """Return candidates whatever their tags; two calls, and a third for excluded tags."""
        wider = replace(request, scope=request.scope.with_any_tags(), per_query_limit=limit)
        channels, _, _ = await self._search(tenant, wider, Question(texts=texts_of(request)))
        return merged(map(fuse, channels))

    async def _search(
        self, tenant: str, request: RecallRequest, question: Question, growth: int = 1
    ) -> tuple[list[Channels], bool, bool]:
        """Return the hits of each text, memories without vectors among them.

        The flags: vectors are missing; there may be more, since a channel is full.
        """
        query_words, scope = words(" ".join(question.texts)), request.scope
        wanted = self.settings.overfetch * request.per_query_limit
        fetch = growth * min(self.settings.fetch_cap, max(_MIN_FETCH, wanted))
        kept = growth * _UNEMBEDDED_KEPT
        (channels, degraded), without_vectors = await asyncio.gather(
            self._channels(tenant, request, question, fetch),
            self.graph.words.unembedded(tenant, query_words, _UNEMBEDDED_ROWS, scope=scope),
        )
        if degraded:
            without_vectors = await self.graph.words.newest(
                tenant, query_words, _DEGRADED_ROWS, scope=scope
            )
        full = len(without_vectors) > kept or any(each.longest >= fetch for each in channels)
        complete = [with_unembedded(each, without_vectors, kept) for each in channels]
        return complete, degraded, full

    async def _channels(
        self, tenant: str, request: RecallRequest, question: Question, fetch: int
    ) -> tuple[list[Channels], bool]:
        """Return the vector store's hits of each text, and whether any of them are missing."""
        # Model and generation are read once, since a switch may change both at any time.
        live, texts = self.models.live, question.texts
        vectors, excluded_tags = await asyncio.gather(
            self._query_vectors(live.model, request, question),
            self.graph.candidates.tag_keys(tenant, tag_keys(request.scope.exclude_tags)),
        )
        # The vector store compares whole segments of tags only.
        scope = replace(request.scope, exclude_tags=(*request.scope.exclude_tags, *excluded_tags))
        queries = list(_vector_queries(texts, vectors, fetch, scope))
        try:
            if live.generation is None or not self.vectors_up():
                raise Unavailable("vectors", "down")
            async with asyncio.timeout(_VECTORS_TIMEOUT_S):
                found = await self.vectors.search(tenant, queries, generation=live.generation)
        except (TransientError, TimeoutError):
            return [Channels(text, ()) for text in texts], True
        per_text = len(queries) // len(texts)
        hits = (found[at : at + per_text] for at in range(0, len(found), per_text))
        return [Channels(text, *each) for text, each in zip(texts, hits, strict=True)], not vectors

    async def _query_vectors(
        self, model: EmbeddingModel, request: RecallRequest, question: Question
    ) -> _QueryVectors:
        """Return one vector per text, a supplied one for each; None where the model gives none."""
        if request.embedding is not None:
            # The model may have been switched since the size was checked.
            fits = len(request.embedding) == model.dimension
            return [request.embedding] * len(question.texts) if fits else None
        texts = (without(text, question.speakers) for text in question.texts)
        try:
            async with asyncio.timeout(_MODEL_TIMEOUT_S):
                return list(await asyncio.gather(*map(model.embed_query, texts)))
        except (TransientError, PermanentError, TimeoutError):  # a model may also refuse a text
            return None


def _vector_queries(
    texts: Sequence[str], vectors: _QueryVectors, fetch: int, scope: Scope
) -> Iterable[VectorQuery]:
    """Yield a query by words for each text, each followed by its two by vector, if it has one."""
    for at, text in enumerate(texts):
        yield VectorQuery("bm25", sparse_query(text), fetch, scope)
        if vectors is not None:
            yield VectorQuery("dense", vectors[at], fetch, scope)
            yield VectorQuery("context", vectors[at], fetch, scope)


def texts_of(request: RecallRequest) -> tuple[str, ...]:
    """Return the texts to search for; a supplied embedding alone is one empty text."""
    texts = request.texts or ("",)
    if request.auto_decompose and len(request.texts) == 1:
        texts = tuple(dict.fromkeys((*texts, *decomposed(texts[0]))))
    return texts[:_MOST_TEXTS]


def with_unembedded(channels: Channels, unembedded: Sequence[Text], most: int) -> Channels:
    """Add memories without vectors to the words' channel, scored by the same BM25."""
    if not unembedded or not channels.text:
        return channels
    scores = bm25_scores(tokens(channels.text), [each.content for each in unembedded])
    ranked = sorted(
        (Hit(each.id, value) for each, value in zip(unembedded, scores, strict=True) if value > 0),
        key=lambda hit: (-hit.score, hit.id),
    )
    best = dict(channels.words)
    for hit in ranked[:most]:
        best[hit.id] = max(hit.score, best.get(hit.id, 0.0))
    return replace(channels, words=[Hit(*pair) for pair in best.items()])


def without_text_match(memory_id: str, kind: str, first: Channels) -> Candidate:
    """Return a candidate that no text channel found, with the lowest cosines of the first text."""
    return Candidate(
        id=memory_id,
        dense=min((hit.score for hit in first.dense or ()), default=0.0),
        context=min((hit.score for hit in first.context or ()), default=0.0),
        match_type=kind,
        query=first.text,
    )
