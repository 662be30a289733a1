"""Pause: how long a consumer reads nothing after a dependency went down.

1 s, doubling to 30 s while probes fail, or as long as the dependency itself says. After a pause
one batch probes the dependency, and everything resumes when that batch succeeds. Batches that
were running when the pause began neither end nor prolong it.
"""

from __future__ import annotations

import time

from prometheus_client import Gauge


class Pause:
    def __init__(self, gauge: Gauge, pause_s: tuple[float, float] = (1.0, 30.0)) -> None:
        """`pause_s`: the first pause and the longest."""
        self._gauge = gauge
        self._first_s, self._longest_s = pause_s
        self._length_s = 0.0
        self._began = 0.0
        gauge.set(0)

    @property
    def probing(self) -> bool:
        """Return whether the dependency was down and no batch has succeeded since."""
        return self._length_s > 0

    def remaining_s(self) -> float:
        """Return the seconds until the next probe; 0 when reading is allowed."""
        return max(0.0, self._began + self._length_s - time.monotonic()) if self.probing else 0.0

    def begin(self, started_at: float, *, wish_s: float = 0.0) -> float:
        """Begin a pause after a failed batch of this start time; return its length in s."""
        if not self.probing or started_at >= self._began:
            doubled = min(self._longest_s, max(self._first_s, self._length_s * 2))
            self._length_s = wish_s or doubled
            self._began = time.monotonic()
            self._gauge.set(1)
        return self._length_s

    def end(self, started_at: float) -> None:
        """End the pause, unless it began after the successful batch had started."""
        if self.probing and started_at >= self._began:
            self._length_s = 0.0
            self._gauge.set(0)
