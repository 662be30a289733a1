"""Indexes collections in a child process, while the server reads and writes them.

`optimize()` stops its whole process, so it never runs in this one. The shard's files are
copied while writes wait (0.1 s for 20 000 points of 384 dimensions), a child process indexes
the copy, the writes of the meantime are replayed on it, and it replaces the shard. Reads use
the old shard until then.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree
from time import monotonic
from uuid import uuid4

import qdrant_edge as edge

from .collection import Collection, load
from .errors import ServerError, engine_calls
from .registry import Registry

log = logging.getLogger(__name__)

_TICK_S = 0.25
_QUIET_S = 2.0
# Each round indexes the whole collection again: rests of four times its length keep a busy
# collection at a fifth of a core.
_REST_RATIO = 4.0
_REST_AFTER_FAILURE_S = 60.0
# Requests run after this many replayed writes. After each single one, as many new writes
# could arrive as are replayed, and the replay would never end.
_REPLAYED_AT_ONCE = 3
_FEW_WRITES = 8
_MOST_ROUNDS = 10
_CHILD = Path(__file__).with_name("optimize_copy.py")


class Optimizer:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Times of the monotonic clock, by the collection's folder. A collection that is quiet or
        # has doubled is optimised again without a rest, but not after a failure.
        self._failed_until_s: dict[Path, float] = {}
        self._rests_until_s: dict[Path, float] = {}

    async def run(self) -> None:
        """Optimise one due collection after the other until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            for collection in self._registry.collections:
                if self._registry.is_live(collection) and self._is_due(collection):
                    await self._attempt(collection)

    def _is_due(self, collection: Collection) -> bool:
        """Return whether so much is unindexed that it counts, and no rest forbids a start."""
        now_s, folder = monotonic(), collection.folder
        if not collection.is_behind() or now_s < self._failed_until_s.get(folder, 0.0):
            return False
        is_quiet = now_s - collection.last_write_s >= _QUIET_S
        has_doubled = collection.unoptimized_points() >= collection.stored.optimized_points
        return is_quiet or has_doubled or now_s >= self._rests_until_s.get(folder, 0.0)

    async def _attempt(self, collection: Collection) -> None:
        started_s = monotonic()
        try:
            await self._optimize(collection)
        except (ServerError, OSError) as error:
            log.warning("optimising %s failed: %s", collection.name, error)
            until_s = monotonic() + _REST_AFTER_FAILURE_S
            self._failed_until_s[collection.folder] = until_s
        else:
            length_s = monotonic() - started_s
            log.info("optimised %s in %.1f s", collection.name, length_s)
            until_s = monotonic() + _REST_RATIO * length_s
        self._rests_until_s[collection.folder] = until_s

    async def _optimize(self, collection: Collection) -> None:
        generation = uuid4().hex
        abandoned = collection.folder / generation
        collection.optimizing = True
        try:
            points = await _copy(collection, abandoned)
            await _index(abandoned)
            abandoned = await self._switch(collection, generation, points)
        finally:
            collection.optimizing = False
            collection.recorded = None
            collection.writable.set()
            was_deleted = not self._registry.is_live(collection)
            removed = collection.folder if was_deleted else abandoned
            await asyncio.to_thread(rmtree, removed, ignore_errors=True)

    async def _switch(self, collection: Collection, generation: str, points: int) -> Path:
        """Replay the recorded writes, serve from the copy, and return the replaced folder."""
        previous = collection.path
        shard = load(collection.folder / generation)
        try:
            for _ in range(_MOST_ROUNDS):
                if await _replay(collection, shard) <= _FEW_WRITES:
                    break
            # New writes wait only while the few that came meanwhile are replayed.
            collection.writable.clear()
            await _replay(collection, shard)
            collection.shard  # noqa: B018  raises where the collection was deleted meanwhile
            self._registry.set_generation(collection, generation, points)
        except BaseException:
            shard.close()
            raise
        collection.replace(shard)
        return previous


async def _copy(collection: Collection, target: Path) -> int:
    """Copy the shard's files and return how many points the copy has."""
    collection.writable.clear()
    try:
        collection.flush()
        points = collection.info().points_count
        await asyncio.to_thread(copytree, collection.path, target)
        collection.record_writes()
        return points
    finally:
        collection.writable.set()


async def _index(path: Path) -> None:
    command = [sys.executable, "-P", str(_CHILD), str(os.getpid()), str(path)]
    child = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL)
    try:
        if await child.wait() != 0:
            raise ServerError(500, f"exit code {child.returncode}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _replay(collection: Collection, shard: edge.EdgeShard) -> int:
    """Apply the recorded writes to the copy and return how many there were."""
    recorded, collection.recorded = collection.recorded or [], []
    for number, operation in enumerate(recorded):
        # One that the engine refused is refused again.
        with suppress(ServerError), engine_calls():
            shard.update(operation)
        if number % _REPLAYED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return len(recorded)
