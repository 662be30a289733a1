"""A leader withdraws its gauges when its term ends, so that sums over processes are right."""

from prometheus_client import REGISTRY

from services.syncer.drift.findings import KINDS, Audit, DriftGauges
from services.syncer.janitor import withdraw_depths
from shared.telemetry import metrics


def drift(kind: str) -> float | None:
    return REGISTRY.get_sample_value("eunoe_drift_memories", {"kind": kind})


def test_drift_is_withdrawn_whole() -> None:
    shown = DriftGauges()
    shown.set_found({"one": Audit(), "two": Audit()})
    assert [drift(kind) for kind in KINDS] == [0.0] * len(KINDS)
    shown.withdraw()
    assert [drift(kind) for kind in KINDS] == [None] * len(KINDS)
    shown.set_left("two", Audit(), repaired=True)
    assert drift("missing") == 0.0, "a later run's finding is shown again"
    shown.withdraw()


def test_depths_are_withdrawn() -> None:
    metrics.STREAM_ENTRIES.labels(stream="enrich", state="dead").set(3)
    metrics.STREAM_OLDEST_AGE.labels(stream="enrich").set(3)
    withdraw_depths()
    labels = {"stream": "enrich"}
    assert REGISTRY.get_sample_value("eunoe_stream_entries", {**labels, "state": "dead"}) is None
    assert REGISTRY.get_sample_value("eunoe_stream_oldest_age_seconds", labels) is None
