"""How a memory's point differs from the memory, what an audit counts, and the drift gauges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from shared.domain.memory import NEVER_MS, same_text, text_hash
from shared.graph.upkeep.sweeps import Audited
from shared.telemetry import metrics
from shared.vectors import StoredPoint, point_for

KINDS = ("missing", "orphaned", "stale", "payload")
_SAMPLE = 10
_VERSIONS = ("version", "payload_version")


class Finding(StrEnum):
    AGREES = "agrees"
    PENDING = "pending"  # it is due for embedding: no drift
    GIVEN_UP = "given_up"  # its embedding failed, and a dead job has the reason: no drift either
    MISSING = "missing"
    STALE = "stale"  # of another version, text or model
    PAYLOAD = "payload"  # the filters would read other values than the memory has


DRIFT = frozenset({Finding.MISSING, Finding.STALE, Finding.PAYLOAD})


def finding_of(tenant: str, row: Audited, stored: StoredPoint | None, model: str) -> Finding:
    """Compare a memory with its point in the live generation, whose model is `model`."""
    if row.embed_due is not None:
        return Finding.GIVEN_UP if row.embed_due >= NEVER_MS else Finding.PENDING
    if stored is None:
        return Finding.MISSING
    if _is_stale(row, stored, model):
        return Finding.STALE
    wanted = point_for(tenant, row.memory, text_hash=stored.text_hash)
    return Finding.AGREES if _exact(wanted.payload) == _exact(stored.payload) else Finding.PAYLOAD


def unwritable(row: Audited, stored: StoredPoint | None) -> bool:
    """Return whether an upsert would keep this point: its version is newer, or no integer."""
    if stored is None:
        return False
    version = stored.payload.get("payload_version")
    return not isinstance(version, int) or version > row.memory.payload_version


def _is_stale(row: Audited, stored: StoredPoint, model: str) -> bool:
    memory = row.memory
    if memory.embedded_version < memory.payload_version:
        return True  # Without a due time, the relay never publishes its job.
    if any(stored.payload.get(name) != getattr(memory, name) for name in _VERSIONS):
        return True
    if not same_text(stored.text_hash, text_hash(model, memory.content)):
        return True
    # The node's hash may still be of the model before a switch, and then proves nothing.
    return same_text(memory.text_hash, stored.text_hash) and memory.text_hash != stored.text_hash


def _exact(payload: Mapping[str, Any]) -> str:
    """Return JSON, which distinguishes 1, 1.0 and true, as Qdrant's indexes do."""
    return json.dumps(payload, sort_keys=True)


@dataclass(slots=True)
class Audit:
    """Counts of findings and repairs so far, from which another process can go on.

    Counts and samples describe the stores before any repair. Memories are audited up to the id
    `after`. `repairing` lists the memories, `deleting` the points, whose repair or deletion has
    begun and may not have ended.
    """

    generation: str = ""
    falkordb_count: int = 0
    qdrant_count: int = 0
    missing_count: int = 0
    orphaned_count: int = 0
    stale_count: int = 0
    payload_count: int = 0
    pending_count: int = 0
    given_up_count: int = 0
    synced: int = 0
    failed: int = 0
    orphans_deleted: int = 0
    missing_sample: list[str] = field(default_factory=list)
    orphaned_sample: list[str] = field(default_factory=list)
    stale_sample: list[str] = field(default_factory=list)
    payload_sample: list[str] = field(default_factory=list)
    failed_ids: list[str] = field(default_factory=list)
    processed: int = 0
    total: int = 0
    points_through: bool = False
    after: str = ""
    repairing: list[str] = field(default_factory=list)
    deleting: list[str] = field(default_factory=list)

    @classmethod
    def resumed(cls, state: Mapping[str, Any]) -> Self:
        """Return the audit that was last written as `state`; a new one if that is empty."""
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})

    @property
    def drifted(self) -> int:
        """How many memories have a missing or wrong point; orphans are not among them."""
        return self.missing_count + self.stale_count + self.payload_count

    def count_memories(self, found: Mapping[str, Finding]) -> None:
        self.falkordb_count += len(found)
        for kind in (*sorted(DRIFT), Finding.PENDING, Finding.GIVEN_UP):
            ids = [key for key, finding in found.items() if finding is kind]
            setattr(self, f"{kind}_count", getattr(self, f"{kind}_count") + len(ids))
            if kind in DRIFT:
                sample(getattr(self, f"{kind}_sample"), ids)

    def count_repaired(self, failed: Sequence[str]) -> None:
        """Count the repair as ended; the `failed` ones of it still differ."""
        self.synced += len(self.repairing) - len(failed)
        self.failed += len(failed)
        sample(self.failed_ids, failed)
        self.repairing = []

    def result(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Return AutoMem's answer of /admin/sync, with counts that AutoMem does not have."""
        status = "complete" if self.drifted or self.orphans_deleted else "already_synced"
        hidden = {"processed", "total", "points_through", "after", "repairing", "deleting"}
        if not self.failed_ids:
            hidden.add("failed_ids")
        answer = {key: value for key, value in asdict(self).items() if key not in hidden}
        if self.failed > len(self.failed_ids):
            answer["failed_ids_truncated"] = True
        return {"status": "dry_run" if dry_run else status, **answer}


def sample(kept: list[str], more: Iterable[str]) -> None:
    """Add ids to `kept` until it has ten different ones."""
    for each in more:
        if len(kept) >= _SAMPLE:
            return
        if each not in kept:
            kept.append(each)


class DriftGauges:
    """The drift that this process knows of, summed up over the tenants.

    One per process, for the schedule and for runs that clients requested.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def set_found(self, audits: Mapping[str, Audit]) -> None:
        """Show what a round of the schedule found before it repaired, in all its tenants."""
        self._counts = {tenant: counts(audit) for tenant, audit in audits.items()}
        self._show()

    def set_left(self, tenant: str, audit: Audit, *, repaired: bool) -> None:
        """Show what a run left of one tenant; its failures are not counted by kind."""
        left = counts(audit)
        left["orphaned"] -= audit.orphans_deleted
        if repaired and not audit.failed:
            left |= {"missing": 0, "stale": 0, "payload": 0}
        self._counts[tenant] = left
        self._show()

    def withdraw(self) -> None:
        """Show nothing: another process leads now."""
        self._counts = {}
        metrics.DRIFT.clear()

    def _show(self) -> None:
        for kind in KINDS:
            total = sum(each[kind] for each in self._counts.values())
            metrics.DRIFT.labels(kind=kind).set(total)


def counts(audit: Audit) -> dict[str, int]:
    return {kind: getattr(audit, f"{kind}_count") for kind in KINDS}
