"""Jobs by which a run makes the embedders embed chosen memories, and waits until they have.

A forced job differs from the ordinary job of the same version, so it is published even while the
ordinary one is in flight or dead. The run publishes it again every few seconds until its memory is
embedded; publishing does nothing while the job is queued or in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from services.syncer.runs import Progress
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.transitions import Published
from shared.waiting import backoff_s

_FIRST_POLL_S, _LONGEST_POLL_S, _POLL_FACTOR = 0.1, 1.0, 1.5
_ANNOUNCE_EVERY_S = 2.0
_SILENT_AFTER_S = 30.0
# A memory has failed once its job was done more than _DONE_IN_VAIN times without effect while
# others were embedded. If none is embedded, the embedders may be the cause (one that cannot open
# the next model yet finishes these jobs without work), so _DONE_AT_MOST allows a minute.
_DONE_IN_VAIN = 5
_DONE_AT_MOST = 30

# Takes a tenant and its memories (id: payload_version); returns the ids not embedded yet.
Unfinished = Callable[[str, Mapping[str, int]], Awaitable[Collection[str]]]


@dataclass(slots=True)
class ForcedJobs:
    """Forced jobs of one `run`, whose id names them: a dead one is not tried again by this run."""

    outbox: Outbox
    progress: Progress
    run: str
    unfinished: Unfinished
    # (tenant, id, version) of the memories whose jobs have no effect.
    _hopeless: set[tuple[str, str, int]] = field(default_factory=set, init=False)
    _embedded: int = field(default=0, init=False)
    _embedded_before: int = field(default=0, init=False)

    async def __call__(self, tenant: str, wanted: Mapping[str, int]) -> set[str]:
        """Wait until every memory is embedded or has failed; return the ids that failed.

        A memory has failed when its job is dead, or was done too often without effect. Waits
        however long the embedders need, since their provider may be down; the run's progress
        then says `waiting`. Raises: RunLost.
        """
        waiting, failed = dict(wanted), set[str]()
        done, in_vain = Counter[str](), Counter[str]()
        success_at, announced_at, polls = time.monotonic(), float("-inf"), 0
        while waiting:
            now = time.monotonic()
            if now - announced_at >= _ANNOUNCE_EVERY_S:
                failed |= await self._announce(tenant, waiting, done, in_vain)
                announced_at = now
            left = {key: waiting[key] for key in waiting.keys() - failed}
            still = await self.unfinished(tenant, left)
            polls += 1
            self._embedded += len(left) - len(still)
            if len(still) < len(waiting):
                success_at, polls = now, 1
            waiting = {key: waiting[key] for key in still}
            if waiting:
                if now - success_at > _SILENT_AFTER_S:
                    self.progress.state["waiting"] = "for the embedders"
                await self.progress.write_if_due()
                pause_s = backoff_s(
                    polls, first_s=_FIRST_POLL_S, longest_s=_LONGEST_POLL_S, factor=_POLL_FACTOR
                )
                await asyncio.sleep(pause_s)
        self.progress.state.pop("waiting", None)
        return failed

    async def _announce(
        self, tenant: str, wanted: Mapping[str, int], done: Counter[str], in_vain: Counter[str]
    ) -> set[str]:
        """Publish the jobs; return the ids that have failed.

        `done` counts for each memory how often its job ended without embedding it, `in_vain`
        counts those of these times at which other memories were embedded.
        """
        jobs = [Job(tenant, key, version, run=self.run) for key, version in wanted.items()]
        answers = (await self.outbox.announce({Stage.EMBED: jobs}, exempt=True))[Stage.EMBED]
        others_came = self._embedded > self._embedded_before
        self._embedded_before = self._embedded
        failed = set()
        for job, answer in zip(jobs, answers or [], strict=False):
            key = (tenant, job.memory_id, job.version)
            # NEW means that the previous job has ended: one that is in flight or deferred
            # is answered as a duplicate.
            if answer is Published.NEW:
                done[job.memory_id] += 1
                in_vain[job.memory_id] += others_came
                tries = done[job.memory_id], in_vain[job.memory_id]
                if tries[0] > _DONE_AT_MOST or tries[1] > _DONE_IN_VAIN:
                    self._hopeless.add(key)
            if answer is Published.DEAD or key in self._hopeless:
                failed.add(job.memory_id)
        return failed
