"""What follows from a memory's type: Pattern nodes, EXEMPLIFIES, and a type found later.

Each tenant has one Pattern per type under a fixed id, so that no two writers make it twice.
A memory counts once, when its edge is new: a job that runs again changes no count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

from shared.domain.memory import FALLBACK_TYPE
from shared.graph.engine.part import EACH_ROW, StorePart, next_payload_version, numbered, set_due
from shared.graph.records import Due, Text

# As many others of its type as a memory is compared with, and itself.
SAMPLES = 11
_SAMPLE_CHARS = 1000
CONFIDENT = 0.5

_SAMPLES = (
    "UNWIND $types AS type CALL { WITH type"
    f" MATCH (m:Memory {{type: type}}) WHERE m.confidence > {CONFIDENT} RETURN m LIMIT {SAMPLES} }}"
    f" RETURN type, m.id, coalesce(left(m.content, {_SAMPLE_CHARS}), '') AS content"
)
# How many memories show the pattern `p`, counted from the matrix, so that those that were
# deleted or got another type do not count.
SEEN = "indegree(p, ['EXEMPLIFIES'])"
# Of `seen`: AutoMem's 0.35 for the first memory, 0.05 for each further one, 0.95 at most.
CONFIDENCE = "CASE WHEN seen < 13 THEN 0.3 + 0.05 * seen ELSE 0.95 END"
_EXEMPLIFY = numbered(
    "UNWIND $rows AS r UNWIND r.members AS one"
    " MATCH (m:Memory {id: one[0]}) WHERE m.version = one[1]"
    " WITH r, collect(m) AS members"
    " MERGE (p:Pattern {id: r.id}) ON CREATE SET p.type = r.type, p.observations = 0,"
    " p.confidence = 0.3, p.created_at = $now"
    " WITH r, p, members UNWIND members AS m OPTIONAL MATCH (m)-[x:EXEMPLIFIES]->(p)"
    " WITH r, p, collect(CASE WHEN x IS NULL THEN m ELSE null END) AS fresh"
    " WHERE size(fresh) > 0"
    " FOREACH (m IN fresh | MERGE (m)-[x:EXEMPLIFIES]->(p)"
    " SET x.confidence = m.confidence, x.updated_at = $now)"
    f" WITH DISTINCT r, p WITH r, p, {SEEN} AS seen"
    f" SET p.observations = seen, p.confidence = {CONFIDENCE},"
    " p.content = r.content, p.key_terms = r.key_terms, p.updated_at = $now RETURN p.id",
    ("id", "type", "content", "key_terms", "members"),
)


class Exemplified(NamedTuple):
    """`members` are the (id, version) of memories that show the pattern of their type."""

    type: str
    key_terms: tuple[str, ...]
    members: tuple[tuple[str, int], ...]


class Typed(NamedTuple):
    """The type found for memory `id` at `version`, which had none."""

    id: str
    version: int
    type: str
    confidence: float


_TYPED = numbered(
    f"{EACH_ROW} WHERE m.version = r.version AND m.type = '{FALLBACK_TYPE}'"
    f" WITH r, m, {next_payload_version('m')} AS payload"
    " SET m.type = r.type, m.confidence = r.confidence, m.payload_version = payload,"
    f" m.enriched_version = 0, {set_due('enrich', '$due')}, {set_due('embed', '$due')}"
    " RETURN m.id, m.version, payload AS payload_version",
    Typed._fields,
)


def pattern_id(kind: str) -> str:
    return f"pattern-{kind}-{crc32(kind.encode()):08x}"


class Patterns(StorePart):
    """`store.patterns`; every method is one query."""

    async def samples(self, tenant: str, types: Iterable[str]) -> dict[str, list[Text]]:
        """Return per type at most `SAMPLES` memories whose type is more than a guess."""
        found: dict[str, list[Text]] = {kind: [] for kind in sorted(set(types))}
        if not found:
            return found
        for row in await self._read(tenant, "pattern_samples", _SAMPLES, types=list(found)):
            found[row["type"]].append(Text(row["id"], row["content"]))
        return found

    async def exemplify(self, tenant: str, rows: Sequence[Exemplified]) -> None:
        """Link the members that are still at their version, and count the new ones."""
        cells = [
            (pattern_id(kind), kind, f"{kind}: {', '.join(terms)}", terms, members)
            for kind, terms, members in rows
        ]
        await self._change(tenant, "exemplify", _EXEMPLIFY, rows=cells)

    async def typed(self, tenant: str, rows: Sequence[Typed]) -> list[Due]:
        """Give memories that still have no type theirs; return those that took it.

        They are due to be enriched again (a type has a pattern) and to be embedded, so that
        their points carry the type.
        """
        changed = await self._change(tenant, "typed", _TYPED, rows=rows)
        return [Due(**row) for row in changed]
