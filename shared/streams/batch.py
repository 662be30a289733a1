"""Batch: the jobs one handler call gets, from their start to their settlement.

A batch may lose entries while it runs: a renewal says that another consumer has them, or
none got through for a whole visibility. What comes of those is dropped; what has finished
is settled however long Redis takes to answer, since the settling script knows whose it is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from shared.errors import Unavailable
from shared.streams.handler import (
    Defer,
    Failure,
    FailureListener,
    Handled,
    Handler,
    Outcome,
    handle,
    settlement_for,
)
from shared.streams.intake import Pause
from shared.streams.job import Delivery
from shared.streams.stream import Settled, Settlement, Stream
from shared.streams.transitions import OUTCOME, Transition, redis_backoff_s
from shared.telemetry import log, metrics

_log = log.get_logger(__name__)


class Batch:
    """`claimed_at`: monotonic, before the oldest entry was asked for; `alone`: it is a suspect."""

    def __init__(
        self, stream: Stream, deliveries: Sequence[Delivery], *, claimed_at: float, alone: bool
    ) -> None:
        self.entry_ids = [delivery.entry_id for delivery in deliveries]
        self.claimed_at = claimed_at
        self.alone = alone
        self._stream = stream
        self._deliveries = deliveries
        self._started_at = time.monotonic()
        self._handling: asyncio.Task[Handled] | None = None
        self._lost: set[str] = set()

    @property
    def handling(self) -> bool:
        """Whether the handler still runs: not before it, and not while settling."""
        return self._handling is not None and not self._handling.done()

    def lose(self, entry_ids: set[str]) -> None:
        """Drop what comes of these; with nothing left to work for the handler is cancelled."""
        self._lost |= entry_ids.intersection(self.entry_ids)
        if len(self._lost) == len(self.entry_ids) and self._handling is not None:
            self._handling.cancel()

    async def run(
        self, handler: Handler, consumer: str, pause: Pause, on_failures: FailureListener | None
    ) -> None:
        """Handle and settle; cancelling it leaves every entry pending."""
        # Checked before the handler: an entry past this budget ended its consumers.
        budget = self._stream.policy.max_deliveries
        settlements = [
            Settlement.dead_letter(delivery, "crash_loop", f"{budget} deliveries", charged=False)
            for delivery in self._deliveries
            if delivery.deliveries > budget
        ]
        tried = [delivery for delivery in self._deliveries if delivery.deliveries <= budget]
        if tried and (handled := await self._handle(handler, tried)):
            parked_s = self._judge(handled, pause)
            settlements += [
                settlement_for(delivery, _parked(outcome, parked_s), self._stream.policy)
                for delivery, outcome in zip(tried, handled.outcomes, strict=True)
            ]
        failures = await self._settle(consumer, settlements)
        if failures and on_failures:
            await on_failures(failures)

    async def _handle(self, handler: Handler, tried: Sequence[Delivery]) -> Handled | None:
        """The outcomes; None when the handler was cancelled because everything was lost."""
        stage, now_ms = self._stream.stage, time.time() * 1000
        waited = metrics.JOB_WAIT.labels(stream=stage)
        for delivery in tried:
            waited.observe(max(0.0, now_ms - delivery.published_ms) / 1000)
        jobs = [delivery.job for delivery in tried]
        attempts = self._stream.policy.max_attempts
        task = asyncio.create_task(
            handle(handler, jobs, max_attempts=attempts), name="consumer-handle"
        )
        self._handling = task
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        metrics.JOB_DURATION.labels(stream=stage).observe(time.monotonic() - self._started_at)
        return None if task.cancelled() else task.result()

    def _judge(self, handled: Handled, pause: Pause) -> float:
        """Begin or end the consumer's pause; how long parked jobs should stay away, in s."""
        if handled.down is None:
            pause.end(self._started_at)
            return 0.0
        error, wish_s = str(handled.down), handled.down.retry_after_s or 0.0
        pause_s = pause.begin(self._started_at, wish_s=wish_s)
        _log.warning("consumer.paused", stream=self._stream.stage, pause_s=pause_s, error=error)
        return pause_s

    async def _settle(self, consumer: str, settlements: Sequence[Settlement]) -> list[Failure]:
        """Settle what is still mine; returns those that were retried or buried."""
        failures = 0
        while True:
            kept = [each for each in settlements if each.delivery.entry_id not in self._lost]
            try:
                answers = await self._stream.settle(consumer, kept) if kept else []
            except Unavailable:
                failures += 1
                await asyncio.sleep(redis_backoff_s(failures))
            else:
                break
        dropped = len(self._deliveries) - len(kept)
        metrics.JOBS_SETTLED.labels(stream=self._stream.stage, outcome="lost").inc(dropped)
        return self._report(kept, answers)

    def _report(
        self, settlements: Sequence[Settlement], answers: Sequence[Settled]
    ) -> list[Failure]:
        stage, failures = self._stream.stage, []
        elapsed_s = round(time.monotonic() - self._started_at, 3)
        counts: Counter[str] = Counter(lost=len(self._deliveries) - len(settlements))
        for settlement, answer in zip(settlements, answers, strict=True):
            outcome = OUTCOME[settlement.transition] if answer is Settled.OK else "lost"
            counts[outcome] += 1
            if outcome in (OUTCOME[Transition.RETRY], OUTCOME[Transition.DEAD_LETTER]):
                _log.warning(f"job.{outcome}", stream=stage, **_described(settlement))
                will_retry = settlement.transition is Transition.RETRY
                failures.append(
                    Failure(settlement.job, settlement.error, will_retry, elapsed_s * 1000)
                )
        _log.info("batch.settled", stream=stage, elapsed_s=elapsed_s, **+counts)
        return failures


def _parked(outcome: Outcome, at_least_s: float) -> Outcome:
    if isinstance(outcome, Defer):
        return Defer(outcome.error, max(outcome.after_s, at_least_s))
    return outcome


def _described(settlement: Settlement) -> dict[str, object]:
    job = settlement.job
    told: dict[str, object] = {
        "tenant": job.tenant,
        "memory_id": job.memory_id,
        "attempt": job.attempt,
        "trace": job.trace,
        "error": settlement.error,
    }
    return told | {"reason": settlement.reason} if settlement.reason else told
