"""`python -m tests.bench [--json] NAME…`: the figures of docs/benchmarks.md.

    writes     POST /memory at 32 connections against single CREATE queries
    pipeline   enrich + embed + relate against a bare loop in one process
    searchable 20 writes a second: how long until each is found and done
    scaling    enrichment with one enricher and with two
    decay      point reads while 100 000 memories are swept, against idle
    recall     GET /recall of a mix against the bare sum of what it needs
    restart    redis-server killed with 20 000 memories
    start      `python -m services` until it is ready

Both sides of a comparison run in the same run, alternating; a figure is the median of the
rounds. Without a name all of them run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench import decay, pipeline, recall, restart, scaling, searchable, start, writes
from tests.bench.figures import Table

BENCHES: dict[str, Callable[[Path], Awaitable[Table]]] = {
    "writes": writes.run,
    "pipeline": pipeline.run,
    "searchable": searchable.run,
    "scaling": scaling.run,
    "decay": decay.run,
    "recall": recall.run,
    "restart": restart.run,
    "start": start.run,
}


async def run(names: list[str], *, as_json: bool) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"eunoe-bench-{name}-") as folder:
            table = await BENCHES[name](Path(folder))
        print(json.dumps({"bench": name, **table.as_json()}) if as_json else f"{name}\n{table}\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in BENCHES]:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    asyncio.run(run(given.names or list(BENCHES), as_json=given.json))


if __name__ == "__main__":
    main()
