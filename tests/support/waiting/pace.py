"""The machine's pace: how many times slower than an idle one it is now.

A limit in a test only ends a hang. Every limit is multiplied by the pace, which is measured when
a session starts and again whenever a limit has passed, so that a busy machine fails no test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

_VARIABLE = "EUNOE_TEST_PACE"
# An interpreter that starts and counts to a million, on an idle core of the build machine.
_PROBE = "sum(range(1_000_000))"
_IDLE_S = 0.06
_LIMIT_S = 60.0
_SLOWEST = 20.0


def measure() -> float:
    """Measure the pace, remember the slowest one, and return it: 1 to 20."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", _PROBE], check=True)
    now = (time.monotonic() - began) / _IDLE_S
    slowest = min(_SLOWEST, max(1.0, now, _known()))
    os.environ[_VARIABLE] = str(slowest)  # the workers of pytest-xdist inherit it
    return slowest


def limit_s(seconds: float = _LIMIT_S) -> float:
    """Return how long to wait for what takes less than `seconds` on an idle machine."""
    return seconds * (_known() or measure())


def _known() -> float:
    return float(os.environ.get(_VARIABLE, "0"))
