"""What every tenant's graph consists of, and how it is made.

A MERGE whose label or relation type the graph never had makes duplicates when connections
race (up to eight of each). A failed query removes the property keys that it introduced, but
cached plans still use their numbers, so values are read under wrong names (both FalkorDB
4.16.3). So everything exists before the first write: labels with unique constraints, relation
types, property keys, one Fence per schedule.
The Schema node is created last; where it exists, the graph is complete.

A change that names a new label, type or key adds it here and raises SCHEMA_VERSION.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

from redis.exceptions import ResponseError

from shared.domain.relations import RELATIONS
from shared.errors import Conflict, PermanentError, Unavailable
from shared.graph.engine.client import GraphClient
from shared.graph.records import PROPERTIES

SCHEMA_VERSION = 2

SCHEDULES = (
    *("decay", "creative", "cluster", "forget", "identity"),
    *("relay", "janitor", "drift", "reembed"),
    *("importance_decay", "summarization", "dreaming", "retention"),
)

# Label → its unique key.
UNIQUE = {
    "Schema": "name",
    "Memory": "id",
    "Entity": "id",
    "Pattern": "id",
    "Fence": "name",
    "Idem": "key",
    "Run": "id",
    "Generation": "name",
    "Session": "id",
    "Part": "id",
}
# Label → keys that some query looks up or scans by range.
INDEXED = {
    "Memory": (
        *("enrich_due", "ask_due", "embed_due", "relate_due", "timestamp", "session_id", "project"),
        *("slot", "type", "layer", "tag_keys", "tag_prefixes", "meta_terms", "speaker"),
        "importance",
        *("enrich_failed_version", "embed_failed_version", "relate_failed_version"),
    ),
    "Entity": ("category", "slug"),
    "Pattern": ("type",),
    "Idem": ("created_at",),
    "Run": ("due", "state", "started_at"),
    "Session": ("extract_due", "project", "updated_at"),
    "Part": ("session_id",),
}

_STANDS = "MATCH (s:Schema {name: 'schema'}) WHERE s.version >= $schema RETURN s.version"
# Every query that creates begins with this: in a graph that was flushed meanwhile it finds
# nothing, so nothing is created without its constraints.
GUARD = f"MATCH (_s:Schema {{name: 'schema'}}) WHERE _s.version >= {SCHEMA_VERSION} WITH 1 AS _ok "

_STAGES = ("enrich", "ask", "embed", "relate", "extract")
PROPERTY_KEYS = tuple(
    dict.fromkeys(
        (
            *PROPERTIES,
            *(f"{stage}_{key}" for stage in _STAGES for key in ("due", "waits", "failed_version")),
            *("slot", "tag_keys", "tag_prefixes", "embedding", "embedding_model"),
            *("decayed_importance", "decayed_on", "embedded_at", "related_at"),
            # relations
            *("strength", "score", "similarity", "count", "kind", "origin", "context", "reason"),
            *("pattern_type", "resolution", "observations", "transformation", "role"),
            # Idem, Fence and Schema, Entity, Pattern
            *("key", "body_hash", "ids", "answer", "created_at", "name", "token"),
            *("category", "slug", "aliases", "last_referenced_at", "merged_into", "key_terms"),
            *("identity", "identity_version", "identity_updated_at", "identity_source_count"),
            # Run, Generation, Session and Part
            *("due", "waits", "state", "task", "mode", "request", "progress", "result", "error"),
            *("started_at", "completed_at", "success", "dry_run", "model", "dimension"),
            *("parts", "position"),
        )
    )
)

# The node's label has no constraint, so that registering cannot fail however many race.
_REGISTER = (
    "CREATE (a:Registering {"
    + ", ".join(f"{key}: 0" for key in PROPERTY_KEYS)
    + "}) "
    + " ".join(f"CREATE (a)-[:{kind}]->(a)" for kind in RELATIONS)
)
_UNREGISTER = "MATCH (a:Registering) DELETE a"
_FENCES = (
    "UNWIND $names AS name OPTIONAL MATCH (f:Fence {name: name}) WITH name, f WHERE f IS NULL"
    " CREATE (:Fence {name: name, token: 0})"
)
_EXISTS = re.compile("already (indexed|exists)")
_MARK = "MERGE (s:Schema {name: 'schema'}) SET s.version = $schema"


class Schema:
    """Makes tenants' graphs, and remembers per process which ones are complete."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client
        self._made: set[str] = set()
        self._making: dict[str, asyncio.Lock] = {}

    async def ensure(self, tenant: str) -> None:
        """Make the tenant's graph complete, as writes that create do; any number may at once."""
        if tenant in self._made:
            return
        async with self._making.setdefault(tenant, asyncio.Lock()):
            if tenant not in self._made and not await self._client.query(
                tenant, "ensure", _STANDS, schema=SCHEMA_VERSION
            ):
                await self._make(tenant)
            self._made.add(tenant)

    async def exists(self, tenant: str) -> bool:
        """Whether the tenant has a graph; one of an older version is brought up to date."""
        if tenant in self._made:
            return True
        if not await self._client.query(tenant, "exists", "MATCH (s:Schema) RETURN 1 LIMIT 1"):
            return False
        await self.ensure(tenant)
        return True

    def forget(self, tenant: str) -> None:
        """Let the next `ensure` look again: the graph was found to be incomplete."""
        self._made.discard(tenant)

    async def _make(self, tenant: str) -> None:
        """Every step may run twice and beside others; the Schema node comes after all of them."""
        graph = self._client.graph(tenant)
        # A query is planned beside others and registers its keys then, but its effects are logged
        # later: keys that two queries registered in turns had other numbers after a restart.
        registering = [("GRAPH.QUERY", graph, query) for query in (_REGISTER, _UNREGISTER)]
        await self._send(registering, alone=True)
        await self._constrain(tenant)
        for query in (_FENCES, _MARK):
            with suppress(Conflict):  # Another process that did the same was first.
                await self._client.write(
                    tenant, "ensure", query, names=SCHEDULES, schema=SCHEMA_VERSION
                )

    async def _constrain(self, tenant: str) -> None:
        """Create the indexes and constraints; wait until the server has made the constraints."""
        graph = self._client.graph(tenant)
        others = ((label, key) for label, names in INDEXED.items() for key in names)
        index = "CREATE INDEX FOR (n:{}) ON (n.{})"
        create = ("GRAPH.CONSTRAINT", "CREATE", graph, "UNIQUE", "NODE")
        commands: list[Sequence[object]] = [
            *(("GRAPH.QUERY", graph, index.format(*each)) for each in (*UNIQUE.items(), *others)),
            *((*create, label, "PROPERTIES", 1, key) for label, key in UNIQUE.items()),
        ]
        await self._send(commands)
        for wait_s in (0.0, 0.001, 0.005, 0.02, *[0.1] * 50):
            await asyncio.sleep(wait_s)
            if await self._constrained(tenant):
                return
        raise Unavailable("graph", "constraints are still being made")

    async def _send(self, commands: Sequence[Sequence[object]], *, alone: bool = False) -> None:
        """Raises: PermanentError for an error that does not say that something is there already."""
        for answer in await self._client.pipeline("ensure", commands, alone=alone):
            if isinstance(answer, ResponseError) and not _EXISTS.search(str(answer)):
                raise PermanentError(f"graph: {str(answer)[:200]}")

    async def _constrained(self, tenant: str) -> bool:
        query = "CALL db.constraints() YIELD label, status RETURN label, status"
        rows = await self._client.query(tenant, "ensure", query)
        failed = [row["label"] for row in rows if row["status"] == "FAILED"]
        if failed:
            raise PermanentError(f"graph of {tenant}: duplicates among {', '.join(failed)}")
        return {row["label"] for row in rows if row["status"] == "OPERATIONAL"} >= UNIQUE.keys()
