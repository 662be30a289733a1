"""enrich + embed + relate against a bare loop over the same texts with as many threads.

Both run spaCy with one thread and the model with two; the stack runs them beside each other,
the bare loop one after the other.
`EUNOE_BENCH_MEMORIES=2000` is shorter.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.bench.figures import Table, median
from tests.bench.notes import notes
from tests.bench.writes import QUIET
from tests.support.stack.stack import REPOSITORY, Stack, running
from tests.support.waiting.conditions import wait_until

ROUNDS = 3
COUNT = int(os.environ.get("EUNOE_BENCH_MEMORIES", "5000"))
_BATCH = 64


Took = tuple[float, float]  # wall seconds, CPU seconds


def bare(seed: int) -> Took:
    """What spaCy's pipe and then the model take over the texts, in this process."""
    import numpy as np

    from services.enricher.entities import nlp
    from shared.config import EmbeddingSettings
    from shared.models.open import open_embedding

    texts = notes(COUNT, seed=seed)
    pipeline = nlp.load("en_core_web_sm")
    settings = EmbeddingSettings(EUNOE_EMBEDDING_THREADS=2)

    async def measured() -> Took:
        model = await open_embedding(settings, None)
        pipeline.annotate(texts[:_BATCH])
        await model.embed(texts[:20])
        began, used = time.perf_counter(), time.process_time()
        for at in range(0, COUNT, _BATCH):
            pipeline.annotate(texts[at : at + _BATCH])
        for at in range(0, COUNT, _BATCH):
            found = np.asarray(await model.embed(texts[at : at + _BATCH]))
            assert found.shape[1] == 384
        took = time.perf_counter() - began, time.process_time() - used
        await model.close()
        return took

    return asyncio.run(measured())


async def bare_in_its_own_process(seed: int) -> Took:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from tests.bench.pipeline import bare; print(*bare({seed}))",
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    wall, cpu = out.split()[-2:]
    return float(wall), float(cpu)


def cpu_s(stack: Stack, role: str | None = None) -> float:
    """CPU seconds of the role's processes so far, or of all of the stack's."""
    ticks = 0
    for each in stack.processes(role):
        fields = Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def piped(stack: Stack, seed: int, done_before: int) -> Took:
    """From the workers' start until every memory is related."""
    async with stack.client() as client:
        async with stack.frozen("enricher", "embedder"):
            await client.store_all(notes(COUNT, seed=seed), connections=32)
            began, used = time.perf_counter(), cpu_s(stack)
        stores = stack.stores()

        async def done() -> bool:
            await asyncio.sleep(0.05)  # asking is not free, and the texts take many seconds
            waiting = await stores.number(
                "MATCH (m:Memory) WHERE m.enrich_due > 0 OR m.embed_due > 0 OR m.relate_due > 0"
                " RETURN count(m)"
            )
            return waiting == 0 and (await stores.state()).done

        await wait_until(done, "all is enriched, embedded and related", 60 + COUNT / 10)
        took = time.perf_counter() - began, cpu_s(stack) - used
        assert await stores.number("MATCH (m:Memory) RETURN count(m)") == done_before + COUNT
        return took


async def run(folder: Path) -> Table:
    table, loops, stacks = Table(), list[Took](), list[Took]()
    for number in range(ROUNDS):
        loops.append(await bare_in_its_own_process(number))
        # A stack of its own per round, so that no round finds the neighbours of another.
        async with running(folder / str(number), QUIET) as stack:
            await warmed(stack)
            stacks.append(await piped(stack, number, 50))
    bare_rate = _add(table, "bare loop: spaCy's pipe, then the model", loops)
    stack_rate = _add(table, "stack: enrich + embed + relate", stacks)
    table.facts = {
        "ratio (wanted >= 0.7)": round(stack_rate / bare_rate, 3),
        "CPU of the stack / of the loop": round(
            median(cpu for _, cpu in stacks) / median(cpu for _, cpu in loops), 2
        ),
        "texts": COUNT,
        "load average": os.getloadavg()[0],
    }
    return table


def _add(table: Table, what: str, rounds: list[Took]) -> float:
    rates = [COUNT / wall for wall, _ in rounds]
    table.add(
        what,
        **{
            "texts/s": round(median(rates), 1),
            "rounds": str([round(rate) for rate in rates]),
            "CPU s": round(median(cpu for _, cpu in rounds), 1),
        },
    )
    return float(median(rates))


async def warmed(stack: Stack) -> None:
    async with stack.client() as client:
        await client.store_all(notes(50, seed=77))
    await stack.stores().all_done(50)
