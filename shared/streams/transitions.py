"""The values that a stream takes and returns: settlements, results, counts, locations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self, TypeAlias

from shared.streams.job import Delivery, Job

State: TypeAlias = Literal["queued", "in_flight", "delayed", "dead"]


class Published(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"  # the job is live already: as good as new
    DEAD = "dead"  # the job is a dead letter: replay or discard it first
    BUSY = "busy"  # past high water or the tenant's share: the relay will try again


class Transition(StrEnum):
    """Where a settled entry goes; the value is the label and the log event that operators know."""

    ACK = "acked"
    RETRY = "retried"
    DEFER = "parked"
    DEAD_LETTER = "buried"


class Settled(StrEnum):
    OK = "OK"
    LOST = "LOST"  # another consumer holds the entry: what was computed here is dropped
    GONE = "GONE"  # no consumer holds it: it was settled before, or the stream was lost


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one next state of a delivered entry; `job` is what is stored of it."""

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
        """Deliver it again after `delay_s`, with one attempt charged."""
        job = delivery.job.failed_once_more()
        return cls(delivery, Transition.RETRY, job, delay_s, error=error)

    @classmethod
    def defer(cls, delivery: Delivery, delay_s: float, error: str = "") -> Self:
        """Deliver it again after `delay_s`; no attempt is charged."""
        return cls(delivery, Transition.DEFER, delivery.job, delay_s, error=error)

    @classmethod
    def dead_letter(
        cls, delivery: Delivery, reason: str, error: str, *, charged: bool = True
    ) -> Self:
        """Keep it as a dead letter until it is replayed or discarded; `charged`: it was tried."""
        job = delivery.job.failed_once_more() if charged else delivery.job
        return cls(delivery, Transition.DEAD_LETTER, job, reason=reason, error=error)


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of the stage are in each state."""

    ready: int
    pending: int
    delayed: int
    dead: int

    @property
    def live(self) -> int:
        """What high water is compared with."""
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


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A dead letter; `job` is None for a malformed entry, whose fields `raw` keeps."""

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
    """What was taken over; `poison_waits`: reclaim again, alone, when nothing else is held."""

    deliveries: list[Delivery]
    poison_waits: bool
