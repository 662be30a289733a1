"""Forced: jobs by which a run has the embedders bring memories up, and waits until they have.

A forced job is another job than the ordinary one of the same version, so neither one in
flight nor one that is dead stands in its way. The run itself is its outbox: while a memory
is not up, its job is announced again every few seconds, which costs nothing where it lives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from services.syncer.runs import Progress
from shared.job import Job, Stage
from shared.outbox import Outbox
from shared.transitions import Published

_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 1.0
_ANNOUNCE_EVERY_S = 2.0
_SILENT_AFTER_S = 30.0

# Of those (id: payload_version), the ids that are not up yet.
Left = Callable[[Mapping[str, int]], Awaitable[Collection[str]]]


class Forced:
    """`run` names the jobs: one that died under it is not tried again under it."""

    def __init__(self, outbox: Outbox, progress: Progress, run: str) -> None:
        self._outbox = outbox
        self._progress = progress
        self._run = run

    async def __call__(self, tenant: str, wanted: Mapping[str, int], left: Left) -> set[str]:
        """Return once every memory is up or its job is dead; the ids of the latter.

        Waits however long the embedders need, since their provider may be down; the run's
        progress then says `waiting`. Raises: RunLost.
        """
        waiting, dead = dict(wanted), set[str]()
        moved_at, announced_at, poll_s = time.monotonic(), float("-inf"), _FIRST_POLL_S
        while waiting:
            now = time.monotonic()
            if now - announced_at >= _ANNOUNCE_EVERY_S:
                dead |= await self._announce(tenant, waiting)
                announced_at = now
            still = await left({key: waiting[key] for key in waiting.keys() - dead})
            poll_s = min(_LONGEST_POLL_S, poll_s * 1.5)
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

    async def _announce(self, tenant: str, wanted: Mapping[str, int]) -> set[str]:
        jobs = [Job(tenant, key, version, run=self._run) for key, version in wanted.items()]
        answers = (await self._outbox.announce({Stage.EMBED: jobs}, exempt=True))[Stage.EMBED]
        return {
            job.memory_id
            for job, answer in zip(jobs, answers or [], strict=False)
            if answer is Published.DEAD
        }
