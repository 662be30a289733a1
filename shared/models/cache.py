"""CachedEmbedding: keep vectors, so that a text is not embedded and paid for twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from shared.models.types import EmbeddingModel, Vectors
from shared.telemetry.metrics import MODEL_CACHE

# The limit of each cache in bytes: 5 461 vectors of 3 072 dimensions, 43 690 of 384.
_MAX_BYTES: Final = 64 * 1024 * 1024


class CachedEmbedding(EmbeddingModel):
    """`model` with the vectors of its last `queries` questions and `documents` texts kept.

    The least recently used are dropped first. Equal texts that are requested at the same time, in
    one batch or in several, share one call. Errors are not kept, and no caller gets the error of
    another caller's call. Vectors of questions are shared and therefore read-only.
    """

    def __init__(self, model: EmbeddingModel, queries: int = 0, documents: int = 0) -> None:
        self._model = model
        self._queries = _LeastRecentlyUsed(queries, model.name, "query")
        self._documents = _LeastRecentlyUsed(documents, model.name, "document")
        self._pending_queries: dict[str, asyncio.Task[Vectors]] = {}
        self._pending_texts: dict[str, asyncio.Future[dict[str, Vectors]]] = {}
        self.name = model.name
        self.dimension = model.dimension
        self.paid = model.paid
        self.circuit = model.circuit

    async def embed(self, texts: Sequence[str]) -> Vectors:
        found = self._documents.known(texts)
        while missing := [text for text in dict.fromkeys(texts) if text not in found]:
            pending = {self._pending_texts[text] for text in missing if text in self._pending_texts}
            if unrequested := [text for text in missing if text not in self._pending_texts]:
                found |= await self._embed(unrequested)
            if pending:
                await asyncio.wait(pending)
            for call in pending:
                # Empty if that call failed, perhaps at a text of its own: then we call for ours.
                found |= call.result()
        rows = [found[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)

    async def embed_query(self, text: str) -> Vectors:
        if (kept := self._queries.known([text]).get(text)) is not None:
            return kept
        if (call := self._pending_queries.get(text)) is None:
            call = asyncio.create_task(self._embed_query(text), name="embed query")
            self._pending_queries[text] = call
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(call)

    async def close(self) -> None:
        for task in list(self._pending_queries.values()):
            task.cancel()
        await asyncio.gather(*self._pending_queries.values(), return_exceptions=True)
        await self._model.close()

    async def _embed(self, texts: Sequence[str]) -> dict[str, Vectors]:
        call: asyncio.Future[dict[str, Vectors]] = asyncio.get_running_loop().create_future()
        self._pending_texts |= dict.fromkeys(texts, call)
        embedded: dict[str, Vectors] = {}
        try:
            vectors = await self._model.embed(texts)
            # Each row is copied: a view of one row would keep the whole batch in memory.
            embedded = {text: row.copy() for text, row in zip(texts, vectors, strict=True)}
        finally:
            for text in texts:
                del self._pending_texts[text]
            call.set_result(embedded)
        self._documents.keep(embedded)
        return embedded

    async def _embed_query(self, text: str) -> Vectors:
        try:
            vector = await self._model.embed_query(text)
            vector.flags.writeable = False
            self._queries.keep({text: vector})
            return vector
        finally:
            del self._pending_queries[text]


class _LeastRecentlyUsed:
    """At most `size` vectors by the hash of their text; drops the least recently used."""

    def __init__(self, size: int, model: str, kind: str) -> None:
        self._size = size
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._hits, self._misses = (
            MODEL_CACHE.labels(model=model, kind=kind, result=result) for result in ("hit", "miss")
        )

    def known(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors of those texts that are kept."""
        found = {}
        for text in dict.fromkeys(texts):
            key = _digest(text)
            if (vector := self._vectors.get(key)) is not None:
                self._vectors.move_to_end(key)
                found[text] = vector
        self._hits.inc(len(found))
        self._misses.inc(len(set(texts)) - len(found))
        return found

    def keep(self, vectors: dict[str, Vectors]) -> None:
        for text, vector in vectors.items():
            self._vectors[_digest(text)] = vector
            while len(self._vectors) > min(self._size, _MAX_BYTES // vector.nbytes):
                self._vectors.popitem(last=False)


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
