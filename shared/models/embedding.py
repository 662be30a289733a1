"""EmbeddingModel: the protocol of every embedding model.

Invariant: a vector that leaves this package has unit length and the announced dimension; any
other answer of a provider is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.models.circuit import Circuit
from shared.models.types import Vectors


class EmbeddingModel(Protocol):
    """A model that returns one unit vector per text."""

    @property
    def name(self) -> str:
        """The name that is part of each `text_hash` and of the generation; it never changes."""

    @property
    def dimension(self) -> int: ...

    @property
    def paid(self) -> bool:
        """Whether a call costs money or a network round trip, so that full batches are better."""

    @property
    def circuit(self) -> Circuit | None:
        """The circuit breaker of the provider; None for a model in this process."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in input order: len(texts) × dimension, float32.

        Raises:
            TransientError: try again, after `retry_after_s` if given; Unavailable: all would
                fail alike.
            PermanentError: at least one text was refused; bisect to find which.
        """

    async def embed_query(self, text: str) -> Vectors:
        """Return the vector (of `dimension`) of a question; may differ from `embed` of its text."""

    async def close(self) -> None: ...
