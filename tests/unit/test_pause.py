"""Pause: doubles while probes fail, ends with the first batch that gets through."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry, Gauge

from shared.waiting import Pause


@pytest.fixture
def gauge() -> Gauge:
    return Gauge("eunoe_test_paused", "test", registry=CollectorRegistry())


def shown(gauge: Gauge) -> float:
    [metric] = gauge.collect()
    return metric.samples[0].value


def test_nothing_pauses_without_a_failure(gauge: Gauge) -> None:
    pause = Pause(gauge)
    assert (pause.remaining_s(), pause.probing) == (0.0, False)


def test_it_doubles_from_1_to_30_seconds(gauge: Gauge) -> None:
    pause = Pause(gauge)
    lengths = [pause.begin(time.monotonic()) for _ in range(7)]
    assert lengths == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert 29.0 < pause.remaining_s() <= 30.0
    assert shown(gauge) == 1


def test_batches_that_failed_together_count_once(gauge: Gauge) -> None:
    pause = Pause(gauge)
    started_at = time.monotonic()
    assert [pause.begin(started_at) for _ in range(4)] == [1.0] * 4


def test_a_success_ends_it(gauge: Gauge) -> None:
    pause = Pause(gauge)
    pause.begin(time.monotonic())
    pause.end(time.monotonic())
    assert (pause.remaining_s(), pause.probing) == (0.0, False)
    assert shown(gauge) == 0
    assert pause.begin(time.monotonic()) == 1.0


def test_a_batch_from_before_proves_nothing(gauge: Gauge) -> None:
    pause = Pause(gauge)
    started_at = time.monotonic()
    pause.begin(time.monotonic())
    pause.end(started_at)
    assert pause.probing


def test_what_the_dependency_says_stands_instead(gauge: Gauge) -> None:
    pause = Pause(gauge)
    assert pause.begin(time.monotonic(), wish_s=7.0) == 7.0
    assert pause.begin(time.monotonic(), wish_s=0.5) == 0.5
