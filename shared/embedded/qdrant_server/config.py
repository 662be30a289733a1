"""The configuration of a collection: the creation request, the engine's, the answered one.

It also checks vectors before the engine sees them, which would store NaN for a number beyond 32
bits, and panics over a sparse vector of unequal lengths after it has logged the operation.
"""

from typing import Annotated, Any, Literal, Self

import qdrant_edge as edge
from pydantic import Field, model_validator

from .errors import wrong_input
from .wire import Number, Payload, Positive, Wire

_HNSW: dict[str, Any] = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
# KiB of vectors that a segment may hold unindexed, as Qdrant has it by default; at 384
# dimensions these are 6 800 vectors, which a full scan answers in under a millisecond.
_INDEXING_THRESHOLD_KIB = 10_000
# With two, each round would index everything again: 100 000 points took 500 s, with eight and
# int8 copies of the vectors 60 s, at equal quality.
_DEFAULT_SEGMENTS = 8
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


class DenseVectorConfig(Wire):
    size: Annotated[Positive, Field(le=65_536)]
    distance: Literal["Cosine"]


class SparseVectorConfig(Wire):
    modifier: Literal["idf"]


class OptimizersConfig(Wire):
    indexing_threshold: Annotated[int, Field(ge=0, lt=2**32)] = _INDEXING_THRESHOLD_KIB


class CollectionConfig(Wire):
    """The request that creates a collection, with named vectors only; stored as it came."""

    vectors: dict[str, DenseVectorConfig]
    sparse_vectors: dict[str, SparseVectorConfig] = Field(default_factory=dict)
    optimizers_config: OptimizersConfig = OptimizersConfig()
    metadata: Payload | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if self.vectors.keys() & self.sparse_vectors.keys():
            raise ValueError("dense and sparse vectors must have different names")
        return self

    @property
    def indexing_points(self) -> int | None:
        """Number of points from which the engine builds HNSW; None for never."""
        threshold_kib = self.optimizers_config.indexing_threshold
        largest = max((vector.size for vector in self.vectors.values()), default=0)
        if not largest or not threshold_kib:
            return None
        return threshold_kib * 1024 // (4 * largest) + 1

    def engine(self) -> edge.EdgeConfig:
        return edge.EdgeConfig(
            vectors={
                name: edge.EdgeVectorParams(size=vector.size, distance=edge.Distance.Cosine)
                for name, vector in self.vectors.items()
            },
            sparse_vectors={
                name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)
                for name in self.sparse_vectors
            },
            # Indexing runs beside the server on the same cores: one is its share.
            hnsw_config=edge.HnswIndexConfig(**_HNSW, max_indexing_threads=1),
            optimizers=edge.EdgeOptimizersConfig(
                indexing_threshold=self.optimizers_config.indexing_threshold,
                default_segment_number=_DEFAULT_SEGMENTS,
            ),
            payload_memory=edge.Memory.Cached,
            quantization_config=edge.ScalarQuantizationConfig(
                edge.ScalarType.Int8, memory=edge.Memory.Cached
            ),
        )

    def engine_vector(self, vector: Vector, name: str) -> NamedVector:
        """Return the vector for the engine.

        Raises: ServerError where the collection has no vector of that name, kind and size, or the
        vector is zero and so has no direction.
        """
        is_sparse = isinstance(vector, SparseVector)
        if name in (self.vectors if is_sparse else self.sparse_vectors):
            raise wrong_input(f"Conversion between sparse and regular vectors failed: {name}")
        if name not in self.vectors and name not in self.sparse_vectors:
            raise wrong_input(f"Not existing vector name error: {name}")
        if isinstance(vector, SparseVector):
            return edge.SparseVector(vector.indices, vector.values)
        size = self.vectors[name].size
        if len(vector) != size:
            raise wrong_input(f"Vector dimension error: expected dim: {size}, got {len(vector)}")
        if not any(vector):
            raise wrong_input("Vector must not be zero for Cosine distance")
        return vector

    def as_answer(self) -> dict[str, Any]:
        """Return `config` of the collection info route."""
        return {
            "params": self.model_dump(include={"vectors", "sparse_vectors"}),
            "hnsw_config": _HNSW,
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": _DEFAULT_SEGMENTS,
                "indexing_threshold": self.optimizers_config.indexing_threshold,
                "flush_interval_sec": 5,
            },
            "metadata": self.metadata,
        }
