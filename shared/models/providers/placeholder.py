"""Hash vectors for tests and load generation; used only if named, never as a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from shared.models.types import Vectors


class PlaceholderEmbedding:
    """Equal texts get equal vectors, other texts nearly orthogonal ones, without any meaning."""

    paid = False
    circuit = None

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.name = f"placeholder-{dimension}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        return self._vector(text)

    async def close(self) -> None:
        """Nothing to close."""

    def _vector(self, text: str) -> Vectors:
        # Normally distributed: numbers that are uniform in [0, 1) would have a cosine near 0.75.
        seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
        numbers = np.random.default_rng(seed).standard_normal(self.dimension, np.float32)
        unit: Vectors = numbers / np.linalg.norm(numbers)
        return unit
