"""Vectors between JSON and the engine, checked before the engine sees them.

The engine would store NaN for a number beyond 32 bits, and panics over a sparse vector of
unequal lengths after its write-ahead log has taken the operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import qdrant_edge as edge
from pydantic import Field, model_validator

from .config import CollectionConfig
from .errors import wrong_input
from .wire import Number, Wire

# The third form is never made here: the engine's signatures ask for it.
NamedVector = list[float] | edge.SparseVector | list[list[float]]

_Index = Annotated[int, Field(ge=0, lt=2**32)]


class SparseVector(Wire):
    indices: list[_Index]
    values: list[Number]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.indices) != len(self.values):
            raise ValueError("indices must be as many as values")
        if len(set(self.indices)) != len(self.indices):
            raise ValueError("indices must be unique")
        return self


Vector = list[Number] | SparseVector


def engine_vector(vector: Vector, name: str, config: CollectionConfig) -> NamedVector:
    """Return the vector for the engine.

    Raises: ServerError where the collection has no vector of that name, kind and size, or the
    vector is zero and so has no direction.
    """
    is_sparse = isinstance(vector, SparseVector)
    if name in (config.vectors if is_sparse else config.sparse_vectors):
        raise wrong_input(f"Conversion between sparse and regular vectors failed: {name}")
    if name not in config.vectors and name not in config.sparse_vectors:
        raise wrong_input(f"Not existing vector name error: {name}")
    if isinstance(vector, SparseVector):
        return edge.SparseVector(vector.indices, vector.values)
    size = config.vectors[name].size
    if len(vector) != size:
        raise wrong_input(f"Vector dimension error: expected dim: {size}, got {len(vector)}")
    if not any(vector):
        raise wrong_input("Vector must not be zero for Cosine distance")
    return vector


def vector_json(vector: object) -> object:
    """Return a stored vector, or a point's named vectors, as Qdrant shows them."""
    if isinstance(vector, Mapping):
        return {name: vector_json(each) for name, each in vector.items()}
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector
