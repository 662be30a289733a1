"""`python -m services.syncer`: takes runs; leads relay, janitor and the drift audit."""

from __future__ import annotations

import asyncio
from functools import partial

from services.syncer import janitor, relay
from services.syncer.drift import audit, watch
from services.syncer.drift.audit import Drift, drift_task
from services.syncer.drift.findings import DriftGauges
from services.syncer.drift.watch import DriftWatch, OrphanHistory
from services.syncer.janitor import Janitor, report_depths, withdraw_depths
from services.syncer.reembedding import reembed
from services.syncer.reembedding.reembed import Reembed
from services.syncer.relay import Relay
from services.syncer.runs import AT_ONCE, RunHandler, Task
from shared.config import Settings
from shared.leading.schedule import ScheduledTask
from shared.process.lifecycle import Process, main
from shared.process.stores import Stores, open_stores
from shared.process.worker import consume, consumer_name, lead
from shared.streams.consumer import Consumer
from shared.streams.job import Stage

_DEPTHS_EVERY_S = 5.0


async def body(process: Process) -> None:
    settings = process.settings
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        gauges = DriftGauges()
        used = stores.graph, stores.vectors, stores.outbox
        drift = Drift(*used, settings.recall.hidden_types, settings.sync.repair_wait_s)
        tasks: dict[str, Task] = {
            audit.TASK: partial(drift_task, drift, gauges),
            reembed.TASK: Reembed(*used, settings.embedding),
        }
        stream, name = stores.streams[Stage.SYNC], consumer_name(process.role)
        attempts = stream.policy.max_attempts
        handler = RunHandler(stores.graph.runs, tasks, process.stopping, max_attempts=attempts)
        async with asyncio.TaskGroup() as group:
            # The consumer first, so that readiness waits for it.
            consumer = Consumer(stream, handler, name=name, batch_size=1, batches=AT_ONCE)
            group.create_task(consume(process, {Stage.SYNC: consumer}))
            scheduled = _scheduled_tasks(settings, stores, drift, gauges)
            group.create_task(lead(process, stores.redis, *scheduled))


def _scheduled_tasks(
    settings: Settings, stores: Stores, drift: Drift, gauges: DriftGauges
) -> list[ScheduledTask]:
    sync = settings.sync
    relaying = Relay(stores.graph, stores.outbox, stores.streams, sync)
    cleaning = Janitor(stores.graph, stores.streams, settings.api.idempotency_ttl_s, sync.runs_kept)
    interval_s = sync.check_interval_s
    history = OrphanHistory(stores.redis, grace_s=sync.orphan_grace_s, interval_s=interval_s)
    watching = DriftWatch(stores.graph, drift, history, sync, gauges)
    reporting = partial(report_depths, stores.streams)
    return [
        ScheduledTask(relay.SCHEDULE, sync.relay_every_s, relaying),
        ScheduledTask(janitor.SCHEDULE, sync.janitor_every_s, cleaning),
        ScheduledTask(
            watch.SCHEDULE, interval_s, watching, wait_first=True, resign=gauges.withdraw
        ),
        ScheduledTask("depths", _DEPTHS_EVERY_S, reporting, resign=withdraw_depths),
    ]


if __name__ == "__main__":
    main("syncer", body)
