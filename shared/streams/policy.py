"""The limits of each stage: attempts, pauses, visibility, high water."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config import Settings
from shared.streams.job import Stage
from shared.waiting import backoff_s


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """One stage's limits; a retry waits `first_backoff_s`, times the factor for each attempt."""

    stage: Stage
    max_attempts: int
    first_backoff_s: float
    backoff_factor: float
    longest_backoff_s: float
    max_deliveries: int
    visibility_s: float
    block_s: float
    promote_every_s: float
    high_water: int
    tenant_share: float

    @property
    def silence_limit_s(self) -> float:
        """Return the longest time between two reads of a consumer, Redis hanging."""
        return 3 * (self.block_s + 10.0)

    def backoff_s(self, attempts: int) -> float:
        """Return the longest wait in s before a retry of what failed `attempts` times."""
        first_s, longest_s = self.first_backoff_s, self.longest_backoff_s
        return backoff_s(attempts, first_s=first_s, longest_s=longest_s, factor=self.backoff_factor)


def policy_for(stage: Stage, settings: Settings) -> StreamPolicy:
    streams, enrichment = settings.streams, settings.enrichment
    as_enrichment = stage in (Stage.ENRICH, Stage.RELATE)
    block_s = min(streams.block_s, enrichment.idle_sleep_s) if as_enrichment else streams.block_s
    return StreamPolicy(
        stage=stage,
        max_attempts=enrichment.max_attempts if as_enrichment else streams.embed_attempts,
        first_backoff_s=enrichment.failure_backoff_s if as_enrichment else streams.embed_backoff_s,
        backoff_factor=5.0 if as_enrichment else 2.0,
        longest_backoff_s=math.inf if as_enrichment else streams.embed_backoff_max_s,
        max_deliveries=streams.max_deliveries,
        visibility_s=streams.visibility_s,
        block_s=block_s,
        promote_every_s=streams.promote_every_s,
        high_water=streams.high_water,
        tenant_share=streams.tenant_share,
    )


def redis_backoff_s(failures: int) -> float:
    """Return the pause in s after the n-th call to Redis in a row that failed."""
    return backoff_s(failures, first_s=0.1, longest_s=2.0)
