"""The values that a stream takes and returns: outcomes, results, counts, locations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Literal, Self, TypeAlias

from shared.streams.job import Delivery, Job, Malformed

MALFORMED = "malformed"
State: TypeAlias = Literal["queued", "in_flight", "delayed", "dead"]


class Published(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"  # the job is live already: as good as new
    DEAD = "dead"  # the job is a dead letter: replay or discard it first
    BUSY = "busy"  # past high water or the tenant's share: the relay will try again


class Settled(StrEnum):
    OK = "OK"
    LOST = "LOST"  # another consumer holds the entry: what was computed here is dropped
    GONE = "GONE"  # no consumer holds it: it was settled before, or the stream was lost


@dataclass(frozen=True, slots=True)
class Done:
    """The job's effects are stored, or not needed any more: its entry is acked."""

    label: ClassVar[str] = "acked"


@dataclass(frozen=True, slots=True)
class Retry:
    """The job failed and an attempt is charged; it waits for at least `retry_after_s`."""

    error: str
    retry_after_s: float | None = None
    label: ClassVar[str] = "retried"


@dataclass(frozen=True, slots=True)
class Defer:
    """The job could not be tried; no attempt is charged."""

    error: str
    after_s: float
    label: ClassVar[str] = "parked"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The job is not tried again; `reason` is a word of a closed set, `error` says more.

    It is kept until it is replayed or discarded. `charged` is False where it was not tried.
    """

    reason: str
    error: str
    charged: bool = True
    label: ClassVar[str] = "buried"


# Labels are what metrics and log events have always called them.
Outcome: TypeAlias = Done | Retry | Defer | DeadLetter


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one next state of a delivered entry."""

    delivery: Delivery
    outcome: Outcome

    @property
    def job(self) -> Job:
        """Return the job as it is stored: with another attempt where one is charged."""
        job = self.delivery.job
        match self.outcome:
            case Retry() | DeadLetter(charged=True):
                return replace(job, attempt=job.attempt + 1)
        return job


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of the stage are in each state.

    `oldest_age_s` counts from the first publish of the oldest live job, by Redis' clock.
    """

    ready: int
    pending: int
    delayed: int
    dead: int
    oldest_age_s: float | None = field(default=None, compare=False)

    @property
    def live(self) -> int:
        """Return the number of jobs that is compared with high water."""
        return self.ready + self.pending + self.delayed


@dataclass(frozen=True, slots=True)
class JobLocation:
    """Where a job is; `job` is None where the stored one cannot be read.

    `due_ms` is of a delayed job; `dead_id`, `reason` and `dead_since_ms` are of a dead letter.
    `error` is the last one of both, in one short line of a delayed job.
    """

    state: State
    job: Job | None
    due_ms: int | None = None
    error: str = ""
    dead_id: str = ""
    reason: str = ""
    dead_since_ms: int | None = None

    @classmethod
    def of(
        cls,
        state: State,
        job: str,
        due_ms: str,
        error: str,
        dead_id: str,
        reason: str,
        dead_ms: str,
    ) -> Self:
        """Return what the reply of locations.lua says of one job."""
        due, dead_since = int(float(due_ms or 0)), int(dead_ms or 0)
        return cls(
            state, _job_or_none(job), due or None, error, dead_id, reason, dead_since or None
        )


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A dead letter; `job` is None for a malformed entry."""

    entry_id: str
    job: Job | None
    reason: str
    error: str
    attempts: int
    deliveries: int
    first_ms: int
    dead_since_ms: int
    consumer: str

    @classmethod
    def of(cls, entry_id: str, fields: Mapping[str, str]) -> Self:
        """Return the dead letter that an entry of the dead stream holds."""
        reason = fields.get("reason", "")
        return cls(
            entry_id=entry_id,
            job=None if reason == MALFORMED else _job_or_none(fields.get("job", "")),
            reason=reason,
            error=fields.get("error", ""),
            attempts=int(fields.get("attempts", 0)),
            deliveries=int(fields.get("deliveries", 0)),
            first_ms=int(fields.get("first", 0)),
            dead_since_ms=int(fields.get("buried", 0)),
            consumer=fields.get("consumer", ""),
        )


@dataclass(frozen=True, slots=True)
class ConsumerState:
    name: str
    pending: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Deliveries taken over; `poison_waits`: reclaim again, alone, when none is held."""

    deliveries: list[Delivery]
    poison_waits: bool


def _job_or_none(text: str) -> Job | None:
    try:
        return Job.decode(text)
    except Malformed:
        return None
