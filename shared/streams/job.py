"""Job: the request to bring one memory up to its version in one stage.

A job carries ids, never content, so it stays under 1 KiB, and running it twice changes
nothing. Jobs with equal keys are the same job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from shared.compact_json import compact_json


class Stage(StrEnum):
    """The work streams; each stage is one stream, one group, one ledger."""

    ENRICH = "enrich"
    EMBED = "embed"
    RELATE = "relate"
    ASK = "ask"
    EXTRACT = "extract"
    CONSOLIDATE = "consolidate"
    SYNC = "sync"


class Malformed(ValueError):
    """The entry holds no valid job; it becomes a dead letter and is never dropped."""


@dataclass(frozen=True, slots=True)
class Job:
    """Bring memory `memory_id` of `tenant` up to `version` in one stage.

    `version` is the memory's `version` for enrich and ask, its `payload_version` for embed and
    relate. `run` is the id of the Run that forced it, or empty: a forced job is another
    job than the ordinary one. `attempt` counts handled failures; `trace` is the request id.
    """

    tenant: str
    memory_id: str
    version: int
    run: str = ""
    attempt: int = 0
    trace: str = ""

    @property
    def key(self) -> str:
        """Return the ledger's field: tenants never contain `|`, ids are UUIDs."""
        return f"{self.tenant}|{self.memory_id}|{self.version}|{self.run}"

    def encode(self) -> str:
        return compact_json(
            [self.tenant, self.memory_id, self.version, self.run, self.attempt, self.trace]
        )

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises: Malformed for anything that `encode` cannot have written."""
        try:
            tenant, memory_id, version, run, attempt, trace = json.loads(text)
            return cls(
                str(tenant), str(memory_id), int(version), str(run), int(attempt), str(trace)
            )
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Malformed(str(error)) from error


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivered job, its entry's id and how often the entry was delivered (from 1)."""

    job: Job
    entry_id: str
    deliveries: int

    @property
    def published_ms(self) -> int:
        """Return when the entry was added, by the Redis server's clock."""
        return int(self.entry_id.partition("-")[0])


def by_tenant(jobs: Iterable[Job]) -> dict[str, dict[str, Job]]:
    """Return the jobs of each tenant by their memory's id; a batch holds each memory once."""
    grouped: dict[str, dict[str, Job]] = {}
    for job in jobs:
        grouped.setdefault(job.tenant, {})[job.memory_id] = job
    return grouped
