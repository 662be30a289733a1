"""GraphStore, by which all other code uses the graph. Its parts' methods take the tenant first."""

from __future__ import annotations

from typing import Self

from shared.config import GraphSettings
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.memory.dialogue import Dialogue
from shared.graph.memory.entities import Entities
from shared.graph.memory.links import Links
from shared.graph.memory.memories import Memories
from shared.graph.memory.views import Analytics, Views
from shared.graph.recall.candidates import Candidates
from shared.graph.stages.memory_status import MemoryStatuses
from shared.graph.stages.patterns import Patterns
from shared.graph.stages.writes import Work
from shared.graph.upkeep.backup import Export, Restore
from shared.graph.upkeep.runs import Runs
from shared.graph.upkeep.sweeps import Sweeps


class GraphStore:
    """The truth about all tenants and their outbox; `open()` it before use.

    `memories` and `candidates` serve requests, `work` the workers, `links` relations
    between memories, `sweeps` the leaders' passes over a whole graph. Nothing is retried:
    Unavailable means that the outcome of a write is unknown, and every write may be repeated.
    """

    def __init__(self, settings: GraphSettings, *, outbox_delay_s: float) -> None:
        self._client = client = GraphClient(settings)
        self._schema = schema = Schema(client)
        self.ping, self.tenants, self.ensure = client.ping, client.tenants, schema.ensure
        outbox_ms = int(outbox_delay_s * 1000)
        self.memories = Memories(client, schema, settings, outbox_ms=outbox_ms)
        self.work = Work(client, schema, outbox_ms=outbox_ms)
        self.dialogue = Dialogue(client, schema, outbox_ms=outbox_ms)
        self.runs = Runs(client, schema, outbox_ms=outbox_ms)
        self.patterns = Patterns(client, schema, outbox_ms=outbox_ms)
        self.links = Links(client, schema)
        self.sweeps = Sweeps(client, schema)
        self.candidates = Candidates(client, schema)
        self.entities = Entities(client, schema)
        self.export = Export(client, schema)
        self.restore = Restore(client, schema)
        self.views = Views(client, schema)
        self.memory_statuses = MemoryStatuses(client, schema)
        self.analytics = Analytics(client, schema)

    async def open(self) -> Self:
        """Connect. Raises: Unavailable while the server is down; open again later."""
        await self._client.open()
        return self

    async def close(self) -> None:
        """Finish the creates that were accepted, then close the connections."""
        await self.memories.close()
        await self._client.close()
