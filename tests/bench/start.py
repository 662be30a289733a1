"""`python -m services` until every role is ready and the API's port is open."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench.figures import Table, median
from tests.support.stack.stack import Stack

ROUNDS = 3


async def started(folder: Path) -> float:
    stack = Stack(folder)
    began = time.monotonic()
    try:
        await stack.start()
        return time.monotonic() - began
    finally:
        await stack.destroy()


async def run(folder: Path) -> Table:
    table = Table()
    fresh = [await started(folder / str(number)) for number in range(ROUNDS)]
    again = [await started(folder / str(number)) for number in range(ROUNDS)]
    for what, seconds in (("an empty folder", fresh), ("the same folder again", again)):
        table.add(what, **{"median s": round(median(seconds), 2), "max s": round(max(seconds), 2)})
    table.facts = {"wanted": "< 15 s", "load average": os.getloadavg()[0]}
    return table
