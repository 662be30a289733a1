"""The configuration of a collection: the creation request, the engine's, the one shown."""

from typing import Annotated, Any, Literal, Self

import qdrant_edge as edge
from pydantic import Field, model_validator

from .wire import Payload, Positive, Wire

_HNSW_M, _HNSW_EF_CONSTRUCT, _FULL_SCAN_THRESHOLD = 16, 100, 10_000
# KiB of vectors that a segment may hold unindexed, as Qdrant has it by default; at 384
# dimensions these are 6 800 vectors, which a full scan answers in under a millisecond.
_INDEXING_THRESHOLD_KIB = 10_000
# With two, each round would index everything again: 100 000 points took 500 s, with eight and
# int8 copies of the vectors 60 s, at equal quality.
_DEFAULT_SEGMENTS = 8


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
            hnsw_config=edge.HnswIndexConfig(
                _HNSW_M, _HNSW_EF_CONSTRUCT, _FULL_SCAN_THRESHOLD, max_indexing_threads=1
            ),
            optimizers=edge.EdgeOptimizersConfig(
                indexing_threshold=self.optimizers_config.indexing_threshold,
                default_segment_number=_DEFAULT_SEGMENTS,
            ),
            payload_memory=edge.Memory.Cached,
            quantization_config=edge.ScalarQuantizationConfig(
                edge.ScalarType.Int8, memory=edge.Memory.Cached
            ),
        )

    def shown(self) -> dict[str, Any]:
        """Return `config` of the collection info route."""
        return {
            "params": self.model_dump(include={"vectors", "sparse_vectors"}),
            "hnsw_config": {
                "m": _HNSW_M,
                "ef_construct": _HNSW_EF_CONSTRUCT,
                "full_scan_threshold": _FULL_SCAN_THRESHOLD,
            },
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": _DEFAULT_SEGMENTS,
                "indexing_threshold": self.optimizers_config.indexing_threshold,
                "flush_interval_sec": 5,
            },
            "metadata": self.metadata,
        }
