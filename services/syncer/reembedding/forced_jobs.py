"""Forced: jobs by which a run has the embedders bring memories up, and waits until they have.

A forced job is another job than the ordinary one of the same version, so neither one in
flight nor one that is dead stands in its way. The run itself is its outbox: while a memory
is not up, its job is announced again every few seconds, which costs nothing where it lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping

from services.syncer.runs import Progress
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Published

_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 1.0
_ANNOUNCE_EVERY_S = 2.0
_SILENT_AFTER_S = 30.0
# A job that was done so often without bringing its memory up, while others came up, will not
# do so: it is failed. Where nothing comes up it may be the embedders (one that cannot open the
# next model yet has nothing to do for these jobs), so they get a minute.
_DONE_IN_VAIN = 5
_DONE_AT_MOST = 30

# Of those (id: payload_version), the ids that are not up yet.
Left = Callable[[Mapping[str, int]], Awaitable[Collection[str]]]


class ForcedJobs:
    """`run` names the jobs: one that died under it is not tried again under it."""

    def __init__(self, outbox: Outbox, progress: Progress, run: str) -> None:
        self._outbox = outbox
        self._progress = progress
        self._run = run
        self._in_vain: set[tuple[str, str, int]] = set()
        self._up = self._up_then = 0

    async def __call__(self, tenant: str, wanted: Mapping[str, int], left: Left) -> set[str]:
        """Return once every memory is up or its job is dead, or done again and again in vain;
        the ids of the latter.

        Waits however long the embedders need, since their provider may be down; the run's
        progress then says `waiting`. Raises: RunLost.
        """
        waiting, dead, done = dict(wanted), set[str](), _Done()
        moved_at, announced_at, poll_s = time.monotonic(), float("-inf"), _FIRST_POLL_S
        while waiting:
            now = time.monotonic()
            if now - announced_at >= _ANNOUNCE_EVERY_S:
                dead |= await self._announce(tenant, waiting, done)
                announced_at = now
            still = await left({key: waiting[key] for key in waiting.keys() - dead})
            poll_s = min(_LONGEST_POLL_S, poll_s * 1.5)
            self._up += len(waiting.keys() - dead) - len(still)
            if len(still) < len(waiting):
                moved_at, poll_s = now, _FIRST_POLL_S
            waiting = {key: waiting[key] for key in still}
            if waiting:
                if now - moved_at > _SILENT_AFTER_S:
                    self._progress.noted["waiting"] = "for the embedders"
                await self._progress.alive()
                await asyncio.sleep(poll_s)
        self._progress.noted.pop("waiting", None)
        return dead

    async def _announce(self, tenant: str, wanted: Mapping[str, int], done: _Done) -> set[str]:
        """Ask for them; the ids that are beyond help."""
        jobs = [Job(tenant, key, version, run=self._run) for key, version in wanted.items()]
        answers = (await self._outbox.announce({Stage.EMBED: jobs}, exempt=True))[Stage.EMBED]
        others_came, self._up_then = self._up > self._up_then, self._up
        dead = set()
        for job, answer in zip(jobs, answers or [], strict=False):
            key = (tenant, job.memory_id, job.version)
            # New again: the one before was done. One in flight, or parked, is a duplicate.
            if answer is Published.NEW and done.again(job.memory_id, others_came=others_came):
                self._in_vain.add(key)
            if answer is Published.DEAD or key in self._in_vain:
                dead.add(job.memory_id)
        return dead


class _Done:
    """How often the job of each memory was done."""

    def __init__(self) -> None:
        self._times = Counter[str]()
        self._in_vain = Counter[str]()

    def again(self, memory_id: str, *, others_came: bool) -> bool:
        """Whether that is enough."""
        self._times[memory_id] += 1
        self._in_vain[memory_id] += others_came
        return self._in_vain[memory_id] > _DONE_IN_VAIN or self._times[memory_id] > _DONE_AT_MOST
