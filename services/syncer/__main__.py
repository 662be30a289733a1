"""`python -m services.syncer`: takes runs; leads relay, janitor and the drift audit."""

from __future__ import annotations

import asyncio

from services.syncer import janitor, relay
from services.syncer.drift import repair, watch
from services.syncer.drift.gauges import DriftGauges
from services.syncer.drift.orphan_history import OrphanHistory
from services.syncer.drift.repair import Drift, DriftTask
from services.syncer.drift.watch import DriftWatch
from services.syncer.janitor import Janitor, report_depths, withdraw_depths
from services.syncer.reembedding import reembed
from services.syncer.reembedding.reembed import Reembed
from services.syncer.relay import Relay
from services.syncer.runs import AT_ONCE, RunHandler, Task
from shared.leading.lease import Lease
from shared.leading.schedule import ScheduledTask
from shared.process.lifecycle import Process, main
from shared.process.stores import Stores, open_stores
from shared.process.worker import consume, consumer_name, lead
from shared.streams.consumer import Consumer
from shared.streams.job import Stage

_DEPTHS_EVERY_S = 5.0


async def body(process: Process) -> None:
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")
        gauges = DriftGauges()
        async with asyncio.TaskGroup() as group:
            # The consumer first, so that readiness waits for it.
            group.create_task(consume(process, {Stage.SYNC: _consumer(process, stores, gauges)}))
            group.create_task(
                lead(process, stores.redis, *_scheduled_tasks(process, stores, gauges))
            )


def _consumer(process: Process, stores: Stores, gauges: DriftGauges) -> Consumer:
    stream = stores.streams[Stage.SYNC]
    handler = RunHandler(
        stores.graph.runs,
        _tasks(process, stores, gauges),
        process.stopping,
        max_attempts=stream.policy.max_attempts,
    )
    return Consumer(
        stream, handler, name=consumer_name(process.role), batch_size=1, batches=AT_ONCE
    )


def _tasks(process: Process, stores: Stores, gauges: DriftGauges) -> dict[str, Task]:
    """What a Run's `task` may be."""
    embedding = process.settings.embedding
    return {
        repair.TASK: DriftTask(_drift(process, stores), gauges),
        reembed.TASK: Reembed(stores.graph, stores.vectors, stores.outbox, embedding),
    }


def _drift(process: Process, stores: Stores) -> Drift:
    settings = process.settings
    return Drift(
        stores.graph,
        stores.vectors,
        stores.outbox,
        excluded_types=settings.recall.hidden_types,
        wait_s=settings.sync.repair_wait_s,
    )


def _scheduled_tasks(process: Process, stores: Stores, gauges: DriftGauges) -> list[ScheduledTask]:
    settings = process.settings

    async def depths(_lease: Lease) -> None:
        await report_depths(stores.streams)

    relaying = Relay(stores.graph, stores.outbox, stores.streams, settings.sync)
    cleaning = Janitor(
        stores.graph,
        stores.streams,
        idempotency_ttl_s=settings.api.idempotency_ttl_s,
        runs_kept=settings.sync.runs_kept,
    )
    history = OrphanHistory(
        stores.redis,
        grace_s=settings.sync.orphan_grace_s,
        interval_s=settings.sync.check_interval_s,
    )
    drift = DriftWatch(stores.graph, _drift(process, stores), history, settings.sync, gauges)
    return [
        ScheduledTask(relay.SCHEDULE, settings.sync.relay_every_s, relaying),
        ScheduledTask(janitor.SCHEDULE, settings.sync.janitor_every_s, cleaning),
        ScheduledTask(
            watch.SCHEDULE,
            settings.sync.check_interval_s,
            drift,
            wait_first=True,
            resign=gauges.withdraw,
        ),
        ScheduledTask("depths", _DEPTHS_EVERY_S, depths, resign=withdraw_depths),
    ]


if __name__ == "__main__":
    main("syncer", body)
