"""OpenAI's embeddings, and everything that speaks their protocol (Ollama, vLLM, LiteLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.models.circuit import Circuit
from shared.models.outbound import HARMLESS, isolate_bad_input, vectors_of
from shared.models.prices import Meter
from shared.models.providers.openai_client import is_official, observed_openai_call
from shared.models.types import EmbeddingModel, Endpoint, Vectors

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_NATIVE_DIMENSION: Final = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}


class OpenAIEmbedding(EmbeddingModel):
    """One model of an OpenAI-compatible endpoint.

    `dimension` is `requested_dimension`, which only OpenAI's own address is sent, else the first
    answer's dimension, and 0 until then.
    Texts beyond the model's limit are refused by the provider, which is a PermanentError.
    """

    paid = True
    circuit: Circuit

    def __init__(
        self,
        model: str,
        client: AsyncOpenAI,
        endpoint: Endpoint,
        requested_dimension: int | None = None,
    ) -> None:
        self._model = model
        self._client = client
        # `dimensions` and base64 only where the endpoint is OpenAI's own.
        self._options: Any = {"encoding_format": "float"}
        if is_official(endpoint.base_url):
            sized = {} if requested_dimension is None else {"dimensions": requested_dimension}
            self._options = {"encoding_format": "base64", **sized}
        self._timeout_s = endpoint.timeout_s
        self._meter = Meter(model, endpoint.prices)
        self.circuit = Circuit("embedding", model, concurrency=endpoint.concurrency)
        self.dimension = requested_dimension or 0
        native = _NATIVE_DIMENSION.get(model, requested_dimension)
        shortened = requested_dimension is not None and requested_dimension != native
        # The same text has other vectors at another dimension: the name says so.
        self.name = f"{model}@{requested_dimension}" if shortened else model

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        async with self.circuit.call():
            return await isolate_bad_input(self._request, list(texts), [HARMLESS])

    async def _request(self, texts: list[str]) -> Vectors:
        async with observed_openai_call("embedding", self._model, self._timeout_s):
            raw = await self._client.embeddings.with_raw_response.create(
                model=self._model, input=texts, **self._options
            )
            vectors, spent = vectors_of(
                raw.http_response.content, len(texts), self.dimension or None
            )
        self.dimension = vectors.shape[1]
        self._meter.spent(input=spent)
        return vectors

    async def close(self) -> None:
        await self._client.close()


def sized_model(
    model: str, base_url: str | None, size: int | None, preferred: int | None
) -> tuple[str, int | None]:
    """Return the model's name and the dimension to request; None accepts what the model gives.

    Only OpenAI's own text-embedding-3-* take one. As in AutoMem, -small becomes
    -large where VECTOR_SIZE is beyond its 1536.
    """
    if not is_official(base_url) or model not in _NATIVE_DIMENSION:
        return model, None
    if size is not None and model == "text-embedding-3-small" and size > 1536:
        model = "text-embedding-3-large"
    wanted = size or preferred
    servable = wanted is not None and wanted <= _NATIVE_DIMENSION[model]
    return model, wanted if servable else _NATIVE_DIMENSION[model]
