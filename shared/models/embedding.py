"""EmbeddingModel, and which one the settings ask for.

Invariant: a vector that leaves this package is the model's own, unit length and of the
announced dimension; whatever a provider answers otherwise is an error, never a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from shared.models.types import Vectors

if TYPE_CHECKING:
    from shared.models.circuit import Circuit


class EmbeddingModel(Protocol):
    """Text in, unit vectors out."""

    @property
    def name(self) -> str:
        """Stable identity: part of each `text_hash` and of the generation."""

    @property
    def dimension(self) -> int: ...

    @property
    def paid(self) -> bool:
        """Whether a call costs money or travels, so that waiting for a full batch pays."""

    @property
    def circuit(self) -> Circuit | None:
        """What keeps calls from a provider that is down; None where nothing is called."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, in input order: len(texts) × dimension, float32.

        Raises:
            TransientError: try again, after `retry_after_s` if given; Unavailable: all would
                fail alike.
            PermanentError: at least one text was refused; bisect to find which.
        """

    async def embed_query(self, text: str) -> Vectors:
        """The vector (of `dimension`) of a question; may differ from `embed` of its text."""

    async def close(self) -> None: ...
