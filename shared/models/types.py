"""Types that every model module shares.

Invariant: a vector that leaves this package has unit length and the announced dimension; any
other answer of a provider is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from shared.models.circuit import Circuit

Vectors = NDArray[np.float32]
# US dollars per million input tokens, or (input, output), by model.
Prices = Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a provider, and the limits of calls to it.

    `concurrency` is how many calls run at once; the others wait. Without `base_url` the provider's
    own address is used.
    """

    api_key: SecretStr | None = None
    base_url: str | None = None
    timeout_s: float = 30.0
    concurrency: int = 4
    prices: Prices | None = None

    @property
    def key(self) -> str:
        return self.api_key.get_secret_value() if self.api_key else ""


class EmbeddingModel(Protocol):
    """A model that returns one unit vector per text.

    `name` is part of each `text_hash` and of the generation; it never changes. A model is `paid`
    if a call costs money or a network round trip, so that full batches are better. `circuit` is
    the circuit breaker of the provider; None for a model in this process.
    """

    name: str
    dimension: int
    paid: bool = False
    circuit: Circuit | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in input order: len(texts) × dimension, float32.

        Raises: TransientError: try again, after `retry_after_s` if given; Unavailable: all would
        fail alike; PermanentError: at least one text was refused, bisect to find which.
        """

    async def embed_query(self, text: str) -> Vectors:
        """Return the vector (of `dimension`) of a question; may differ from `embed` of its text."""
        vector: Vectors = (await self.embed([text]))[0]
        return vector

    async def close(self) -> None: ...
