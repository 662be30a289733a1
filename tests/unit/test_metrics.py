"""Every metric: one prefix, base units, help, and labels that are closed sets."""

from __future__ import annotations

import re

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from shared.telemetry import metrics

LABELS = {
    *("stream", "result", "outcome", "state", "schedule", "method", "route", "status", "reason"),
    *("store", "operation", "kind", "client", "model", "direction", "category", "type", "process"),
    *("version", "role", "python", "by"),
}
OURS = {name: each for name, each in vars(metrics).items() if isinstance(each, MetricWrapperBase)}


@pytest.mark.parametrize("name", OURS)
def test_a_metric_is_named_and_labelled_as_prometheus_asks(name: str) -> None:
    metric = OURS[name]
    family = next(iter(metric.describe()))
    assert re.fullmatch(r"eunoe_[a-z_]+", family.name)
    assert family.documentation
    assert set(metric._labelnames) <= LABELS
    if isinstance(metric, Histogram):
        assert family.name.endswith(("_seconds", "_bytes", "_calls"))
    if isinstance(metric, Counter):
        assert not family.name.endswith("_total")  # the client adds it


def test_all_are_in_the_registry_that_is_served() -> None:
    served = {family.name for family in REGISTRY.collect()}
    assert {next(iter(metric.describe())).name for metric in OURS.values()} <= served
    assert any(isinstance(metric, Gauge) for metric in OURS.values())
