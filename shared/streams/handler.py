"""What a batch comes to: one Outcome per job whatever its handler raises, and no bad job
failing its neighbours.

A PermanentError, a Suspect, or an error nobody foresaw, of several jobs is traced to its job by
halving. Another TransientError is everybody's; but a job's last attempt is made alone, so that
none is buried for its neighbour's failure.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

from shared.errors import Overloaded, PermanentError, PoisonInput, TransientError, Unavailable
from shared.streams.job import Delivery, Job
from shared.streams.transitions import Settlement, StreamPolicy
from shared.telemetry import log

_log = log.get_logger(__name__)
_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Done:
    """The effects are stored, or were not needed any more."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed, an attempt is charged; `retry_after_s` is waited at least."""

    error: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bury:
    """Will never work; `reason` is a word of a closed set, `error` says more."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Park:
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


Outcome: TypeAlias = Done | Retry | Bury | Park
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
    down: Unavailable | None = None
    for group in [crowd, *([index] for index in last)]:
        if not group:
            continue
        handled = await _run(handler, [jobs[index] for index in group])
        outcomes.update(zip(group, handled.outcomes, strict=True))
        down = handled.down or down
    return Handled([outcomes[index] for index in range(len(jobs))], down)


def settlement_for(delivery: Delivery, outcome: Outcome, policy: StreamPolicy) -> Settlement:
    """The next state of the entry; past the stage's attempts a retry becomes a burial."""
    match outcome:
        case Done():
            return Settlement.ack(delivery)
        case Bury(reason, error):
            return Settlement.bury(delivery, reason, error)
        case Park(error, after_s):
            return Settlement.park(delivery, after_s, error)
        case Retry(error, retry_after_s):
            if delivery.job.attempt + 1 >= policy.max_attempts:
                return Settlement.bury(delivery, "exhausted", error)
            wait_s = policy.backoff(delivery.job.attempt) * random.uniform(0.5, 1.0)
            return Settlement.retry(delivery, max(wait_s, retry_after_s or 0.0), error)
    assert_never(outcome)


async def _run(handler: Handler, jobs: Sequence[Job]) -> Handled:
    try:
        return Handled(_complete(await handler(jobs), len(jobs)))
    except Unavailable as error:
        parked = Park(str(error), error.retry_after_s or 0.0)
        return Handled([parked] * len(jobs), error)
    except PoisonInput as error:
        return await _halved(handler, jobs, Retry(str(error)))
    except (TransientError, Overloaded) as error:
        return Handled([Retry(str(error), error.retry_after_s)] * len(jobs))
    except PermanentError as error:
        return await _halved(handler, jobs, Bury("permanent", str(error)))
    except Exception as error:  # noqa: BLE001 - the consumer's blanket catch: unknown is retryable
        # Its text may quote what was being worked on: only its type and place are kept.
        frames = _frames(error)
        _log.error("handler.failed", error=type(error).__name__, jobs=len(jobs), frames=frames)
        place = frames[-1] if frames else "unknown"
        return await _halved(handler, jobs, Retry(f"{type(error).__name__} at {place}"))


def _complete(outcomes: Sequence[Outcome], jobs: int) -> list[Outcome]:
    if len(outcomes) != jobs:
        raise RuntimeError(f"{len(outcomes)} outcomes for {jobs} jobs")
    return list(outcomes)


async def _halved(handler: Handler, jobs: Sequence[Job], alone: Outcome) -> Handled:
    """Run both halves again; `alone` is the outcome of a single job."""
    if len(jobs) == 1:
        return Handled([alone])
    middle = len(jobs) // 2
    first = await _run(handler, jobs[:middle])
    second = await _run(handler, jobs[middle:])
    return Handled([*first.outcomes, *second.outcomes], second.down or first.down)


def _frames(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in stack]
