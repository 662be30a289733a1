"""The sync stage: takes queued runs and brings each to its end.

Another process may take a run over at any time, or a client may cancel it: the process that
learns so stops without another write, and the next one goes on from the progress that was
written. So everything that a task does must be safe to do twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import ConfigError, EunoeError, PermanentError, TransientError, Unavailable
from shared.graph.upkeep.runs import Run, Runs, RunState
from shared.streams.job import Job
from shared.streams.transitions import Defer, Done, Outcome, Retry
from shared.telemetry import log

# Runs wait for the embedders most of the time; a long one must not delay the others.
AT_ONCE = 4
_WRITE_EVERY_S = 1.0
_log = log.get_logger(__name__)


class RunLost(EunoeError):
    """The run was cancelled, taken over, or this process stops: end without another write."""


class Progress:
    """A run and its progress: `state` was last written by this process or by another."""

    def __init__(self, runs: Runs, tenant: str, run: Run, stopping: asyncio.Event) -> None:
        self.tenant = tenant
        self.run = run
        self.state: dict[str, Any] = dict(run.progress)
        self._runs = runs
        self._stopping = stopping
        self._written_at = -math.inf

    async def write_if_due(self, **values: object) -> None:
        """Do as `write`, at most once a second: for tasks that wait or repeat quickly."""
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
            await self.write(**values)

    async def write(self, **values: object) -> None:
        """Set `values` in the state and write it; call it every few seconds.

        Raises: RunLost where the task has to end; let it pass.
        """
        self.state |= values
        self._written_at = time.monotonic()
        if not await self._runs.advance(self.tenant, self.run, self.state):
            raise RunLost(f"run {self.run.id} was cancelled or taken over")
        if self._stopping.is_set():
            raise RunLost(f"run {self.run.id} continues in another process")


# What one kind of run does; it returns the run's result.
# Raises: RunLost from `progress`; Unavailable defers the run, another TransientError is tried
# again, a PermanentError (or ConfigError) ends it as failed with that reason.
Task = Callable[[Progress], Awaitable[Mapping[str, Any]]]


@dataclass(slots=True)
class RunHandler:
    """Handler of the sync stream; `tasks` by the name that a Run carries."""

    runs: Runs
    tasks: Mapping[str, Task]
    stopping: asyncio.Event
    max_attempts: int

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [await self._take(job) for job in jobs]

    async def _take(self, job: Job) -> Outcome:
        run = await self.runs.begin(job.tenant, job.memory_id)
        if run is None:
            return Done()
        progress = Progress(self.runs, job.tenant, run, self.stopping)
        task = self.tasks.get(run.task)
        if task is None:
            return await self._finish(progress, error=f"there is no task {run.task}")
        try:
            result = await task(progress)
        except RunLost as lost:
            return await self._left(job, lost)
        except Unavailable:
            raise
        except TransientError as error:
            if job.attempt + 1 < self.max_attempts:
                return Retry(str(error), error.retry_after_s)
            return await self._finish(progress, error=str(error))
        except (PermanentError, ConfigError) as error:
            return await self._finish(progress, error=str(error))
        return await self._finish(progress, result=result)

    async def _left(self, job: Job, lost: RunLost) -> Outcome:
        """Return what becomes of the entry: done where the run is over, else deferred.

        Where another process has the entry already, settling it is refused, which is harmless.
        """
        run = await self.runs.get(job.tenant, job.memory_id)
        if run is None or run.over:
            _log.info("run.left", run_id=job.memory_id, reason=str(lost))
            return Done()
        return Defer(str(lost), 0.0)

    async def _finish(
        self,
        progress: Progress,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Outcome:
        run = progress.run
        state = RunState.COMPLETE if error is None else RunState.FAILED
        ended = await self.runs.finish(
            progress.tenant, run, state, progress=progress.state, result=result, error=error
        )
        _log.info(
            "run.ended", task=run.task, run_id=run.id, state=state, error=error, written=ended
        )
        return Done()
