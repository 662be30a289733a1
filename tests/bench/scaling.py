"""Enrichment by one enricher and by two, each with one thread for spaCy, over the same memories.

They are stored while the enrichers are stopped; nothing embeds, relates or sweeps meanwhile.
Beside it, what the machine could give at best: the same extraction in one process and in two,
without any store. `EUNOE_BENCH_MEMORIES=500` is shorter.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

from services.enricher.entities.nlp import Pipeline, load
from services.enricher.entities.recognizer import entities_of
from tests.bench.figures import Table, median
from tests.bench.notes import notes
from tests.bench.pipeline import cpu_s
from tests.bench.writes import QUIET
from tests.support.stack.stack import REPOSITORY, Stack, running
from tests.support.waiting.conditions import wait_until

ROUNDS = 3
COUNT = int(os.environ.get("EUNOE_BENCH_MEMORIES", "2000"))
_BATCH = 64
# Two full batches for each of two enrichers, so that both have done everything once.
_WARM = 256
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BLIS_NUM_THREADS": "1"}
_SETTINGS = {**QUIET, **_ONE_THREAD, "EMBEDDING_PROVIDER": "placeholder"}
_PIPELINES: list[Pipeline] = []


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds by the clock, and of CPU: of the enrichers, of Redis, of the whole stack."""

    wall: float
    enrichers: float
    redis: float
    stack: float


def _load(barrier: Barrier) -> None:
    _PIPELINES.append(load("en_core_web_sm"))
    _extract(notes(_BATCH, seed=78))
    barrier.wait()


def _extract(texts: Sequence[str]) -> None:
    for annotated in _PIPELINES[0].annotate(texts):
        entities_of(annotated)


def bare(processes: int) -> float:
    """Seconds of extraction in so many processes that are loaded and warm."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    texts = notes(COUNT, seed=1)
    batches = [texts[at : at + _BATCH] for at in range(0, COUNT, _BATCH)]
    with context.Pool(processes, _load, (barrier,)) as pool:
        barrier.wait()
        began = time.perf_counter()
        pool.map(_extract, batches, chunksize=1)
        return time.perf_counter() - began


async def bare_in_its_own_process(processes: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from tests.bench.scaling import bare; print(bare({processes}))",
        cwd=REPOSITORY,
        env=os.environ | _ONE_THREAD,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return float(out.split()[-1])


async def enriched(stack: Stack, texts: Sequence[str]) -> Took:
    """From the enrichers' start until every text is enriched."""
    stores = stack.stores()

    async def done() -> bool:
        await asyncio.sleep(0.05)
        return not await stores.number("MATCH (m:Memory) WHERE m.enrich_due > 0 RETURN count(m)")

    def cpu() -> list[float]:
        return [cpu_s(stack, role) for role in ("enricher", "redis", None)]

    async with stack.client() as client, stack.frozen("enricher"):
        await client.store_all(texts, connections=32)
        began, before = time.perf_counter(), cpu()
    await wait_until(done, "all is enriched", 60 + COUNT / 10)
    wall = time.perf_counter() - began
    return Took(wall, *(now - then for now, then in zip(cpu(), before, strict=True)))


async def one_round(folder: Path, enrichers: int) -> Took:
    """A stack of its own, so that every round finds the same graph."""
    arguments = ("--only", "api,enricher", "--replicas", f"enricher={enrichers}")
    async with running(folder, _SETTINGS, *arguments) as stack:
        assert len(stack.processes("enricher")) == enrichers
        texts = notes(_WARM + COUNT, seed=1)
        await enriched(stack, texts[COUNT:])
        took = await enriched(stack, texts[:COUNT])
        state = await stack.stores().state()
        assert state.enriched == state.memories == _WARM + COUNT, state
        return took


async def run(folder: Path) -> Table:
    table = Table()
    loops, rounds = defaultdict[int, list[float]](list), defaultdict[int, list[Took]](list)
    for number in range(ROUNDS):
        for count in (1, 2):
            loops[count].append(await bare_in_its_own_process(count))
            rounds[count].append(await one_round(folder / f"{number}-{count}", count))
    for count, walls in loops.items():
        _add(table, f"extraction alone, {count} process{'es' * (count > 1)}", walls)
    for count, took in rounds.items():
        _add(table, f"stack, {count} enricher{'s' * (count > 1)}", [each.wall for each in took])
        table.rows[-1] |= {
            "enrichers' CPU s": round(median(each.enrichers for each in took), 1),
            "redis' CPU s": round(median(each.redis for each in took), 1),
            "cores busy": round(median(each.stack / each.wall for each in took), 2),
        }
    one_loop, two_loops, one, two = (row["memories/s"] for row in table.rows)
    table.facts = {
        "2 enrichers / 1": round(two / one, 2),
        "2 processes / 1, extraction alone": round(two_loops / one_loop, 2),
        "memories": COUNT,
        "load average": os.getloadavg()[0],
    }
    return table


def _add(table: Table, what: str, walls: Sequence[float]) -> None:
    rates = [COUNT / wall for wall in walls]
    shown = str([round(rate) for rate in rates])
    table.add(what, **{"memories/s": round(median(rates), 1), "rounds": shown})
