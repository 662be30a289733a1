"""`python -m services.consolidator`: the schedules over memories; one replica leads each."""

from __future__ import annotations

from functools import partial

from services.consolidator.decay import SCHEDULE, decay
from shared.leading.schedule import ScheduledTask
from shared.process.lifecycle import Process, main
from shared.process.stores import open_stores
from shared.process.worker import lead


async def body(process: Process) -> None:
    settings = process.settings.consolidation
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        decaying = partial(decay, stores.graph, settings)
        scheduled = ScheduledTask(SCHEDULE, settings.decay_interval_s, decaying)
        await lead(process, stores.redis, scheduled)


if __name__ == "__main__":
    main("consolidator", body)
