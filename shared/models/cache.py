"""CachedEmbedding: a question asked twice is embedded once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.models.embedding import EmbeddingModel, Vectors


class CachedEmbedding:
    """`model` with its query vectors kept, the least recently used dropped beyond `size`.

    Equal questions that arrive together share one call. Errors are not kept. The vectors
    are shared and therefore read-only.
    """

    def __init__(self, model: EmbeddingModel, size: int) -> None:
        self._model = model
        self._size = size
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Vectors]] = {}
        self.name = model.name
        self.dimension = model.dimension
        self.paid = model.paid

    def __len__(self) -> int:
        return len(self._kept)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return await self._model.embed(texts)

    async def embed_query(self, text: str) -> Vectors:
        if (kept := self._kept.get(text)) is not None:
            self._kept.move_to_end(text)
            return kept
        if (asking := self._asking.get(text)) is None:
            asking = asyncio.create_task(self._ask(text), name="embed query")
            self._asking[text] = asking
        # A caller that gives up must not take the answer from the others.
        return await asyncio.shield(asking)

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._model.close()

    async def _ask(self, text: str) -> Vectors:
        try:
            vector = await self._model.embed_query(text)
            vector.flags.writeable = False
            self._kept[text] = vector
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return vector
        finally:
            del self._asking[text]
