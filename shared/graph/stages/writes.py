"""What workers write back: guarded by the version they worked from, answered per row.

A row whose memory has moved on (PATCH) or gone (DELETE) does nothing and says so. Writing
the same row twice is writing it once. A batch is a fixed number of queries whatever its
size; the query that clears the due time is the last, so a crash before it is made good by
the relay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.domain.memory import NEVER_MS, now_ms
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import Schema
from shared.graph.stages import enrich_query
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.preceded_by import previous, relink
from shared.streams.job import Stage

__all__ = [
    "MAX_WAIT_MS",
    "VERSION_OF",
    "Due",
    "Embedded",
    "EmbeddedResult",
    "Enriched",
    "EnrichedResult",
    "Related",
    "Work",
]

# The version that a stage's jobs carry, and its results are guarded by.
VERSION_OF = {
    Stage.ENRICH: "version",
    Stage.ASK: "version",
    Stage.EMBED: "payload_version",
    Stage.RELATE: "payload_version",
}
# Not of relate: that it was related before tells whether old edges have to go.
_LAG_AGAIN = {
    Stage.ENRICH: ", m.enriched_version = 0",
    Stage.ASK: "",
    Stage.EMBED: ", m.embedded_version = 0",
    Stage.RELATE: "",
}
MAX_WAIT_MS = 3_600_000
# 2^16 × any delay is past the cap; without the bound the power would overflow.
_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class EnrichedResult:
    """`payload_changed`: tags or type changed, the point must follow `payload_version`."""

    payload_version: int
    payload_changed: bool


@dataclass(frozen=True, slots=True)
class Embedded:
    """The point of `id` now stands at `payload_version`; `relate` if its vector is new.

    `anew`: it was read as `embed_anew`, and its vectors were made again.
    """

    id: str
    payload_version: int
    text_hash: str
    relate: bool
    anew: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddedResult:
    """Absent: the memory is gone, delete its point. Of what is in neither a job follows."""

    absent: frozenset[str]
    applied: frozenset[str]


@dataclass(frozen=True, slots=True)
class Related:
    """The neighbours of `id` as (id, score), found with the vector of `text_hash`.

    The `nearest` first of them are its own, which its enrichment block names; the others
    are those whose nearest it is. `replace` also removes its SIMILAR_TO edges to others, for
    after its content changed.
    """

    id: str
    text_hash: str
    payload_version: int
    neighbours: tuple[tuple[str, float], ...]
    replace: bool = False
    nearest: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    id: str
    version: int
    payload_version: int

    def job_version(self, stage: Stage) -> int:
        return self.version if VERSION_OF[stage] == "version" else self.payload_version


_EMBEDDED = (
    "UNWIND $rows AS r OPTIONAL MATCH (m:Memory {id: r[0]})"
    # Who did not read the wish for new vectors has not fulfilled it.
    " WITH r, m, coalesce(m.payload_version = r[1], false)"
    " AND (r[4] OR NOT coalesce(m.embed_anew, false)) AS current"
    " FOREACH (_ IN CASE WHEN current THEN [1] ELSE [] END |"
    " SET m.embedded_version = r[1], m.text_hash = r[2], m.embed_anew = null, m.embedded_at = $now,"
    " m.embed_due = null, m.embed_waits = null, m.embed_failed_version = null)"
    " FOREACH (_ IN CASE WHEN current AND r[3] THEN [1] ELSE [] END |"
    " SET m.relate_due = $due, m.relate_waits = null, m.relate_failed_version = null)"
    " RETURN r[0], m IS NULL, current"
)
_RELATED_STALE = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.text_hash = r[1]"
    " MATCH (m)-[x:SIMILAR_TO]-(o:Memory) WHERE NOT o.id IN r[2] DELETE x"
)
_SCORED = (
    " ON CREATE SET {x}.score = r[3], {x}.updated_at = $now ON MATCH SET {x}.updated_at ="
    " CASE WHEN {x}.score = r[3] THEN {x}.updated_at ELSE $now END, {x}.score = r[3]"
)
_RELATED_EDGES = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.text_hash = r[1]"
    " MATCH (o:Memory {id: r[2]})"
    f" MERGE (m)-[x:SIMILAR_TO]->(o){_SCORED.format(x='x')}"
    f" MERGE (o)-[y:SIMILAR_TO]->(m){_SCORED.format(x='y')}"
)
_RELATED = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.text_hash = r[1]"
    " SET m.related_version = r[2], m.related_at = $now, m.relate_due = null,"
    " m.relate_waits = null,"
    " m.relate_failed_version = null, m.enrichment = CASE"
    " WHEN m.enrichment IS NULL THEN '{\"last_run\":null'"
    " WHEN m.enrichment CONTAINS $tail THEN split(m.enrichment, $tail)[0]"
    " ELSE left(m.enrichment, size(m.enrichment) - 1) END + $tail + r[3] + '}' RETURN m.id"
)
# Counting edges takes a fifth of the time of sorting them, and decides most cases.
_SETTLED = (
    "UNWIND $rows AS r MATCH (m:Memory {id: r[0]})-[x:SIMILAR_TO]->() WHERE x.score >= r[1]"
    " WITH r, count(x) AS stronger WHERE stronger > $limit RETURN r[0]"
)
_STRONGEST = (
    "UNWIND $ids AS id MATCH (m:Memory {id: id})"
    " CALL { WITH m MATCH (m)-[x:SIMILAR_TO]->(o) WITH o, x.score AS score"
    " ORDER BY score DESC LIMIT $most RETURN collect([o.id, score]) AS strongest }"
    " RETURN m.id, strongest"
)
# A query of so many takes some 40 ms, and no write of the graph meanwhile.
_SETTLED_ROWS = 2048
_STRONGEST_ROWS = 512


class Work:
    """`store.work`; every method is one tenant's."""

    def __init__(self, client: GraphClient, schema: Schema, *, outbox_ms: int) -> None:
        self._client = client
        self._schema = schema
        self._outbox_ms = outbox_ms

    async def enriched(self, tenant: str, rows: Sequence[Enriched]) -> dict[str, EnrichedResult]:
        """Write what the enricher found, with its entities and PRECEDED_BY edges.

        Returns the applied rows by id; the others' memories are gone or at another version.
        The edges become exactly those named.
        """
        if not await self._writable(tenant, rows):
            return {}
        await self._client.write(
            tenant,
            "enriched_stale",
            enrich_query.STALE,
            rows=[[row.id, row.version, enrich_query.far_ids(row)] for row in rows],
        )
        now = now_ms()
        answer = await self._client.write(
            tenant,
            "enriched",
            enrich_query.WRITE,
            rows=[enrich_query.cells(row) for row in rows],
            now=now,
            due=now + self._outbox_ms,
            tail=enrich_query.TAIL,
        )
        return {row[0]: EnrichedResult(row[1], row[2]) for row in answer.rows}

    async def asked(self, tenant: str, rows: Sequence[tuple[str, int]]) -> None:
        """Nothing is left to be asked about (id, version)."""
        if not await self._writable(tenant, rows):
            return
        await self._client.write(
            tenant,
            "asked",
            "UNWIND $rows AS r MATCH (m:Memory {id: r[0]}) WHERE m.version = r[1]"
            " SET m.ask_due = null, m.ask_waits = null, m.ask_failed_version = null",
            rows=[list(row) for row in rows],
        )

    async def merged(
        self, tenant: str, entity_ids: Iterable[str]
    ) -> dict[str, tuple[str, str, str]]:
        """(category, slug, name) of what those entities are that were merged into another."""
        ids = sorted(set(entity_ids))
        rows = (
            await self._client.read(tenant, "merged", enrich_query.MERGED, ids=ids) if ids else []
        )
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    async def previous(
        self, tenant: str, rows: Sequence[tuple[str, int, str | None]]
    ) -> dict[str, list[str]]:
        """Per (id, timestamp, session_id) what came before it: see `temporal.previous`."""
        return await previous(self._client, tenant, rows)

    async def relink(self, tenant: str, rows: Sequence[tuple[str, int, str | None]]) -> None:
        """Put right what comes after each (id, timestamp, session_id): see `temporal.relink`."""
        if await self._writable(tenant, rows):
            await relink(self._client, tenant, rows)

    async def embedded(self, tenant: str, rows: Sequence[Embedded]) -> EmbeddedResult:
        """Record which payload version each point has reached."""
        if not await self._writable(tenant, rows):
            return EmbeddedResult(frozenset(row.id for row in rows), frozenset())
        now = now_ms()
        answer = await self._client.write(
            tenant,
            "embedded",
            _EMBEDDED,
            rows=[
                [row.id, row.payload_version, row.text_hash, row.relate, row.anew] for row in rows
            ],
            now=now,
            due=now + self._outbox_ms,
        )
        absent = frozenset(row[0] for row in answer.rows if row[1])
        applied = frozenset(row[0] for row in answer.rows if row[2])
        return EmbeddedResult(absent, applied)

    async def related(self, tenant: str, rows: Sequence[Related]) -> set[str]:
        """Write SIMILAR_TO edges both ways; returns the ids whose text was still the same."""
        if not await self._writable(tenant, rows):
            return set()
        replacing = [
            [row.id, row.text_hash, [other for other, _ in row.neighbours]]
            for row in rows
            if row.replace
        ]
        if replacing:
            await self._client.write(tenant, "related_stale", _RELATED_STALE, rows=replacing)
        edges = [
            [row.id, row.text_hash, other, score]
            for row in rows
            for other, score in row.neighbours
            if other != row.id
        ]
        if edges:
            await self._client.write(
                tenant, "related_edges", _RELATED_EDGES, rows=edges, now=now_ms()
            )
        done = await self._client.write(
            tenant,
            "related",
            _RELATED,
            rows=[[row.id, row.text_hash, row.payload_version, _nearest(row)] for row in rows],
            tail=enrich_query.TAIL,
            now=now_ms(),
        )
        return {row[0] for row in done.rows}

    async def strongest(
        self, tenant: str, rivals: Mapping[str, float], limit: int
    ) -> dict[str, list[tuple[str, float]]]:
        """The `limit` + 1 strongest SIMILAR_TO edges of each memory, as (other, score).

        Those memories are left out that have more than `limit` at least as strong as their
        rival: none of a lower score is among their `limit` nearest.
        """
        rows = [list(each) for each in rivals.items()]
        settled: set[str] = set()
        for at in range(0, len(rows), _SETTLED_ROWS):
            some = rows[at : at + _SETTLED_ROWS]
            told = await self._client.read(tenant, "settled", _SETTLED, rows=some, limit=limit)
            settled |= {row[0] for row in told}
        ids = [key for key in rivals if key not in settled]
        found: dict[str, list[tuple[str, float]]] = {}
        for at in range(0, len(ids), _STRONGEST_ROWS):
            names = ids[at : at + _STRONGEST_ROWS]
            told = await self._client.read(
                tenant, "strongest", _STRONGEST, ids=names, most=limit + 1
            )
            found.update({row[0]: [(other, score) for other, score in row[1]] for row in told})
        return found

    async def claim_due(self, tenant: str, stage: Stage, now_ms: int, limit: int) -> list[Due]:
        """Take up to `limit` memories that were due before `now_ms`, in no order.

        Each is pushed back in the same query, by the outbox delay doubled per claim and at
        most an hour; until then no other relay takes it.
        """
        if not await self._schema.exists(tenant):
            return []
        answer = await self._client.write(
            tenant,
            "claim_due",
            f"MATCH (m:Memory) WHERE m.{stage}_due > 0 AND m.{stage}_due < $now"
            f" WITH m, coalesce(m.{stage}_waits, 0) AS waits LIMIT $most"
            " WITH m, waits, $delay * 2 ^ waits AS wait"
            f" SET m.{stage}_waits = CASE WHEN waits < $doublings THEN waits + 1 ELSE waits END,"
            f" m.{stage}_due = $now + toInteger(CASE WHEN wait < $cap THEN wait ELSE $cap END)"
            " RETURN m.id, m.version, m.payload_version",
            now=now_ms,
            most=limit,
            delay=self._outbox_ms,
            doublings=_MAX_DOUBLINGS,
            cap=MAX_WAIT_MS,
        )
        return [Due(*row) for row in answer.rows]

    async def next_due(self, tenant: str) -> int | None:
        """The smallest due time of all stages and runs in ms; None where nothing waits."""
        stages = " UNION ALL ".join(
            f"MATCH (m:Memory) WHERE m.{stage}_due > 0 AND m.{stage}_due < $never"
            f" RETURN min(m.{stage}_due) AS due"
            for stage in VERSION_OF
        )
        stages += " UNION ALL MATCH (r:Run) WHERE r.due > 0 RETURN min(r.due) AS due"
        rows = await self._client.read(tenant, "next_due", stages, never=NEVER_MS)
        return min((row[0] for row in rows if row[0] is not None), default=None)

    async def give_up(self, tenant: str, stage: Stage, rows: Sequence[tuple[str, int]]) -> set[str]:
        """Mark (id, job version) as failed in this stage; returns those still at it.

        The relay leaves them until a PATCH or `requeue`.
        """
        if not await self._writable(tenant, rows):
            return set()
        answer = await self._client.write(
            tenant,
            "give_up",
            "UNWIND $rows AS r MATCH (m:Memory {id: r[0]})"
            f" WHERE m.{VERSION_OF[stage]} = r[1] AND m.{stage}_due IS NOT NULL"
            f" SET m.{stage}_failed_version = r[1], m.{stage}_due = $never,"
            f" m.{stage}_waits = null RETURN m.id",
            rows=[list(row) for row in rows],
            never=NEVER_MS,
        )
        return {row[0] for row in answer.rows}

    async def requeue(
        self, tenant: str, stage: Stage, ids: Iterable[str], *, anew: bool = False
    ) -> list[Due]:
        """Take what this stage did as not done, failed or not; returns those that exist.

        They are due one outbox delay from now: publish their jobs. `anew` (embed) also makes
        vectors again whose text is the same.
        """
        if not await self._schema.exists(tenant):
            return []
        answer = await self._client.write(
            tenant,
            "requeue",
            "UNWIND $ids AS id MATCH (m:Memory {id: id})"
            f" SET m.{stage}_due = $due, m.{stage}_failed_version = null, m.{stage}_waits = null,"
            f" m.embed_anew = CASE WHEN $anew THEN true ELSE m.embed_anew END{_LAG_AGAIN[stage]}"
            " RETURN m.id, m.version, m.payload_version",
            ids=list(dict.fromkeys(ids)),
            due=now_ms() + self._outbox_ms,
            anew=anew,
        )
        return [Due(*row) for row in answer.rows]

    async def _writable(self, tenant: str, rows: Sequence[object]) -> bool:
        return bool(rows) and await self._schema.exists(tenant)


def _nearest(row: Related) -> str:
    near = [{"id": key, "score": round(score, 6)} for key, score in row.neighbours[: row.nearest]]
    return json.dumps(near, separators=(",", ":"))
