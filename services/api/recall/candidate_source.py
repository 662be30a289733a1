"""CandidateSource finds a recall's candidates in both stores and reads their memories.

First the graph names the speakers and entities in the query (one call). A look then searches the
vectors (one batch for all query texts), while the graph looks for memories without vectors, for
metadata and for entities (one call each). All apply the scope before they cut. Only the graph must
answer: without vectors the newest memories with a word of the query stand in, and the answer says
that it is degraded.

While too few of the memories found may be answered, it looks again with a wider net. The first
look also takes what is not current, since a memory that is not may lead to the one that replaced
it. Later looks keep to what is current, so that hidden, superseded or duplicate memories cannot
take all places.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from services.api.memory.metadata import tokens as metadata_tokens
from services.api.recall import finish
from services.api.recall.profile import profile_of
from services.api.recall.rank import Candidate, Channels, Draft, Question, fuse, merged, shortlist
from services.api.recall.request import RecallRequest
from services.api.recall.times import period_of
from services.api.recall.words import decomposed, grams, named, names, query_tokens, without
from shared.config import RecallSettings
from shared.domain.memory import tag_keys
from shared.domain.scope import Scope
from shared.errors import InvalidInput, PermanentError, TransientError
from shared.graph.records import Text
from shared.graph.store import GraphStore
from shared.models.types import EmbeddingModel, Vectors
from shared.vectors import Generation, Hit, VectorQuery, VectorStore
from shared.vectors.active_model import ModelFollower
from shared.vectors.sparse import bm25_scores, sparse_query, tokens, words

# Each further search fetches this many times as many candidates, while too few may be answered.
_NETS: Sequence[int] = (1, 4, 16)
_LISTING_NETS = (1, 4, 16, 64)
_LISTING_MOST = 2000
_MIN_READ = 120
_READ_PER_RESULT = 4
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


@dataclass(slots=True)
class CandidateSource:
    """Finds by text or vector, or lists where a request has neither; it scores nothing."""

    graph: GraphStore
    vectors: VectorStore
    models: ModelFollower
    settings: RecallSettings
    vectors_up: Callable[[], bool]

    async def run(self, draft: Draft) -> None:
        """Set the draft's question, candidates and stored memories.

        Raises: Unavailable("graph"); InvalidInput for an embedding of another dimension.
        """
        request = draft.request
        if request.texts or request.embedding:
            await self._read_question(draft)
            look, nets = self._search, _NETS
        else:
            draft.question = Question(profile=profile_of(request.hints, ""))
            look, nets = self._list, _LISTING_NETS
        for net in nets:
            scope = request.scope.at_any_time() if net == 1 else request.scope
            may_be_more = await look(draft, replace(request, scope=scope), net)
            await self.read(draft, (*draft.candidates, *request.hints.ids))
            if not may_be_more or _is_enough(draft):
                break

    async def read(self, draft: Draft, ids: Iterable[str]) -> bool:
        """Read the memories of `ids` that the draft lacks, in one query; whether any was found."""
        missing = [key for key in ids if key not in draft.stored]
        found = await self.graph.candidates.read(draft.tenant, missing, at_ms=draft.request.at_ms)
        draft.stored |= found
        return bool(found)

    async def with_any_tags(self, draft: Draft, limit: int) -> dict[str, Candidate]:
        """Return candidates whatever their tags; two calls, and a third for excluded tags."""
        request = draft.request
        wider = replace(request, scope=request.scope.with_any_tags(), per_query_limit=limit)
        texts = Question(texts=draft.question.texts)
        channels, _, _ = await self._channels(draft.tenant, wider, texts, net=1)
        return merged(map(fuse, channels))

    async def _list(self, draft: Draft, request: RecallRequest, net: int) -> bool:
        """Add what a list by importance or time holds; return whether it may go on."""
        size = min(_LISTING_MOST, net * (2 * request.limit + 10))
        order = request.sort.replace("updated", "time")
        memories = await self.graph.candidates.listing(draft.tenant, request.scope, size, order)
        kind = "tag" if request.scope.tags else "trending"
        draft.candidates |= {
            memory.id: Candidate(memory.id, words=memory.importance, match_type=kind)
            for memory in memories
        }
        return len(memories) == size < _LISTING_MOST

    async def _read_question(self, draft: Draft) -> None:
        """Set the question: a supplied embedding alone is one empty text."""
        request, dimension = draft.request, self.models.live.model.dimension
        if request.embedding is not None and len(request.embedding) != dimension:
            raise InvalidInput(f"Embedding must contain exactly {dimension} values")
        texts = request.texts or ("",)
        if request.auto_decompose and len(request.texts) == 1:
            texts = tuple(dict.fromkeys((*texts, *decomposed(texts[0]))))
        texts = texts[:_MOST_TEXTS]
        whole = " ".join(texts)
        speakers, draft.entities = await self.graph.candidates.speakers_and_entities(
            draft.tenant, names(whole), grams(whole)
        )
        draft.question = Question(
            text=whole,
            texts=texts,
            tokens=tuple(query_tokens(texts)),
            terms=frozenset(metadata_tokens(whole)),
            speakers=named(whole, speakers),
            period=period_of(whole),
            entity_ids=frozenset(entity["id"] for entity in draft.entities),
            profile=profile_of(request.hints, whole),
        )

    async def _search(self, draft: Draft, request: RecallRequest, net: int) -> bool:
        """Add what the stores find; return whether they may hold more."""
        question = draft.question
        terms = [term for term in metadata_tokens(question.text) if len(term) > 2]
        (channels, draft.degraded, full), (by_metadata, by_entity) = await asyncio.gather(
            self._channels(draft.tenant, request, question, net),
            self.graph.candidates.lookups(
                draft.tenant,
                terms if self.settings.metadata_search else [],
                [entity["id"] for entity in draft.entities],
                request.scope,
            ),
        )
        found = merged(map(fuse, channels))
        for kind, ids in (("metadata", by_metadata), ("entity", by_entity)):
            for key in ids:
                found.setdefault(key, _without_text_match(key, kind, channels[0]))
        most = net * max(_MIN_READ, _READ_PER_RESULT * request.limit)
        draft.candidates = merged([draft.candidates, shortlist(found, most)])
        return full or len(found) > most

    async def _channels(
        self, tenant: str, request: RecallRequest, question: Question, net: int
    ) -> tuple[list[Channels], bool, bool]:
        """Return the hits of each text, memories without vectors among them.

        The flags: vectors are missing; there may be more, since a channel is full.
        """
        # Model and generation are read once, since a switch may change both at any time.
        live, texts, scope = self.models.live, question.texts, request.scope
        query_words, graph = words(" ".join(texts)), self.graph.candidates
        # The memories without vectors are read before the vectors are searched, so that one of
        # the two finds a memory that is embedded meanwhile.
        vectors, without_vectors, excluded_tags = await asyncio.gather(
            self._query_vectors(live.model, request, question),
            graph.unembedded(tenant, query_words, _UNEMBEDDED_ROWS, scope=scope),
            graph.tag_keys(tenant, tag_keys(scope.exclude_tags)),
        )
        wanted = self.settings.overfetch * request.per_query_limit
        fetch = net * min(self.settings.fetch_cap, max(_MIN_FETCH, wanted))
        # The vector store compares whole segments of tags only.
        within = replace(scope, exclude_tags=(*scope.exclude_tags, *excluded_tags))
        queries = list(_vector_queries(texts, vectors, fetch, within))
        hits = await self._hits(tenant, queries, live.generation)
        degraded = hits is None or not vectors
        if degraded:
            without_vectors = await graph.newest(tenant, query_words, _DEGRADED_ROWS, scope=scope)
        per_text, of_all = len(queries) // len(texts), iter(hits or [()] * len(queries))
        channels = [Channels(text, *itertools.islice(of_all, per_text)) for text in texts]
        kept = net * _UNEMBEDDED_KEPT
        full = len(without_vectors) > kept or any(each.longest >= fetch for each in channels)
        complete = [_with_unembedded(each, without_vectors, kept) for each in channels]
        return complete, degraded, full

    async def _hits(
        self, tenant: str, queries: Sequence[VectorQuery], generation: Generation | None
    ) -> Sequence[Sequence[Hit]] | None:
        """Return the hits of each query; None where the vector store does not answer."""
        if generation is None or not self.vectors_up():
            return None
        try:
            async with asyncio.timeout(_VECTORS_TIMEOUT_S):
                return await self.vectors.search(tenant, queries, generation=generation)
        except (TransientError, TimeoutError):
            return None

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


def _with_unembedded(channels: Channels, unembedded: Sequence[Text], most: int) -> Channels:
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


def _without_text_match(memory_id: str, kind: str, first: Channels) -> Candidate:
    """Return a candidate that no text channel found, with the lowest cosines of the first text."""
    return Candidate(
        id=memory_id,
        dense=min((hit.score for hit in first.dense), default=0.0),
        context=min((hit.score for hit in first.context), default=0.0),
        match_type=kind,
        query=first.text,
    )


def _is_enough(draft: Draft) -> bool:
    """Whether enough different memories may be answered without a replacement."""
    request, different = draft.request, set[tuple[object, ...]]()
    history = request.scope.current_at_ms is None
    for each in draft.stored.values():
        if draft.is_answerable(each.memory) and (history or each.successor is None):
            different.add(finish.fingerprint(each.memory))
            if len(different) >= request.limit:
                return True
    return False
