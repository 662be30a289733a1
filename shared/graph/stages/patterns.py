"""What a memory's type brings about: Pattern nodes, EXEMPLIFIES, and a type found later.

One Pattern per type and tenant under a fixed id, so that no two writers make it twice. A
memory counts once, when its edge is new: what runs again raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from shared.domain.memory import FALLBACK_TYPE, now_ms
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema

# As many others of its type as a memory is compared with, and itself.
SAMPLES = 11
_SAMPLE_CHARS = 1000
CONFIDENT = 0.5

_SAMPLES = (
    "UNWIND $types AS type CALL { WITH type"
    " MATCH (m:Memory {type: type}) WHERE m.confidence > $confident RETURN m LIMIT $most }"
    " RETURN type, m.id, left(m.content, $chars)"
)
# How many memories show the pattern `p`, counted from the matrix: what was deleted or retyped
# counts no more.
SEEN = "indegree(p, ['EXEMPLIFIES'])"
# Of `seen`: AutoMem's 0.35 for the first memory, 0.05 for each further one, 0.95 at most.
CONFIDENCE = "CASE WHEN seen < 13 THEN 0.3 + 0.05 * seen ELSE 0.95 END"
_EXEMPLIFY = (
    "UNWIND $rows AS r UNWIND r[4] AS one MATCH (m:Memory {id: one[0]}) WHERE m.version = one[1]"
    " WITH r, collect(m) AS members"
    " MERGE (p:Pattern {id: r[0]}) ON CREATE SET p.type = r[1], p.observations = 0,"
    " p.confidence = 0.3, p.created_at = $now"
    " WITH r, p, members UNWIND members AS m OPTIONAL MATCH (m)-[x:EXEMPLIFIES]->(p)"
    " WITH r, p, collect(CASE WHEN x IS NULL THEN m ELSE null END) AS fresh"
    " WHERE size(fresh) > 0"
    " FOREACH (m IN fresh | MERGE (m)-[x:EXEMPLIFIES]->(p)"
    " SET x.confidence = m.confidence, x.updated_at = $now)"
    f" WITH DISTINCT r, p WITH r, p, {SEEN} AS seen"
    f" SET p.observations = seen, p.confidence = {CONFIDENCE},"
    " p.content = r[2], p.key_terms = r[3], p.updated_at = $now RETURN p.id"
)
_TYPED = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.version = r[1] AND m.type = $untyped"
    " WITH r, m, CASE WHEN m.payload_version >= $now THEN m.payload_version + 1 ELSE $now END"
    " AS payload SET m.type = r[2], m.confidence = r[3], m.payload_version = payload,"
    " m.enriched_version = 0, m.enrich_due = $due, m.enrich_waits = null,"
    " m.enrich_failed_version = null, m.embed_due = $due, m.embed_waits = null,"
    " m.embed_failed_version = null RETURN m.id, m.version, payload"
)


@dataclass(frozen=True, slots=True)
class Sample:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Exemplified:
    """`members` are the (id, version) of memories that show the pattern of their type."""

    type: str
    key_terms: tuple[str, ...]
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """The type found for memory `id` at `version`, which had none."""

    id: str
    version: int
    type: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Retyped:
    """What the jobs of a newly typed memory carry: it is due in both stages."""

    id: str
    version: int
    payload_version: int


def pattern_id(kind: str) -> str:
    return f"pattern-{kind}-{crc32(kind.encode()):08x}"


class Patterns:
    """`store.patterns`; every method is one tenant's and one query."""

    def __init__(self, client: GraphClient, schema: Schema, *, outbox_ms: int) -> None:
        self._client = client
        self._schema = schema
        self._outbox_ms = outbox_ms

    async def samples(self, tenant: str, types: Iterable[str]) -> dict[str, list[Sample]]:
        """Per type at most `SAMPLES` memories whose type is more than a guess."""
        wanted = sorted(set(types))
        found: dict[str, list[Sample]] = {kind: [] for kind in wanted}
        if not wanted:
            return found
        rows = await self._client.read(
            tenant,
            "pattern_samples",
            _SAMPLES,
            types=wanted,
            confident=CONFIDENT,
            most=SAMPLES,
            chars=_SAMPLE_CHARS,
        )
        for kind, memory_id, text in rows:
            found[kind].append(Sample(memory_id, text or ""))
        return found

    async def exemplify(self, tenant: str, rows: Sequence[Exemplified]) -> None:
        """Link the members that are still at their version, and count the new ones."""
        if not rows or not await self._schema.exists(tenant):
            return
        await self._client.write(
            tenant,
            "exemplify",
            _EXEMPLIFY,
            rows=[
                [
                    pattern_id(row.type),
                    row.type,
                    f"{row.type}: {', '.join(row.key_terms)}",
                    row.key_terms,
                    [list(member) for member in row.members],
                ]
                for row in rows
            ],
            now=now_ms(),
        )

    async def typed(self, tenant: str, rows: Sequence[Typed]) -> list[Retyped]:
        """Give memories that still have no type theirs; returns those that took it.

        They are due to be enriched again (a type has a pattern) and their points to follow.
        """
        if not rows or not await self._schema.exists(tenant):
            return []
        now = now_ms()
        answer = await self._client.write(
            tenant,
            "typed",
            _TYPED,
            rows=[[row.id, row.version, row.type, row.confidence] for row in rows],
            untyped=FALLBACK_TYPE,
            now=now,
            due=now + self._outbox_ms,
        )
        return [Retyped(*row) for row in answer.rows]
