"""The sync stage: takes the runs that were asked for, and brings each to its end.

A run may change hands at any time: whoever is told so (or that it was cancelled) stops
without another write, and who takes it over goes on from the progress that was noted. So
everything that a task does must be safe to do twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shared.errors import ConfigError, EunoeError, PermanentError, TransientError, Unavailable
from shared.graph.upkeep.runs import Run, Runs, RunState
from shared.streams.job import Job
from shared.streams.transitions import Defer, Done, Outcome, Retry
from shared.telemetry import log

# Runs wait for the embedders most of the time; a long one must not hold up the others.
AT_ONCE = 4
_NOTE_EVERY_S = 1.0
_log = log.get_logger(__name__)


class RunLost(EunoeError):
    """The run was cancelled, taken over, or this process stops: end without another write."""


class Progress:
    """How far a run is: `noted` is what was last written, by whomever."""

    def __init__(self, runs: Runs, tenant: str, run: Run, stopping: asyncio.Event) -> None:
        self.noted: dict[str, Any] = dict(run.progress)
        self._runs = runs
        self._tenant = tenant
        self._run = run
        self._stopping = stopping
        self._noted_at = -math.inf

    async def alive(self, **counts: object) -> None:
        """`note`, at most once a second: for whoever waits or turns fast."""
        if time.monotonic() - self._noted_at >= _NOTE_EVERY_S:
            await self.note(**counts)

    async def note(self, **counts: object) -> None:
        """Write `counts` over those of the same names; call it every few seconds.

        Raises: RunLost where the task has to end; let it pass.
        """
        self.noted |= counts
        self._noted_at = time.monotonic()
        if not await self._runs.advance(self._tenant, self._run, self.noted):
            raise RunLost(f"run {self._run.id} was cancelled or taken over")
        if self._stopping.is_set():
            raise RunLost(f"run {self._run.id} goes on elsewhere")


class Task(Protocol):
    """What one kind of run does; returns its result.

    Raises: RunLost from `progress`; Unavailable parks the run, another TransientError is
    tried again, a PermanentError (or ConfigError) ends it as failed with that reason.
    """

    async def __call__(self, tenant: str, run: Run, progress: Progress, /) -> Mapping[str, Any]: ...


class RunHandler:
    """Handler of the sync stream; `tasks` by the name that a Run carries."""

    def __init__(
        self, runs: Runs, tasks: Mapping[str, Task], stopping: asyncio.Event, *, max_attempts: int
    ) -> None:
        self._runs = runs
        self._tasks = tasks
        self._stopping = stopping
        self._max_attempts = max_attempts

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [await self._take(job) for job in jobs]

    async def _take(self, job: Job) -> Outcome:
        run = await self._runs.begin(job.tenant, job.memory_id)
        if run is None:
            return Done()
        progress = Progress(self._runs, job.tenant, run, self._stopping)
        try:
            result = await self._task(run.task)(job.tenant, run, progress)
        except RunLost as lost:
            return await self._left(job, lost)
        except Unavailable:
            raise
        except TransientError as error:
            if job.attempt + 1 < self._max_attempts:
                return Retry(str(error), error.retry_after_s)
            return await self._finish(job.tenant, run, progress, error=str(error))
        except (PermanentError, ConfigError) as error:
            return await self._finish(job.tenant, run, progress, error=str(error))
        return await self._finish(job.tenant, run, progress, result=result)

    def _task(self, name: str) -> Task:
        if name not in self._tasks:
            raise PermanentError(f"there is no task {name}")
        return self._tasks[name]

    async def _left(self, job: Job, lost: RunLost) -> Outcome:
        """Nothing to do if it is over; else whoever gets the entry next goes on.

        If somebody else has it already, settling is refused, which is as well.
        """
        run = await self._runs.get(job.tenant, job.memory_id)
        if run is None or run.over:
            _log.info("run.left", run_id=job.memory_id, reason=str(lost))
            return Done()
        return Defer(str(lost), 0.0)

    async def _finish(
        self,
        tenant: str,
        run: Run,
        progress: Progress,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Outcome:
        state = RunState.COMPLETE if error is None else RunState.FAILED
        ended = await self._runs.finish(
            tenant, run, state, progress=progress.noted, result=result, error=error
        )
        _log.info(
            "run.ended", task=run.task, run_id=run.id, state=state, error=error, written=ended
        )
        return Done()
