"""Handle a batch: one Outcome per job, whatever the handler raises.

A PermanentError, a PoisonInput or an unknown error of several jobs is traced to its job by
halving. Another TransientError counts for every job; but a job's last attempt is made alone, so
that no job becomes a dead letter for a neighbour's failure.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from shared.errors import Overloaded, PermanentError, PoisonInput, TransientError, Unavailable
from shared.halving import in_halves
from shared.streams.job import Job
from shared.streams.policy import StreamPolicy
from shared.streams.transitions import DeadLetter, Defer, Outcome, Retry
from shared.telemetry import log

_log = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed and was settled so: it is retried, or a dead letter.

    `job.attempt` counts this failure. A job that was deferred has not failed.
    """

    job: Job
    error: str
    will_retry: bool
    elapsed_ms: float


Handler: TypeAlias = Callable[[Sequence[Job]], Awaitable[Sequence[Outcome]]]
# Called once per batch that has failures, after they were settled; must not raise.
FailureListener: TypeAlias = Callable[[Sequence[Failure]], Awaitable[None]]


@dataclass(slots=True)
class Handled:
    """Outcomes in the jobs' order; `down` is the last Unavailable that the handler raised."""

    outcomes: list[Outcome]
    down: Unavailable | None


async def handle(handler: Handler, jobs: Sequence[Job], *, max_attempts: int) -> Handled:
    """Run the handler over all jobs, those on their last attempt alone, and never raise."""
    last = {
        index for index, job in enumerate(jobs) if job.attempt and job.attempt + 1 >= max_attempts
    }
    together = [index for index in range(len(jobs)) if index not in last]
    attempt = _Attempt(handler)
    outcomes: dict[int, Outcome] = {}
    for group in (together, *([index] for index in sorted(last))):
        group_jobs = [jobs[index] for index in group]
        results = await in_halves(attempt, group_jobs, split_on=Exception, failed=_outcome_alone)
        outcomes.update(zip(group, results, strict=True))
    return Handled([outcomes[index] for index in range(len(jobs))], attempt.down)


def with_pause(outcome: Outcome, job: Job, policy: StreamPolicy, *, defer_s: float) -> Outcome:
    """Return the outcome with its pause; past the stage's attempts a retry is a dead letter.

    A deferred job waits for at least `defer_s`.
    """
    match outcome:
        case Defer(error, after_s):
            return Defer(error, max(after_s, defer_s))
        case Retry(error, retry_after_s):
            attempts = job.attempt + 1
            if attempts >= policy.max_attempts:
                return DeadLetter("exhausted", error)
            wait_s = policy.backoff_s(attempts) * random.uniform(0.5, 1.0)
            return Retry(error, max(wait_s, retry_after_s or 0.0))
    return outcome


@dataclass(slots=True)
class _Attempt:
    """Calls the handler; raises only what one of several jobs may have caused."""

    handler: Handler
    down: Unavailable | None = None

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        try:
            return _complete(await self.handler(jobs), len(jobs))
        except Unavailable as error:
            self.down = error
            return [Defer(str(error), error.retry_after_s or 0.0)] * len(jobs)
        except (PoisonInput, PermanentError):
            raise
        except (TransientError, Overloaded) as error:
            return [Retry(str(error), error.retry_after_s)] * len(jobs)
        except Exception as error:
            name, frames = type(error).__name__, log.frames_of(error)
            _log.error("handler.failed", error=name, jobs=len(jobs), frames=frames)
            raise


def _complete(outcomes: Sequence[Outcome], jobs: int) -> list[Outcome]:
    if len(outcomes) != jobs:
        raise RuntimeError(f"{len(outcomes)} outcomes for {jobs} jobs")
    return list(outcomes)


def _outcome_alone(error: Exception) -> Outcome:
    """Return the outcome of a single job for which the handler raised."""
    match error:
        case PoisonInput():
            return Retry(str(error))
        case PermanentError():
            return DeadLetter("permanent", str(error))
    # The error's text may quote a memory: only its type and place are kept.
    return Retry(f"{type(error).__name__} at {['unknown', *log.frames_of(error)][-1]}")
