"""One collection: the engine's shard, the writes that wait for it, its upkeep.

Every method that touches the engine is synchronous and short; whoever calls one on
the event loop has the collection to itself for that moment, so a query can never
meet a half-replaced shard. Writes go through `apply`, which waits while the files
are being copied and records what is written while an optimised copy is made.
"""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar

import qdrant_edge as edge

from .config import CollectionConfig
from .errors import NotFound, ServerError, collection_missing, engine_calls
from .ids import PointId
from .updates import Update, Updates
from .vectors import NamedVector

Answer = TypeVar("Answer")

# A flush of 10 000 points holds the process for 40 ms, one of 2 000 for 10 ms; until
# then the write-ahead log has them, and a restart replays it.
_FLUSH_AFTER_POINTS = 2_000
_FLUSH_AFTER_S = 5.0


class Collection:
    def __init__(self, name: str, config: CollectionConfig, folder: Path) -> None:
        """Open the shard in `folder`, which holds the generations of this collection."""
        self.name = name
        self.config = config
        self.folder = folder
        self.generation = ""
        self.optimized_points = 0
        self.optimizing = False
        self.last_write_s = monotonic()
        self._shard: edge.EdgeShard | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._journal: list[edge.UpdateOperation] | None = None
        self._operations = 0
        self._unflushed = 0
        self._unflushed_since_s = monotonic()
        self._written_since_optimize = 0

    def open(self, generation: str, optimized_points: int) -> None:
        self.generation = generation
        self.optimized_points = optimized_points
        self._shard = load(self.path)

    @property
    def path(self) -> Path:
        return self.folder / self.generation

    def unoptimized_points(self) -> int:
        """Return about how many points the last optimisation has not seen, or lost."""
        drift = abs(self.info().points_count - self.optimized_points)
        return max(self._written_since_optimize, drift)

    @property
    def shard(self) -> edge.EdgeShard:
        """The open shard.

        Raises:
            NotFound: the collection was deleted while the request waited.
        """
        if self._shard is None:
            raise collection_missing(self.name)
        return self._shard

    def read(self, call: Callable[[edge.EdgeShard], Answer]) -> Answer:
        with engine_calls():
            return call(self.shard)

    def info(self) -> edge.ShardInfo:
        return self.read(lambda shard: shard.info())

    def stored_vector(self, point_id: PointId, using: str) -> NamedVector:
        """Return the vector of a point that a query names by id."""
        found = self.read(lambda shard: shard.retrieve([point_id], False, [using]))
        vectors = found[0].vector if found else None
        vector = vectors.get(using) if isinstance(vectors, dict) else vectors
        if vector is None:
            raise NotFound(f"Not found: No point with id {point_id} found")
        return vector

    async def apply(self, updates: Updates) -> int:
        """Apply the updates in order and return the number of the last one.

        Durable when it returns: the engine logs an operation before it applies it.
        Other requests run between two updates.
        """
        for update in updates:
            while not self._writable.is_set():
                await self._writable.wait()
            self._write(update)
            await asyncio.sleep(0)
        return self._operations

    def _write(self, update: Update) -> None:
        shard = self.shard
        # Recorded even if it is refused half-way: its other half has been applied.
        if self._journal is not None:
            self._journal.append(update.operation)
        self._count_write(update.points)
        with engine_calls():
            shard.update(update.operation)

    def _count_write(self, points: int) -> None:
        self.last_write_s = monotonic()
        if not self._unflushed:
            self._unflushed_since_s = self.last_write_s
        self._operations += 1
        self._unflushed += points
        self._written_since_optimize += points

    def flush_if_due(self) -> None:
        waited_s = monotonic() - self._unflushed_since_s
        if self._unflushed >= _FLUSH_AFTER_POINTS or (
            self._unflushed and waited_s >= _FLUSH_AFTER_S
        ):
            self.flush()

    def flush(self) -> None:
        self._unflushed = 0
        self.read(lambda shard: shard.flush())

    def close(self) -> None:
        """Close the shard; requests that still hold this collection get a 404."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def hold_writes(self) -> None:
        """Make writes wait until `allow_writes`; reads go on."""
        self._writable.clear()

    def allow_writes(self) -> None:
        self._writable.set()

    def record_writes(self) -> None:
        """Keep what is written from now on, for the copy that was just made."""
        self._journal = []
        self._written_since_optimize = 0

    def forget_writes(self) -> None:
        self._journal = None

    @property
    def recorded(self) -> int:
        """How many writes the copy that is being made does not have yet."""
        return len(self._journal or ())

    def take_recorded(self) -> list[edge.UpdateOperation]:
        recorded, self._journal = self._journal or [], []
        return recorded

    def replace(self, shard: edge.EdgeShard) -> None:
        """Serve from an optimised copy that has every recorded write."""
        old, self._shard = self._shard, shard
        if old is not None:
            old.close()


def replay(shard: edge.EdgeShard, operation: edge.UpdateOperation) -> None:
    """Apply a recorded write to a copy; what was refused then is refused again."""
    try:
        with engine_calls():
            shard.update(operation)
    except ServerError:
        pass


def load(path: Path) -> edge.EdgeShard:
    with engine_calls():
        return edge.EdgeShard.load(str(path))
