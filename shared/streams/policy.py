"""The limits of each stage: attempts, pauses, visibility, high water."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from shared.config import Settings, StreamSettings
from shared.streams.job import Stage
from shared.waiting import backoff_s

# The pause in s after the n-th call to Redis in a row that failed.
redis_backoff_s = partial(backoff_s, first_s=0.1, longest_s=2.0)


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """One stage's limits; `limits` are those that all stages have.

    `backoff_s(attempts)` is the longest wait in s before a retry of what failed so often.
    """

    stage: Stage
    max_attempts: int
    backoff_s: Callable[[int], float]
    block_s: float
    limits: StreamSettings

    @property
    def silence_limit_s(self) -> float:
        """Return the longest time between two reads of a consumer, Redis hanging."""
        return 3 * (self.block_s + 10.0)


def policy_for(stage: Stage, settings: Settings) -> StreamPolicy:
    streams, enrichment = settings.streams, settings.enrichment
    attempts, first_s, block_s = streams.embed_attempts, streams.embed_backoff_s, streams.block_s
    backoff = partial(backoff_s, first_s=first_s, longest_s=streams.embed_backoff_max_s)
    if stage in (Stage.ENRICH, Stage.RELATE):
        attempts, block_s = enrichment.max_attempts, min(block_s, enrichment.idle_sleep_s)
        backoff = partial(backoff_s, first_s=enrichment.failure_backoff_s, factor=5.0)
    return StreamPolicy(stage, attempts, backoff, block_s, streams)
