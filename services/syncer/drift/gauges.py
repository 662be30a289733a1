"""The drift that this process knows of, in its gauges, summed up over the tenants."""

from __future__ import annotations

from collections.abc import Mapping

from services.syncer.drift.findings import Audit
from shared.telemetry import metrics

KINDS = ("missing", "orphaned", "stale", "payload")


class DriftGauges:
    """One per process, for the schedule and for runs that clients requested."""

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
