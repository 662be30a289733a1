"""`sync_status` of /health: what was given up may have its old point, or none."""

from __future__ import annotations

import pytest

from services.api.operations.health import _sync_status
from shared.graph.memory.memories import Counts
from shared.streams.job import Stage


@pytest.mark.parametrize(
    ("points", "status"),
    [
        (199, "drift_detected"),
        (200, "synced"),
        (201, "synced"),
        (202, "drift_detected"),
        (None, "unknown"),
    ],
)
def test_one_of_201_was_given_up(points: int | None, status: str) -> None:
    counts = Counts(201, lagging={}, failed={Stage.EMBED: 1}, oldest_due_ms=None)
    assert _sync_status(counts, points) == status
