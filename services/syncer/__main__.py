"""`python -m services.syncer`: relay and janitor; one replica leads each."""

from __future__ import annotations

from services.syncer import janitor, relay
from services.syncer.janitor import Janitor, report_depths
from services.syncer.relay import Relay
from shared.lease import Lease
from shared.process import Process, main
from shared.stores import open_stores
from shared.worker import Duty, lead

_DEPTHS_EVERY_S = 5.0


async def body(process: Process) -> None:
    settings = process.settings
    async with open_stores(process, embeds=False) as stores:
        process.probe(stores.probes, "graph", "redis")

        async def depths(_lease: Lease) -> None:
            await report_depths(stores.streams)

        relaying = Relay(stores.graph, stores.outbox, stores.streams, settings.sync)
        cleaning = Janitor(
            stores.graph, stores.streams, idempotency_ttl_s=settings.api.idempotency_ttl_s
        )
        await lead(
            process,
            stores.redis,
            Duty(relay.SCHEDULE, settings.sync.relay_every_s, relaying),
            Duty(janitor.SCHEDULE, settings.sync.janitor_every_s, cleaning),
            Duty("depths", _DEPTHS_EVERY_S, depths),
        )


if __name__ == "__main__":
    main("syncer", body)
