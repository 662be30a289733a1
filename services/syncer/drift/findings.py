"""Findings: what one memory's point looks like beside its memory, and what an audit counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from shared.domain.memory import NEVER_MS, same_text, text_hash
from shared.graph.upkeep.sweeps import Audited
from shared.vectors import StoredPoint, point_for

_SAMPLE = 10
_VERSIONS = ("version", "payload_version")


class Finding(StrEnum):
    AGREES = "agrees"
    PENDING = "pending"  # its embedding is on its way: no drift
    GIVEN_UP = "given_up"  # its embedding failed, a dead job says why: no drift either
    MISSING = "missing"
    STALE = "stale"  # of another version, text or model
    PAYLOAD = "payload"  # the filters would read something else than the memory says


DRIFT = frozenset({Finding.MISSING, Finding.STALE, Finding.PAYLOAD})


def finding_of(tenant: str, row: Audited, stored: StoredPoint | None, model: str) -> Finding:
    """Compare a memory with what the live generation, filled by `model`, stores of it."""
    if row.embed_due is not None:
        return Finding.GIVEN_UP if row.embed_due >= NEVER_MS else Finding.PENDING
    if stored is None:
        return Finding.MISSING
    if _is_stale(row, stored, model):
        return Finding.STALE
    wanted = point_for(tenant, row.memory, text_hash=stored.text_hash)
    return Finding.AGREES if _exact(wanted.payload) == _exact(stored.payload) else Finding.PAYLOAD


def unwritable(row: Audited, stored: StoredPoint | None) -> bool:
    """Whether the guard of upserts would keep this point, although its memory is older."""
    if stored is None:
        return False
    version = stored.payload.get("payload_version")
    return not isinstance(version, int) or version > row.memory.payload_version


def _is_stale(row: Audited, stored: StoredPoint, model: str) -> bool:
    memory = row.memory
    if memory.embedded_version < memory.payload_version:
        return True  # and it has no due time: nobody else would ever see to it
    if any(stored.payload.get(name) != getattr(memory, name) for name in _VERSIONS):
        return True
    if not same_text(stored.text_hash, text_hash(model, memory.content)):
        return True
    # The node's hash may still be of the model before a switch: then it says nothing here.
    return same_text(memory.text_hash, stored.text_hash) and memory.text_hash != stored.text_hash


def _exact(payload: Mapping[str, Any]) -> str:
    """Values with their types: an index of integers does not hold 1.0, nor one of bools 1."""
    return json.dumps(payload, sort_keys=True)


@dataclass(slots=True)
class Audit:
    """What was found and done so far; also the progress from which another goes on.

    Counts and samples are of before any repair. `after` is the id up to which memories are
    through, `repairing` (memories) and `deleting` (points) are what was begun and may not have
    ended.
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
    def resumed(cls, noted: Mapping[str, Any]) -> Self:
        """The audit whose `noted` was written last; a new one of nothing."""
        return cls(**{each.name: noted[each.name] for each in fields(cls) if each.name in noted})

    def noted(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def drifted(self) -> int:
        """Memories whose point is missing or wrong; orphans are counted apart."""
        return self.missing_count + self.stale_count + self.payload_count

    def count_memories(self, found: Mapping[str, Finding]) -> None:
        by_kind = {kind: [key for key, each in found.items() if each is kind] for kind in Finding}
        self.falkordb_count += len(found)
        self.missing_count += len(by_kind[Finding.MISSING])
        self.stale_count += len(by_kind[Finding.STALE])
        self.payload_count += len(by_kind[Finding.PAYLOAD])
        self.pending_count += len(by_kind[Finding.PENDING])
        self.given_up_count += len(by_kind[Finding.GIVEN_UP])
        sample(self.missing_sample, by_kind[Finding.MISSING])
        sample(self.stale_sample, by_kind[Finding.STALE])
        sample(self.payload_sample, by_kind[Finding.PAYLOAD])

    def count_repaired(self, failed: Iterable[str]) -> None:
        """What was being repaired has ended, and these of it did not come right."""
        wrong = list(failed)
        self.synced += len(self.repairing) - len(wrong)
        self.failed += len(wrong)
        sample(self.failed_ids, wrong)
        self.repairing = []

    def result(self, status: str) -> dict[str, Any]:
        """AutoMem's answer of /admin/sync, and what it does not tell apart."""
        hidden = {"processed", "total", "points_through", "after", "repairing", "deleting"}
        if not self.failed_ids:
            hidden.add("failed_ids")
        told = {key: value for key, value in asdict(self).items() if key not in hidden}
        if self.failed > len(self.failed_ids):
            told["failed_ids_truncated"] = True
        return {"status": status, **told}


def sample(kept: list[str], more: Iterable[str]) -> None:
    """Let `kept` grow to ten different ids, no further."""
    for each in more:
        if len(kept) >= _SAMPLE:
            return
        if each not in kept:
            kept.append(each)
