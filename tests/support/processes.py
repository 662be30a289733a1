"""Child processes of tests: none outlives the process that started it.

A run of pytest may be ended at any time, by Ctrl-C or by SIGKILL, also the worker of
pytest-xdist alone. Every child asks the kernel for a SIGKILL at the end of its parent.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have this process killed once the thread that started it has ended.

    It heeds SIGINT: a shell's background job ignores it, and would pass that on.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `command`; call it in the main thread, whose end is the child's end."""
    return subprocess.Popen(command, preexec_fn=end_with_parent, **options)  # noqa: PLW1509
