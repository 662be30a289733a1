"""Voyage's embeddings over REST; it embeds questions and documents differently."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

import aiohttp
import numpy as np

from shared.errors import TransientError, Unavailable
from shared.models.circuit import Circuit
from shared.models.outbound import (
    HARMLESS,
    error_of_status,
    isolate_bad_input,
    observed_call,
    vectors_of,
)
from shared.models.prices import Meter
from shared.models.types import EmbeddingModel, Endpoint, Vectors

URL: Final = "https://api.voyageai.com/v1"
DIMENSIONS: Final = (256, 512, 1024, 2048)
_DEFAULT_DIMENSION: Final = 1024
_INPUTS_PER_CALL: Final = 128


class VoyageEmbedding(EmbeddingModel):
    """One of Voyage's models at one of `DIMENSIONS`."""

    paid = True
    circuit: Circuit

    def __init__(
        self, model: str, endpoint: Endpoint, *, dimension: int = _DEFAULT_DIMENSION
    ) -> None:
        self._model = model
        self._url = f"{(endpoint.base_url or URL).rstrip('/')}/embeddings"
        self._headers = {"Authorization": f"Bearer {endpoint.key}"}
        self._timeout_s = endpoint.timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._meter = Meter(model, endpoint.prices)
        self.circuit = Circuit("embedding", model, concurrency=endpoint.concurrency)
        self.dimension = dimension
        self.name = model if dimension == _DEFAULT_DIMENSION else f"{model}@{dimension}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        parts = [
            await self._embed(texts[start : start + _INPUTS_PER_CALL], "document")
            for start in range(0, len(texts), _INPUTS_PER_CALL)
        ]
        return np.concatenate([np.empty((0, self.dimension), np.float32), *parts])

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self._embed([text], "query"))[0]
        return vector

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _embed(self, texts: Sequence[str], kind: Literal["document", "query"]) -> Vectors:
        async with self.circuit.call():
            request = partial(self._request, kind=kind)
            return await isolate_bad_input(request, list(texts), [HARMLESS])

    async def _request(self, texts: list[str], kind: Literal["document", "query"]) -> Vectors:
        body = {
            "input": texts,
            "model": self._model,
            "input_type": kind,
            "output_dimension": self.dimension,
        }
        async with observed_call("embedding", self._model, self._timeout_s):
            content = await self._post(body)
            vectors, spent = vectors_of(content, len(texts), self.dimension)
        self._meter.spent(input=spent)
        return vectors

    async def _post(self, body: dict[str, Any]) -> bytes:
        if self._session is None:  # made here: a session belongs to the running loop
            self._session = aiohttp.ClientSession(headers=self._headers)
        try:
            async with self._session.post(self._url, json=body) as response:
                content = await response.read()
                if response.status == 200:
                    return content
                headers = {name.lower(): value for name, value in response.headers.items()}
                raise error_of_status("embedding", response.status, None, headers)
        except aiohttp.ClientPayloadError as error:
            raise TransientError("embedding: the answer was cut off") from error
        except aiohttp.ClientError as error:
            raise Unavailable(
                "embedding", f"{self._model} cannot be reached ({type(error).__name__})"
            ) from error


def served_dimension(size: int | None, preferred: int | None) -> int:
    """`size` or `preferred` if Voyage serves it, else the default, which the opener refuses."""
    return next((each for each in (size, preferred) if each in DIMENSIONS), _DEFAULT_DIMENSION)
