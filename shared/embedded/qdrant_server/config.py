"""A collection's configuration: the client's JSON, the engine's config, the info route.

The JSON a collection was created with is what is stored; everything else here is
derived from it.
"""

from dataclasses import dataclass

import qdrant_edge as edge

from .errors import invalid, malformed, unsupported
from .fields import JsonObject, chosen, fields, objects, optional, required, whole

_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
_MODIFIERS = {"none": None, "idf": edge.Modifier.Idf}

# Meaningless on one node; accepted so that the same creation call works here.
_IGNORED = frozenset(
    {"shard_number", "sharding_method", "replication_factor", "write_consistency_factor"}
    | {"on_disk_payload", "wal_config", "strict_mode_config", "metadata"}
    | {"payload", "id_tracker"}
)
_COLLECTION = _IGNORED | {
    "vectors",
    "sparse_vectors",
    "hnsw_config",
    "optimizers_config",
    "quantization_config",
}
_DENSE = frozenset(
    {"size", "distance", "hnsw_config", "quantization_config", "on_disk", "memory"}
    | {"datatype", "multivector_config"}
)
_HNSW = frozenset(
    {"m", "ef_construct", "full_scan_threshold", "max_indexing_threads"}
    | {"on_disk", "memory", "payload_m", "inline_storage"}
)
_OPTIMIZERS = frozenset(
    {"deleted_threshold", "vacuum_min_vector_number", "default_segment_number"}
    | {"max_segment_size", "memmap_threshold", "indexing_threshold", "flush_interval_sec"}
    | {"max_optimization_threads", "prevent_unoptimized"}
)

_HNSW_DEFAULTS: dict[str, int] = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
# KiB of vectors a segment may hold unindexed. Qdrant's default; at 384 dimensions
# these are 6 800 vectors, which a full scan answers in under a millisecond.
_INDEXING_THRESHOLD_KIB = 10_000
# With two, each round would index everything again: 100 000 points took 500 s, with eight and
# int8 copies of the vectors 60 s, at equal quality.
_DEFAULT_SEGMENTS = 8
_MAX_DIMENSION = 65_536


@dataclass(frozen=True)
class DenseVector:
    size: int
    is_cosine: bool


@dataclass(frozen=True)
class CollectionConfig:
    """What a collection was created with, checked and made ready for use."""

    source: JsonObject
    dense: dict[str, DenseVector]
    sparse: frozenset[str]
    indexing_threshold_kib: int

    @property
    def indexing_points(self) -> int | None:
        """Number of points from which the engine builds HNSW; None: never."""
        largest = max((vector.size for vector in self.dense.values()), default=0)
        if not largest or not self.indexing_threshold_kib:
            return None
        return self.indexing_threshold_kib * 1024 // (4 * largest) + 1


def read_config(value: object) -> CollectionConfig:
    """Check a creation request.

    Raises:
        ServerError: a field is unknown, out of bounds or beyond the embedded server.
    """
    source = fields(value, "collection", _COLLECTION)
    if "quantization_config" in source:
        raise unsupported("quantization_config")
    dense = {name: _dense(item) for name, item in _dense_items(source).items()}
    sparse = _sparse_items(source)
    for item in sparse.values():
        _sparse_params(item)
    if dense.keys() & sparse.keys():
        raise malformed("dense and sparse vectors must have different names")
    return CollectionConfig(source, dense, frozenset(sparse), _indexing_threshold(source))


def engine_config(config: CollectionConfig) -> edge.EdgeConfig:
    source = config.source
    return edge.EdgeConfig(
        vectors={name: _dense_params(item) for name, item in _dense_items(source).items()},
        sparse_vectors={name: _sparse_params(item) for name, item in _sparse_items(source).items()},
        hnsw_config=_hnsw(source.get("hnsw_config")),
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=config.indexing_threshold_kib,
            default_segment_number=_DEFAULT_SEGMENTS,
        ),
        payload_memory=edge.Memory.Cached,
        quantization_config=edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, memory=edge.Memory.Cached
        ),
    )


def config_json(config: CollectionConfig) -> JsonObject:
    """Return `config` of the collection info route."""
    source = config.source
    params: JsonObject = {
        "vectors": source.get("vectors", {}),
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": False,
    }
    if config.sparse:
        params["sparse_vectors"] = source["sparse_vectors"]
    return {
        "params": params,
        "hnsw_config": _HNSW_DEFAULTS | _set_fields(source, "hnsw_config", _HNSW),
        "optimizer_config": _optimizers_json(config),
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
        "quantization_config": None,
        "metadata": source.get("metadata"),
    }


def _optimizers_json(config: CollectionConfig) -> JsonObject:
    return {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": _DEFAULT_SEGMENTS,
        "indexing_threshold": config.indexing_threshold_kib,
        "flush_interval_sec": 5,
    }


def _set_fields(source: JsonObject, name: str, known: frozenset[str]) -> JsonObject:
    return fields(source.get(name) or {}, name, known)


def _indexing_threshold(source: JsonObject) -> int:
    optimizers = _set_fields(source, "optimizers_config", _OPTIMIZERS)
    return optional(optimizers, "indexing_threshold", whole, _INDEXING_THRESHOLD_KIB)


def _dense_items(source: JsonObject) -> JsonObject:
    """Return the dense vectors by name; a single unnamed one goes by ""."""
    vectors = objects(source.get("vectors", {}), "vectors")
    return {"": vectors} if "size" in vectors else vectors


def _sparse_items(source: JsonObject) -> JsonObject:
    return objects(source.get("sparse_vectors", {}), "sparse_vectors")


def _dense(value: object) -> DenseVector:
    body = fields(value, "vectors", _DENSE)
    size = whole(required(body, "size", "vectors"), "vectors.size", minimum=1)
    if size > _MAX_DIMENSION:
        raise invalid(f"vectors.size: value {size} invalid, must be from 1 to {_MAX_DIMENSION}")
    _dense_params(value)
    return DenseVector(size, is_cosine=body["distance"] == "Cosine")


def _dense_params(value: object) -> edge.EdgeVectorParams:
    body = fields(value, "vectors", _DENSE)
    for name in ("quantization_config", "multivector_config"):
        if name in body:
            raise unsupported(name)
    return edge.EdgeVectorParams(
        size=whole(required(body, "size", "vectors"), "size"),
        distance=chosen(required(body, "distance", "vectors"), "distance", _DISTANCES),
        datatype=chosen(body["datatype"], "datatype", _DATATYPES) if "datatype" in body else None,
        hnsw_config=_hnsw(body["hnsw_config"]) if "hnsw_config" in body else None,
    )


def _sparse_params(value: object) -> edge.EdgeSparseVectorParams:
    body = fields(value, "sparse_vectors", frozenset({"index", "modifier"}))
    modifier = body.get("modifier", "none")
    if modifier not in _MODIFIERS:
        raise malformed(f"modifier: unknown variant `{modifier}`, expected one of `none`, `idf`")
    return edge.EdgeSparseVectorParams(modifier=_MODIFIERS[str(modifier)])


def _hnsw(value: object) -> edge.HnswIndexConfig:
    body = fields(value or {}, "hnsw_config", _HNSW)

    def setting(name: str) -> int:
        return optional(body, name, whole, _HNSW_DEFAULTS[name])

    return edge.HnswIndexConfig(
        m=setting("m"),
        ef_construct=setting("ef_construct"),
        full_scan_threshold=setting("full_scan_threshold"),
        # Indexing runs beside the server on the same cores: one is its share.
        max_indexing_threads=1,
        payload_m=optional(body, "payload_m", whole, 0) if "payload_m" in body else None,
    )
