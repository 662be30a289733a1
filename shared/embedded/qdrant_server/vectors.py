"""Vectors between JSON and the engine, checked before the engine sees them.

The checks cannot be left to the engine: it stores NaN, and a sparse vector of
unequal lengths panics inside it after the write-ahead log has taken the operation.
"""

from collections.abc import Mapping

import qdrant_edge as edge

from .config import CollectionConfig, DenseVector
from .errors import invalid, malformed, wrong_input
from .fields import fields, items, numbers, required

# The third form is never made here: the engine's signatures ask for it.
NamedVector = list[float] | edge.SparseVector | list[list[float]]
VectorStruct = dict[str, NamedVector]

_SPARSE = frozenset({"indices", "values"})
_U32 = 2**32


def is_sparse(value: object) -> bool:
    return isinstance(value, dict) and "indices" in value


def vector_struct(value: object, config: CollectionConfig) -> VectorStruct:
    """Return a point's vectors by name; the unnamed one goes by ""."""
    if isinstance(value, list):
        return {"": named_vector(value, "", config)}
    if not isinstance(value, dict) or is_sparse(value):
        raise malformed("vector: expected a list of numbers or an object of named vectors")
    return {name: named_vector(item, name, config) for name, item in value.items()}


def named_vector(value: object, name: str, config: CollectionConfig) -> NamedVector:
    """Return one vector for the vector name.

    Raises:
        ServerError: no such name, wrong kind or size, not finite, or zero where
            the distance is Cosine.
    """
    if name in config.sparse:
        return sparse_vector(value)
    return _dense(value, config.dense[known_name(name, config)])


def known_name(name: str, config: CollectionConfig) -> str:
    """Return the name of a vector that the collection has."""
    if name not in config.dense and name not in config.sparse:
        raise wrong_input(f"Not existing vector name error: {name}")
    return name


def _dense(value: object, params: DenseVector) -> list[float]:
    if is_sparse(value):
        raise wrong_input("Conversion between sparse and regular vectors failed")
    values = numbers(value, "vector")
    if len(values) != params.size:
        raise wrong_input(f"Vector dimension error: expected dim: {params.size}, got {len(values)}")
    if params.is_cosine and not any(values):
        raise wrong_input("Vector must not be zero for Cosine distance")
    return values


def sparse_vector(value: object) -> edge.SparseVector:
    if not is_sparse(value):
        raise wrong_input("Conversion between sparse and regular vectors failed")
    body = fields(value, "vector", _SPARSE)
    indices = items(body["indices"], "indices")
    values = numbers(required(body, "values", "vector"), "values")
    if len(indices) != len(values):
        raise invalid("indices: must be the same length as values")
    if len(set(map(_index, indices))) != len(indices):
        raise invalid("indices: must be unique")
    return edge.SparseVector(indices, values)  # type: ignore[arg-type]


def _index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _U32:
        raise malformed(f"indices: `{value}` is not an unsigned integer of 32 bits")
    return value


def vector_json(vector: object) -> object:
    """Return a stored vector, or a point's named vectors, as Qdrant shows them."""
    if isinstance(vector, Mapping):
        named = {name: vector_json(item) for name, item in vector.items()}
        return named[""] if named.keys() == {""} else named
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector
