"""Keeps collections indexed without anyone waiting for it.

`optimize()` stops its whole process, so it never runs in this one. The shard's
files are copied while writes wait (0.1 s for 20 000 points of 384 dimensions), a
child process indexes the copy, the writes of the meantime are replayed on it, and
the copy takes the shard's place. Reads go on all the time, on the old shard.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree
from time import monotonic
from uuid import uuid4

import qdrant_edge as edge

from .collection import Collection, load, replay
from .errors import ServerError
from .registry import Registry

log = logging.getLogger(__name__)

_TICK_S = 0.25
_QUIET_S = 2.0
# Each round works through the whole collection again, so a busy one gets a fifth of a core.
_REST_RATIO = 4.0
_REST_AFTER_FAILURE_S = 60.0
# Writers get a turn after this many replayed writes: with one each they would never be met.
_REPLAYED_AT_ONCE = 3
_FEW_WRITES = 8
_MOST_ROUNDS = 10
_CHILD = Path(__file__).with_name("optimize_copy.py")


@dataclass(frozen=True)
class _Rest:
    """When a collection may be optimised again, at the earliest and in any case."""

    at_least_until_s: float
    until_s: float


_NO_REST = _Rest(0.0, 0.0)


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
        """Whether to start now: a rest is cut short by quiet, or by twice the points."""
        if not is_behind(collection):
            return False
        now_s = monotonic()
        rest = self._rests.get(collection.folder, _NO_REST)
        is_quiet = now_s - collection.last_write_s >= _QUIET_S
        has_doubled = collection.unoptimized_points() >= collection.optimized_points
        return now_s >= (rest.at_least_until_s if is_quiet or has_doubled else rest.until_s)

    async def _attempt(self, collection: Collection) -> None:
        started_s = monotonic()
        try:
            await self._optimize(collection)
        except (ServerError, OSError, ChildFailed) as error:
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
            collection.forget_writes()
            collection.allow_writes()
            gone = not self._registry.is_live(collection)
            await _remove(collection.folder if gone else abandoned)

    async def _switch(self, collection: Collection, generation: str, points: int) -> Path:
        """Bring the copy up to date, serve from it, and return the folder it replaced."""
        previous = collection.path
        shard = load(collection.folder / generation)
        try:
            await _catch_up(collection, shard)
            # Only now, and not for longer than the few that are left take.
            collection.hold_writes()
            await _replay(collection, shard)
            collection.shard  # noqa: B018  raises if the collection was deleted
            self._registry.set_generation(collection, generation, points)
        except BaseException:
            shard.close()
            raise
        collection.replace(shard)
        return previous


class ChildFailed(Exception):
    """The indexing process ended with an error; the shard is as it was."""


def is_behind(collection: Collection) -> bool:
    """Whether so much is unindexed that it slows queries down."""
    step = collection.config.indexing_points
    return step is not None and collection.unoptimized_points() >= step


async def _copy(collection: Collection, target: Path) -> int:
    """Copy the shard's files and return how many points the copy has."""
    collection.hold_writes()
    try:
        collection.flush()
        points = collection.info().points_count
        await asyncio.to_thread(copytree, collection.path, target)
        collection.record_writes()
        return points
    finally:
        collection.allow_writes()


async def _index(path: Path) -> None:
    command = [sys.executable, "-P", str(_CHILD), str(os.getpid()), str(path)]
    child = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL)
    try:
        if await child.wait() != 0:
            raise ChildFailed(f"exit code {child.returncode}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _catch_up(collection: Collection, shard: edge.EdgeShard) -> None:
    """Replay faster than is written, until little is left; writes go on meanwhile."""
    for _ in range(_MOST_ROUNDS):
        if collection.recorded <= _FEW_WRITES:
            return
        await _replay(collection, shard)


async def _replay(collection: Collection, shard: edge.EdgeShard) -> None:
    for number, operation in enumerate(collection.take_recorded()):
        replay(shard, operation)
        if number % _REPLAYED_AT_ONCE == 0:
            await asyncio.sleep(0)


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(rmtree, folder, ignore_errors=True)
