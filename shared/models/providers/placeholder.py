"""Hash vectors for tests and load generation; used only if named, never as a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from shared.models.types import EmbeddingModel, Vectors


class PlaceholderEmbedding(EmbeddingModel):
    """Equal texts get equal vectors, other texts nearly orthogonal ones, without any meaning."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.name = f"placeholder-{dimension}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
            # Normally distributed: uniform numbers in [0, 1) would have a cosine near 0.75.
            numbers = np.random.default_rng(seed).standard_normal(self.dimension, np.float32)
            vectors[row] = numbers / np.linalg.norm(numbers)
        return vectors

    async def close(self) -> None:
        """Nothing to close."""
