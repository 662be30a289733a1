"""GraphStore: the only door to the graph. Every method of its parts takes the tenant first."""

from __future__ import annotations

from typing import Self

from shared.config import GraphSettings
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.memory.analytics import Analytics
from shared.graph.memory.dialogue import Dialogue
from shared.graph.memory.entities import Entities
from shared.graph.memory.idempotency import Keys
from shared.graph.memory.links import Links
from shared.graph.memory.memories import Memories
from shared.graph.memory.tags import Tags
from shared.graph.memory.views import Views
from shared.graph.recall.candidates import Candidates
from shared.graph.recall.word_index import Words
from shared.graph.stages.memory_status import Receipts
from shared.graph.stages.patterns import Patterns
from shared.graph.stages.writes import Work
from shared.graph.upkeep.export import Export
from shared.graph.upkeep.restore import Restore
from shared.graph.upkeep.runs import Runs
from shared.graph.upkeep.sweeps import Sweeps


class GraphStore:
    """Truth and outbox of all tenants; `open()` it before use.

    `memories` and `words` serve requests, `work` the workers, `links` relations between
    memories, `sweeps` the leaders' passes over a whole graph. Nothing is retried: Unavailable means
    that the outcome of a write is unknown, and every write here may be repeated.
    """

    def __init__(self, settings: GraphSettings, *, outbox_delay_s: float) -> None:
        self._client = GraphClient(settings)
        self._schema = Schema(self._client)
        outbox_ms = int(outbox_delay_s * 1000)
        self.memories = Memories(self._client, self._schema, settings, outbox_ms=outbox_ms)
        self.work = Work(self._client, self._schema, outbox_ms=outbox_ms)
        self.dialogue = Dialogue(self._client, self._schema, outbox_ms=outbox_ms)
        self.links = Links(self._client, self._schema)
        self.sweeps = Sweeps(self._client, self._schema)
        self.candidates = Candidates(self._client)
        self.tags = Tags(self._client, self._schema)
        self.entities = Entities(self._client, self._schema)
        self.export = Export(self._client, self._schema)
        self.restore = Restore(self._client, self._schema)
        self.views = Views(self._client, self._schema)
        self.receipts = Receipts(self._client)
        self.runs = Runs(self._client, self._schema, outbox_ms=outbox_ms)
        self.patterns = Patterns(self._client, self._schema, outbox_ms=outbox_ms)
        self.keys = Keys(self._client, self._schema)
        self.words = Words(self._client)
        self.analytics = Analytics(self._client, self._schema)

    async def open(self) -> Self:
        """Connect. Raises: Unavailable while the server is down; open again later."""
        await self._client.open()
        return self

    async def close(self) -> None:
        """Finish the creates that were accepted, then close the connections."""
        await self.memories.close()
        await self._client.close()

    async def ping(self) -> None:
        """Raises: Unavailable unless the server answers within a second."""
        await self._client.ping()

    async def tenants(self) -> list[str]:
        """Tenants that have a graph, sorted; nobody else is a tenant yet."""
        return await self._client.tenants()

    async def ensure(self, tenant: str) -> None:
        """Make the tenant's graph if it has none; any number of callers may race.

        Writes that create do this themselves.
        """
        await self._schema.ensure(tenant)
