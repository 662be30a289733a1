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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Rest:
    """A pause after an optimisation, in times of the monotonic clock.

    The collection is optimised again from `until_s` on, and from `at_least_until_s` on if it
    is quiet or has doubled.
    """

    at_least_until_s: float = 0.0
    until_s: float = 0.0


class Optimizer:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rests: dict[Path, _Rest] = {}

    async def run(self) -> None:
        """Optimise one due collection after the other until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            for collection in self._registry.collections:
                if self._registry.is_live(collection) and self._is_due(collection):
                    await self._attempt(collection)

    def _is_due(self, collection: Collection) -> bool:
        """Return whether so much is unindexed that it counts, and no rest forbids a start."""
        if not collection.is_behind():
            return False
        now_s = monotonic()
        rest = self._rests.get(collection.folder, _Rest())
        is_quiet = now_s - collection.last_write_s >= _QUIET_S
        has_doubled = collection.unoptimized_points() >= collection.stored.optimized_points
        return now_s >= (rest.at_least_until_s if is_quiet or has_doubled else rest.until_s)

    async def _attempt(self, collection: Collection) -> None:
        started_s = monotonic()
        try:
            await self._optimize(collection)
        except (ServerError, OSError) as error:
            log.warning("optimising %s failed: %s", collection.name, error)
            until_s = monotonic() + _REST_AFTER_FAILURE_S
            self._rests[collection.folder] = _Rest(until_s, until_s)
        else:
            ended_s = monotonic()
            log.info("optimised %s in %.1f s", collection.name, ended_s - started_s)
            until_s = ended_s + _REST_RATIO * (ended_s - started_s)
            self._rests[collection.folder] = _Rest(ended_s, until_s)

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
