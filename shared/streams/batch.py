"""Batch: the jobs that one handler call gets, from their start to their settlement.

A batch may lose entries while it runs: another consumer has taken them over, or no renewal
succeeded for a whole visibility. The results of those are dropped. What has finished is settled
however long Redis takes to answer: the settling script checks which consumer holds each entry.

Each job gets one outcome, whatever the handler raises. A PermanentError, a PoisonInput or an
unknown error of several jobs is traced to its job by halving. Another TransientError counts for
every job; but a job's last attempt is made alone, so that no job becomes a dead letter for a
neighbour's failure.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from shared.errors import Overloaded, PermanentError, PoisonInput, TransientError, Unavailable
from shared.halving import in_halves
from shared.streams.job import Delivery, Job
from shared.streams.policy import StreamPolicy, redis_backoff_s
from shared.streams.stream import Stream
from shared.streams.transitions import DeadLetter, Defer, Outcome, Retry, Settled, Settlement
from shared.telemetry import log, metrics
from shared.waiting import Pause

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


@dataclass(slots=True, eq=False)
class Batch:
    """`claimed_at`: monotonic, before the oldest was read; `alone`: one that may be poison."""

    stream: Stream
    deliveries: Sequence[Delivery]
    claimed_at: float
    alone: bool = False
    _started_at: float = field(default_factory=time.monotonic, init=False)
    _handling: asyncio.Task[list[Outcome]] | None = field(default=None, init=False)
    _down: Unavailable | None = field(default=None, init=False)  # the last one of the handler
    _lost: set[str] = field(default_factory=set, init=False)

    @property
    def entry_ids(self) -> list[str]:
        return [delivery.entry_id for delivery in self.deliveries]

    @property
    def handling(self) -> bool:
        """Return whether the handler runs now: not before it, and not while settling."""
        return self._handling is not None and not self._handling.done()

    def lose(self, entry_ids: set[str]) -> None:
        """Drop the results of these entries; cancel the handler when none is left."""
        self._lost |= entry_ids.intersection(self.entry_ids)
        if len(self._lost) == len(self.deliveries) and self._handling is not None:
            self._handling.cancel()

    async def run(
        self, handler: Handler, consumer: str, pause: Pause, on_failures: FailureListener | None
    ) -> None:
        """Handle and settle the jobs; a cancelled call leaves every entry pending."""
        # An entry with more deliveries than this has ended every consumer that handled it, so it
        # becomes a dead letter before the handler runs.
        policy = self.stream.policy
        budget = policy.limits.max_deliveries
        crash_loop = DeadLetter("crash_loop", f"{budget} deliveries", charged=False)
        settlements = [
            Settlement(delivery, crash_loop)
            for delivery in self.deliveries
            if delivery.deliveries > budget
        ]
        tried = [delivery for delivery in self.deliveries if delivery.deliveries <= budget]
        if tried and (outcomes := await self._handle(handler, tried)):
            pause_s = self._update_pause(pause)
            settlements += [
                Settlement(delivery, with_pause(outcome, delivery.job, policy, defer_s=pause_s))
                for delivery, outcome in zip(tried, outcomes, strict=True)
            ]
        failures = await self._settle(consumer, settlements)
        if failures and on_failures:
            await on_failures(failures)

    async def _handle(self, handler: Handler, tried: Sequence[Delivery]) -> list[Outcome] | None:
        """Return the outcomes; None when the handler was cancelled with every entry lost."""
        stage, now_ms = self.stream.stage, time.time() * 1000
        waited = metrics.JOB_WAIT.labels(stream=stage)
        for delivery in tried:
            waited.observe(max(0.0, now_ms - delivery.published_ms) / 1000)
        outcomes = self._outcomes(handler, [delivery.job for delivery in tried])
        self._handling = task = asyncio.create_task(outcomes, name="consumer-handle")
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        metrics.JOB_DURATION.labels(stream=stage).observe(time.monotonic() - self._started_at)
        return None if task.cancelled() else task.result()

    async def _outcomes(self, handler: Handler, jobs: Sequence[Job]) -> list[Outcome]:
        """Run the handler over all jobs, those on their last attempt alone, and never raise."""
        max_attempts = self.stream.policy.max_attempts
        last = {
            at for at, job in enumerate(jobs) if job.attempt and job.attempt + 1 >= max_attempts
        }
        together = [at for at in range(len(jobs)) if at not in last]
        attempt = partial(self._attempt, handler)
        outcomes: dict[int, Outcome] = {}
        for group in (together, *([at] for at in sorted(last))):
            group_jobs = [jobs[at] for at in group]
            results = await in_halves(
                attempt, group_jobs, split_on=Exception, failed=_outcome_alone
            )
            outcomes.update(zip(group, results, strict=True))
        return [outcomes[at] for at in range(len(jobs))]

    async def _attempt(self, handler: Handler, jobs: Sequence[Job]) -> list[Outcome]:
        """Call the handler; raise only what one of several jobs may have caused."""
        try:
            return _complete(await handler(jobs), len(jobs))
        except Unavailable as error:
            self._down = error
            return [Defer(str(error), error.retry_after_s or 0.0)] * len(jobs)
        except (PoisonInput, PermanentError):
            raise
        except (TransientError, Overloaded) as error:
            return [Retry(str(error), error.retry_after_s)] * len(jobs)
        except Exception as error:
            name, frames = type(error).__name__, log.frames_of(error)
            _log.error("handler.failed", error=name, jobs=len(jobs), frames=frames)
            raise

    def _update_pause(self, pause: Pause) -> float:
        """Begin or end the consumer's pause; return the least delay of deferred jobs in s."""
        if (down := self._down) is None:
            pause.end(self._started_at)
            return 0.0
        pause_s = pause.begin(self._started_at, wish_s=down.retry_after_s or 0.0)
        _log.warning("consumer.paused", stream=self.stream.stage, pause_s=pause_s, error=str(down))
        return pause_s

    async def _settle(self, consumer: str, settlements: Sequence[Settlement]) -> list[Failure]:
        """Settle the jobs that are not lost; return those retried or made dead letters."""
        failed_calls = 0
        while True:
            kept = [row for row in settlements if row.delivery.entry_id not in self._lost]
            try:
                results = await self.stream.settle(consumer, kept) if kept else []
                break
            except Unavailable:
                failed_calls += 1
                await asyncio.sleep(redis_backoff_s(failed_calls))
        dropped = len(self.deliveries) - len(kept)
        metrics.JOBS_SETTLED.labels(stream=self.stream.stage, outcome="lost").inc(dropped)
        return self._report(kept, results)

    def _report(
        self, settlements: Sequence[Settlement], results: Sequence[Settled]
    ) -> list[Failure]:
        failures = []
        elapsed_s = round(time.monotonic() - self._started_at, 3)
        counts: Counter[str] = Counter(lost=len(self.deliveries) - len(settlements))
        for settlement, result in zip(settlements, results, strict=True):
            outcome = settlement.outcome
            counts[outcome.label if result is Settled.OK else "lost"] += 1
            if result is Settled.OK and isinstance(outcome, Retry | DeadLetter):
                job, retried = settlement.job, isinstance(outcome, Retry)
                self._log_failure(job, outcome)
                failures.append(Failure(job, outcome.error, retried, elapsed_s * 1000))
        _log.info("batch.settled", stream=self.stream.stage, elapsed_s=elapsed_s, **+counts)
        return failures

    def _log_failure(self, job: Job, outcome: Retry | DeadLetter) -> None:
        reason = {} if isinstance(outcome, Retry) else {"reason": outcome.reason}
        _log.warning(
            f"job.{outcome.label}",
            stream=self.stream.stage,
            tenant=job.tenant,
            memory_id=job.memory_id,
            attempt=job.attempt,
            trace=job.trace,
            error=outcome.error,
            **reason,
        )


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
