"""What a batch comes to: one Outcome per job whatever its handler raises, and no bad job
failing its neighbours.

A PermanentError, a Suspect, or an error nobody foresaw, of several jobs is traced to its job by
halving. Another TransientError is everybody's; but a job's last attempt is made alone, so that
none is buried for its neighbour's failure.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from shared.errors import Overloaded, PermanentError, PoisonInput, TransientError, Unavailable
from shared.halving import in_halves
from shared.streams.job import Delivery, Job
from shared.streams.transitions import Settlement, StreamPolicy
from shared.telemetry import log

_log = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The effects are stored, or were not needed any more."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed, an attempt is charged; `retry_after_s` is waited at least."""

    error: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Will never work; `reason` is a word of a closed set, `error` says more."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Defer:
    """Could not be tried; no attempt is charged."""

    error: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed and was settled as such; one that is not retried lies with the dead.

    `job.attempt` counts this failure. A job that was parked has not failed.
    """

    job: Job
    error: str
    will_retry: bool
    elapsed_ms: float


Outcome: TypeAlias = Done | Retry | DeadLetter | Defer
Handler: TypeAlias = Callable[[Sequence[Job]], Awaitable[Sequence[Outcome]]]
# Told once per batch that has some, after they were settled; must not raise.
FailureListener: TypeAlias = Callable[[Sequence[Failure]], Awaitable[None]]


@dataclass(slots=True)
class Handled:
    """Outcomes in the jobs' order; `down` is the last Unavailable that the handler raised."""

    outcomes: list[Outcome]
    down: Unavailable | None = None


async def handle(handler: Handler, jobs: Sequence[Job], *, max_attempts: int) -> Handled:
    """Run the handler over all jobs, apart those on their last attempt, and never raise."""
    last = [
        index for index, job in enumerate(jobs) if job.attempt and job.attempt + 1 >= max_attempts
    ]
    crowd = [index for index in range(len(jobs)) if index not in set(last)]
    outcomes: dict[int, Outcome] = {}
    attempt = _Attempt(handler)
    for group in [crowd, *([index] for index in last)]:
        results = await in_halves(
            attempt, [jobs[index] for index in group], split_on=Exception, failed=_outcome_alone
        )
        outcomes.update(zip(group, results, strict=True))
    return Handled([outcomes[index] for index in range(len(jobs))], attempt.down)


def settlement_for(delivery: Delivery, outcome: Outcome, policy: StreamPolicy) -> Settlement:
    """The next state of the entry; past the stage's attempts a retry becomes a burial."""
    match outcome:
        case Done():
            return Settlement.ack(delivery)
        case DeadLetter(reason, error):
            return Settlement.dead_letter(delivery, reason, error)
        case Defer(error, after_s):
            return Settlement.defer(delivery, after_s, error)
        case Retry(error, retry_after_s):
            if delivery.job.attempt + 1 >= policy.max_attempts:
                return Settlement.dead_letter(delivery, "exhausted", error)
            wait_s = policy.backoff_s(delivery.job.attempt + 1) * random.uniform(0.5, 1.0)
            return Settlement.retry(delivery, max(wait_s, retry_after_s or 0.0), error)
    assert_never(outcome)


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
            failed = type(error).__name__
            _log.error("handler.failed", error=failed, jobs=len(jobs), frames=log.frames_of(error))
            raise


def _complete(outcomes: Sequence[Outcome], jobs: int) -> list[Outcome]:
    if len(outcomes) != jobs:
        raise RuntimeError(f"{len(outcomes)} outcomes for {jobs} jobs")
    return list(outcomes)


def _outcome_alone(error: Exception) -> Outcome:
    """The outcome of a single job for which the handler raised."""
    match error:
        case PoisonInput():
            return Retry(str(error))
        case PermanentError():
            return DeadLetter("permanent", str(error))
    # Its text may quote a memory: only its type and place are kept.
    return Retry(f"{type(error).__name__} at {['unknown', *log.frames_of(error)][-1]}")
