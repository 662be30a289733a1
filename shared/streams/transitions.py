"""What a stream says and is told: answers, settlements, counts, and a stage's limits.

Also the one place that knows how these look on the wire to the scripts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Any, Self, TypeVar

from shared.config import Settings
from shared.streams.job import Delivery, Job, Malformed, Stage
from shared.waiting import backoff_s

# One script call handles at most so many jobs: it holds Redis for some milliseconds.
CHUNK = 500
_ERROR_CHARS = 2048
# There may be as many delayed jobs as high water allows, and Redis keeps this twice.
_DELAYED_ERROR_CHARS = 256
MALFORMED = "malformed"

_T = TypeVar("_T")


class Published(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"  # it is live already: as good as new
    DEAD = "dead"  # it was buried: replay or discard it first
    BUSY = "busy"  # past high water or the tenant's share: the relay will try again


class Transition(StrEnum):
    ACK = "ack"
    RETRY = "retry"
    DEFER = "defer"
    DEAD_LETTER = "dead_letter"


class Settled(StrEnum):
    OK = "OK"
    LOST = "LOST"  # another consumer holds the entry: what was computed here is dropped
    GONE = "GONE"  # nobody holds it: settled before, or the stream was lost


OUTCOME = {
    Transition.ACK: "acked",
    Transition.RETRY: "retried",
    Transition.DEFER: "parked",
    Transition.DEAD_LETTER: "buried",
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one next state of a delivered entry; `job` is what a retry or a burial keeps."""

    delivery: Delivery
    transition: Transition
    job: Job
    delay_s: float = 0.0
    reason: str = ""
    error: str = ""

    @classmethod
    def ack(cls, delivery: Delivery) -> Self:
        return cls(delivery, Transition.ACK, delivery.job)

    @classmethod
    def retry(cls, delivery: Delivery, delay_s: float, error: str = "") -> Self:
        """Again after `delay_s`, with one attempt charged."""
        return cls(
            delivery, Transition.RETRY, delivery.job.failed_once_more(), delay_s, error=error
        )

    @classmethod
    def defer(cls, delivery: Delivery, delay_s: float, error: str = "") -> Self:
        """Again after `delay_s`; the failure was not the job's."""
        return cls(delivery, Transition.DEFER, delivery.job, delay_s, error=error)

    @classmethod
    def dead_letter(
        cls, delivery: Delivery, reason: str, error: str, *, charged: bool = True
    ) -> Self:
        """Into the dead stream, until it is replayed or discarded; `charged`: a handler failed."""
        job = delivery.job.failed_once_more() if charged else delivery.job
        return cls(delivery, Transition.DEAD_LETTER, job, reason=reason, error=error)


@dataclass(frozen=True, slots=True)
class Depth:
    ready: int
    pending: int
    delayed: int
    dead: int

    @property
    def live(self) -> int:
        """What high water is compared with."""
        return self.ready + self.pending + self.delayed


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A buried job; `job` is None for a malformed entry, whose raw fields `raw` keeps."""

    entry_id: str
    job: Job | None
    reason: str
    error: str
    attempts: int
    deliveries: int
    first_ms: int
    dead_since_ms: int
    consumer: str
    raw: str


@dataclass(frozen=True, slots=True)
class ConsumerState:
    name: str
    pending: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What `reclaim` took; `poison_waits`: call again, alone, when nothing else is held."""

    deliveries: list[Delivery]
    poison_waits: bool


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """One stage's limits; a retry waits at most `first_backoff_s`, times the factor per attempt."""

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

    def backoff_s(self, attempts: int) -> float:
        """Return the longest wait in s before a retry of what failed `attempts` times."""
        return backoff_s(
            attempts,
            first_s=self.first_backoff_s,
            longest_s=self.longest_backoff_s,
            factor=self.backoff_factor,
        )


def policy_for(stage: Stage, settings: Settings) -> StreamPolicy:
    streams, enrichment = settings.streams, settings.enrichment
    slow = stage in (Stage.ENRICH, Stage.RELATE)
    return StreamPolicy(
        stage=stage,
        max_attempts=enrichment.max_attempts if slow else streams.embed_attempts,
        first_backoff_s=enrichment.failure_backoff_s if slow else streams.embed_backoff_s,
        backoff_factor=5.0 if slow else 2.0,
        longest_backoff_s=math.inf if slow else streams.embed_backoff_max_s,
        max_deliveries=streams.max_deliveries,
        visibility_s=streams.visibility_s,
        block_s=min(streams.block_s, enrichment.idle_sleep_s) if slow else streams.block_s,
        promote_every_s=streams.promote_every_s,
        high_water=streams.high_water,
        tenant_share=streams.tenant_share,
    )


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as Redis delivered it, before anyone knows whether it is a Job."""

    entry_id: str
    deliveries: int
    fields: Mapping[str, str] = field(default_factory=dict)


def redis_backoff_s(failures: int) -> float:
    """Return the pause in s after the n-th call to Redis in a row that failed."""
    return backoff_s(failures, first_s=0.1, longest_s=2.0)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def entries_of(reply: Any) -> list[tuple[str, dict[str, str] | None]]:
    """XREADGROUP's entries: the reply is a list, or a dict where a URL asks for protocol 3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [entry for pages in reply.values() for page in pages for entry in page]
    return [entry for _, entries in reply for entry in entries]


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """A script's flat field list, as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def settle_row(settlement: Settlement) -> list[str]:
    """One entry's arguments for settle.lua."""
    delivery, job = settlement.delivery, settlement.job
    row = [delivery.entry_id, delivery.job.key]
    match settlement.transition:
        case Transition.ACK:
            return [*row, "ack"]
        case Transition.RETRY | Transition.DEFER:
            told = " ".join(settlement.error.split())[:_DELAYED_ERROR_CHARS]
            return [*row, "delay", job.encode(), str(round(settlement.delay_s * 1000)), told]
        case Transition.DEAD_LETTER:
            error = settlement.error[:_ERROR_CHARS]
            return [*row, "bury", job.encode(), settlement.reason, error, str(job.attempt)]


def malformed_row(raw: RawEntry, error: str) -> list[str]:
    """Arguments for settle.lua that bury an entry that is no Job, its fields kept as JSON."""
    kept = json.dumps(raw.fields, sort_keys=True)
    key = raw.fields.get("key", "")
    return [raw.entry_id, key, "bury", kept, MALFORMED, error[:_ERROR_CHARS], "0"]


def replay_row(dead: DeadJob) -> list[str]:
    """One job's arguments for replay.lua."""
    if dead.job is None:
        return []
    return [dead.entry_id, dead.job.key, replace(dead.job, attempt=0).encode()]


def dead_job(entry_id: str, fields: Mapping[str, str]) -> DeadJob:
    raw = fields.get("job", "")
    malformed = fields.get("reason") == MALFORMED
    return DeadJob(
        entry_id=entry_id,
        job=None if malformed else _job_or_none(raw),
        reason=fields.get("reason", ""),
        error=fields.get("error", ""),
        attempts=int(fields.get("attempts", 0)),
        deliveries=int(fields.get("deliveries", 0)),
        first_ms=int(fields.get("first", 0)),
        dead_since_ms=int(fields.get("buried", 0)),
        consumer=fields.get("consumer", ""),
        raw=raw,
    )


def _job_or_none(text: str) -> Job | None:
    try:
        return Job.decode(text)
    except Malformed:
        return None
