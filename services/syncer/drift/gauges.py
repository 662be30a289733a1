"""Shown: the drift that this process knows of, in its gauges, summed up over the tenants."""

from __future__ import annotations

from collections.abc import Mapping

from services.syncer.drift.findings import Audit
from shared.telemetry import metrics

KINDS = ("missing", "orphaned", "stale", "payload")


class DriftGauges:
    """One of a process, for the schedule and for runs that were asked for."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, int]] = {}

    def found(self, audits: Mapping[str, Audit]) -> None:
        """What a round of the schedule found, before it repaired; all tenants of it."""
        self._of = {tenant: counts(audit) for tenant, audit in audits.items()}
        self._show()

    def left(self, tenant: str, audit: Audit, *, repaired: bool) -> None:
        """What a run left of one tenant; what failed is not told apart by kind."""
        counted = counts(audit)
        counted["orphaned"] -= audit.orphans_deleted
        if repaired and not audit.failed:
            counted |= {"missing": 0, "stale": 0, "payload": 0}
        self._of[tenant] = counted
        self._show()

    def withdraw(self) -> None:
        """Show nothing: another process leads now."""
        self._of = {}
        metrics.DRIFT.clear()

    def _show(self) -> None:
        for kind in KINDS:
            total = sum(each[kind] for each in self._of.values())
            metrics.DRIFT.labels(kind=kind).set(total)


def counts(audit: Audit) -> dict[str, int]:
    return {
        "missing": audit.missing_count,
        "orphaned": audit.orphaned_count,
        "stale": audit.stale_count,
        "payload": audit.payload_count,
    }
