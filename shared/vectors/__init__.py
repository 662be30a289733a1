"""The vectors of the memories: the only package that speaks Qdrant.

Invariant: every read is filtered by its tenant and every write reaches only points of its
tenant, and no write replaces what a newer payload_version wrote.
"""

from shared.vectors.filters import Hit, VectorQuery
from shared.vectors.generation import Generation, GenerationState, ListedGeneration
from shared.vectors.points import Point, StoredPoint, point_for
from shared.vectors.store import VectorStore

__all__ = [
    "Generation",
    "GenerationState",
    "Hit",
    "ListedGeneration",
    "Point",
    "StoredPoint",
    "VectorQuery",
    "VectorStore",
    "point_for",
]
