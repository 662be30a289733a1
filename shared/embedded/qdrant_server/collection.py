"""One collection: the engine's shard, its writes, and its replacement by an optimised copy.

Every method that touches the engine is synchronous, so nothing else runs on the event loop
meanwhile and a query never meets a half-replaced shard. Writes go through `apply`, which
waits while the shard's files are copied, and records the writes that the copy lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar

import qdrant_edge as edge
from pydantic import BaseModel

from .config import CollectionConfig
from .errors import collection_missing, engine_calls
from .updates import Update

Answer = TypeVar("Answer")

# A flush of 10 000 points stops the process for 40 ms, one of 2 000 for 10 ms. Points that
# are not flushed are in the write-ahead log, which a restart replays.
_FLUSH_AFTER_POINTS = 2_000
_FLUSH_AFTER_S = 5.0


class StoredCollection(BaseModel):
    """What the registry's file holds of a collection.

    `optimized_points` is how many points the shard had when it was last optimised.
    """

    folder: str
    generation: str
    optimized_points: int
    config: CollectionConfig


class Collection:
    def __init__(self, name: str, stored: StoredCollection, root: Path) -> None:
        """Open the shard in the generation's folder, within the collection's within `root`."""
        self.name = name
        self.stored = stored
        self.config = stored.config
        self.folder = root / stored.folder
        self.optimizing = False
        self.last_write_s = monotonic()
        # Writes wait while it is cleared; reads never do.
        self.writable = asyncio.Event()
        self.writable.set()
        self._shard: edge.EdgeShard | None = load(self.path)
        # The writes that the copy in the making lacks; None while none is made.
        self.recorded: list[edge.UpdateOperation] | None = None
        self._operations = 0
        self._unflushed = 0
        self._unflushed_since_s = monotonic()
        self._written_since_optimize = 0

    @property
    def path(self) -> Path:
        return self.folder / self.stored.generation

    def unoptimized_points(self) -> int:
        """Return about how many points were written or deleted since the last optimisation."""
        drift = abs(self.info().points_count - self.stored.optimized_points)
        return max(self._written_since_optimize, drift)

    def is_behind(self) -> bool:
        """Return whether enough points are unindexed to slow queries down."""
        step = self.config.indexing_points
        return step is not None and self.unoptimized_points() >= step

    @property
    def shard(self) -> edge.EdgeShard:
        """The open shard. Raises: 404, the collection was deleted while the request waited."""
        if self._shard is None:
            raise collection_missing(self.name)
        return self._shard

    def read(self, call: Callable[[edge.EdgeShard], Answer]) -> Answer:
        with engine_calls():
            return call(self.shard)

    def info(self) -> edge.ShardInfo:
        return self.read(lambda shard: shard.info())

    async def apply(self, updates: list[Update]) -> int:
        """Apply the updates in order and return the number of the last one.

        They are durable when it returns: the engine logs an operation before it applies it.
        Other requests run between two updates.
        """
        for update in updates:
            while not self.writable.is_set():
                await self.writable.wait()
            self._write(update)
            await asyncio.sleep(0)
        return self._operations

    def _write(self, update: Update) -> None:
        shard = self.shard
        # Also one that the engine refuses half-way: its first half has been applied.
        if self.recorded is not None:
            self.recorded.append(update.operation)
        self.last_write_s = monotonic()
        if not self._unflushed:
            self._unflushed_since_s = self.last_write_s
        self._operations += 1
        self._unflushed += update.points
        self._written_since_optimize += update.points
        with engine_calls():
            shard.update(update.operation)

    def flush_if_due(self) -> None:
        is_old = monotonic() - self._unflushed_since_s >= _FLUSH_AFTER_S
        if self._unflushed >= _FLUSH_AFTER_POINTS or (self._unflushed and is_old):
            self.flush()

    def flush(self) -> None:
        self._unflushed = 0
        self.read(lambda shard: shard.flush())

    def close(self) -> None:
        """Close the shard; requests to this collection that still run are answered 404."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def record_writes(self) -> None:
        """Record the writes from now on, for the copy that was just made."""
        self.recorded = []
        self._written_since_optimize = 0

    def replace(self, shard: edge.EdgeShard) -> None:
        """Serve from an optimised copy, which must have every recorded write."""
        self.close()
        self._shard = shard


def load(path: Path) -> edge.EdgeShard:
    with engine_calls():
        return edge.EdgeShard.load(str(path))
