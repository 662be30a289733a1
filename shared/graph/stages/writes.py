"""What the workers of the stages write, guarded by the version that they worked from.

A row whose memory was changed (PATCH) or deleted since writes nothing and is not among the
answers. A row that is written twice has the effect of one. A batch is a fixed number of
queries; the one that clears the due time is the last, so after a crash before it the relay
publishes the jobs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.compact_json import compact_json
from shared.domain.memory import NEVER_MS
from shared.graph.engine.part import (
    EACH_MEMORY,
    EACH_ROW,
    is_waiting,
    numbered,
    reset,
    set_due,
    set_if,
    unique,
)
from shared.graph.records import VERSION_OF, Due
from shared.graph.stages import enrich_query
from shared.graph.stages.enrich_query import Enriched
from shared.graph.stages.preceded_by import PrecededBy
from shared.streams.job import Stage

# What `requeue` sets besides the due time. `related_version` must stay: above 0 it says that the
# memory may have SIMILAR_TO edges, which the relate stage has to delete.
_LAG_AGAIN = {
    Stage.ENRICH: ", m.enriched_version = 0",
    Stage.ASK: "",
    Stage.EMBED: ", m.embedded_version = 0",
    Stage.RELATE: "",
}
# The condition that a stage has nothing to do for `m`.
_DONE = {
    Stage.ENRICH: "m.enriched_version >= m.version",
    Stage.EMBED: "m.embedded_version >= m.payload_version AND NOT coalesce(m.embed_anew, false)",
}
MAX_WAIT_MS = 3_600_000
# 2^16 × any delay is past the cap; without the bound the power would overflow.
_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class EnrichedResult:
    """`payload_changed`: tags or type changed, so that the point must be written again."""

    payload_version: int
    payload_changed: bool


class Embedded(NamedTuple):
    """The point of `id` has `payload_version` now; `relate` if its vector is new.

    `anew`: the memory had `embed_anew` when it was read, and its vectors were made again.
    """

    id: str
    payload_version: int
    text_hash: str
    relate: bool
    anew: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddedResult:
    """Memory ids: those of `absent` are deleted, so delete their points; `applied` are recorded.

    A memory in neither set was changed or requeued since it was read, so it has another job.
    """

    absent: frozenset[str]
    applied: frozenset[str]


@dataclass(frozen=True, slots=True)
class Related:
    """The neighbours of `id` as (id, score), found with the vector of `text_hash`.

    The first `nearest` of them are the nearest to `id`, and its enrichment block lists them. The
    others have `id` among their own nearest. With `replace` its SIMILAR_TO edges to all other
    memories are deleted, because they may be of an earlier text.
    """

    id: str
    text_hash: str
    payload_version: int
    neighbours: tuple[tuple[str, float], ...]
    replace: bool = False
    nearest: int = 0


_EMBEDDED = numbered(
    "UNWIND $rows AS r OPTIONAL MATCH (m:Memory {id: r.id})"
    # A point that was made before the request for new vectors was read does not fulfil it.
    " WITH r, m, coalesce(m.payload_version = r.payload_version, false)"
    " AND (r.anew OR NOT coalesce(m.embed_anew, false)) AS current"
    + set_if(
        "current",
        "m.embedded_version = r.payload_version, m.text_hash = r.text_hash,"
        f" m.embed_anew = {reset('m.embed_anew', 'false')},"
        f" m.embedded_at = $now, {set_due('embed', 'null')}",
    )
    + set_if("current AND r.relate", set_due("relate", "$due"))
    + " RETURN r.id AS id, m IS NULL AS absent, current",
    Embedded._fields,
)
_SAME_TEXT = f"{EACH_ROW} WHERE m.text_hash = r.text_hash"
_RELATED_STALE = numbered(
    f"{_SAME_TEXT} MATCH (m)-[x:SIMILAR_TO]-(o:Memory) WHERE NOT o.id IN r.others DELETE x",
    ("id", "text_hash", "others"),
)
_SCORED = (
    " ON CREATE SET {x}.score = r.score, {x}.updated_at = $now ON MATCH SET {x}.updated_at ="
    " CASE WHEN {x}.score = r.score THEN {x}.updated_at ELSE $now END, {x}.score = r.score"
)
_RELATED_EDGES = numbered(
    f"{_SAME_TEXT} MATCH (o:Memory {{id: r.other}})"
    f" MERGE (m)-[x:SIMILAR_TO]->(o){_SCORED.format(x='x')}"
    f" MERGE (o)-[y:SIMILAR_TO]->(m){_SCORED.format(x='y')}",
    ("id", "text_hash", "other", "score"),
)
_RELATED = numbered(
    f"{_SAME_TEXT} SET m.related_version = r.payload_version, m.related_at = $now,"
    f" {set_due('relate', 'null')}, m.enrichment = CASE"
    " WHEN m.enrichment IS NULL THEN '{\"last_run\":null'"
    " WHEN m.enrichment CONTAINS $tail THEN split(m.enrichment, $tail)[0]"
    " ELSE left(m.enrichment, size(m.enrichment) - 1) END + $tail + r.nearest + '}' RETURN m.id",
    ("id", "text_hash", "payload_version", "nearest"),
)
# Counting edges takes a fifth of the time of sorting them, and decides most cases.
_SETTLED = (
    f"{EACH_ROW}-[x:SIMILAR_TO]->() WHERE x.score >= r[1]"
    " WITH r, count(x) AS stronger WHERE stronger > $limit RETURN r[0] AS id"
)
_STRONGEST = (
    f"{EACH_MEMORY}"
    " CALL { WITH m MATCH (m)-[x:SIMILAR_TO]->(o) WITH o, x.score AS score"
    " ORDER BY score DESC LIMIT $most RETURN collect([o.id, score]) AS strongest }"
    " RETURN m.id, strongest"
)
# A query of so many rows takes some 40 ms, in which the graph writes nothing.
_SETTLED_ROWS = 2048
_STRONGEST_ROWS = 512


class Work(PrecededBy):
    """The writes of the stages' workers and of the relay, reached as `store.work`."""

    async def enriched(self, tenant: str, rows: Sequence[Enriched]) -> dict[str, EnrichedResult]:
        """Write what the enricher found, with its entities and PRECEDED_BY edges.

        Returns the applied rows by id; the others' memories are gone or at another version.
        Entity and PRECEDED_BY edges that a row does not name are deleted.
        """
        stale = [[row.id, row.version, enrich_query.far_ids(row)] for row in rows]
        await self._change(tenant, "enriched_stale", enrich_query.STALE, rows=stale)
        cells = [enrich_query.cells(row) for row in rows]
        applied = await self._change(
            tenant, "enriched", enrich_query.WRITE, rows=cells, tail=enrich_query.TAIL
        )
        return {row.pop("id"): EnrichedResult(**row) for row in applied}

    async def ask_done(self, tenant: str, rows: Sequence[tuple[str, int]]) -> None:
        """Clear the due time of the ask stage for each (id, version)."""
        query = f"{EACH_ROW} WHERE m.version = r[1] SET {set_due('ask', 'null')}"
        await self._change(tenant, "asked", query, rows=rows)

    async def merged(
        self, tenant: str, entity_ids: Iterable[str]
    ) -> dict[str, tuple[str, str, str]]:
        """Return (category, slug, name) of what each merged one of the entities became."""
        ids = sorted(set(entity_ids))
        rows = await self._read(tenant, "merged", enrich_query.MERGED, ids=ids)
        return {row["id"]: (row["category"], row["slug"], row["name"]) for row in rows}

    async def embedded(self, tenant: str, rows: Sequence[Embedded]) -> EmbeddedResult:
        """Record which payload version each point has reached."""
        if not await self._schema.exists(tenant):
            return EmbeddedResult(frozenset(row.id for row in rows), frozenset())
        answers = await self._change(tenant, "embedded", _EMBEDDED, rows=rows)
        absent = frozenset(row["id"] for row in answers if row["absent"])
        return EmbeddedResult(absent, frozenset(row["id"] for row in answers if row["current"]))

    async def related(self, tenant: str, rows: Sequence[Related]) -> set[str]:
        """Write SIMILAR_TO edges both ways; return the ids whose text was still the same."""
        replacing = [
            [row.id, row.text_hash, [other for other, _ in row.neighbours]]
            for row in rows
            if row.replace
        ]
        await self._change(tenant, "related_stale", _RELATED_STALE, rows=replacing)
        edges = [
            [row.id, row.text_hash, other, score]
            for row in rows
            for other, score in row.neighbours
            if other != row.id
        ]
        await self._change(tenant, "related_edges", _RELATED_EDGES, rows=edges)
        done = [[row.id, row.text_hash, row.payload_version, _nearest(row)] for row in rows]
        applied = await self._change(tenant, "related", _RELATED, rows=done, tail=enrich_query.TAIL)
        return {row["id"] for row in applied}

    async def strongest(
        self, tenant: str, rivals: Mapping[str, float], limit: int
    ) -> dict[str, list[tuple[str, float]]]:
        """Return the `limit` + 1 strongest SIMILAR_TO edges of each memory, as (other, score).

        `rivals` has a score for each memory's id. A memory with more than `limit` edges of at
        least that score is left out: an edge of that score is not among its `limit` strongest.
        """
        scores = list(rivals.items())
        settled: set[str] = set()
        for at in range(0, len(scores), _SETTLED_ROWS):
            page = scores[at : at + _SETTLED_ROWS]
            rows = await self._read(tenant, "settled", _SETTLED, rows=page, limit=limit)
            settled |= {row["id"] for row in rows}
        ids = [key for key in rivals if key not in settled]
        found: dict[str, list[tuple[str, float]]] = {}
        for at in range(0, len(ids), _STRONGEST_ROWS):
            some = ids[at : at + _STRONGEST_ROWS]
            rows = await self._read(tenant, "strongest", _STRONGEST, ids=some, most=limit + 1)
            found |= {row["id"]: [(key, near) for key, near in row["strongest"]] for row in rows}
        return found

    async def claim_due(self, tenant: str, stage: Stage, now_ms: int, limit: int) -> list[Due]:
        """Take up to `limit` memories that were due before `now_ms`, in no order.

        Each is pushed back in the same query, by the outbox delay doubled per claim and at
        most an hour; until then no other relay takes it. One that the stage is done with is not
        returned, and is no longer due: its due time was left behind (decision 0008).
        """
        done = _DONE.get(stage, "false")
        query = (
            f"MATCH (m:Memory) WHERE m.{stage}_due > 0 AND m.{stage}_due < $now"
            f" WITH m, coalesce(m.{stage}_waits, 0) AS waits LIMIT $most"
            f" WITH m, waits, {self.outbox_ms} * 2 ^ waits AS wait,"
            f" coalesce({done}, false) AS done"
            f" SET m.{stage}_waits = CASE WHEN waits < {_MAX_DOUBLINGS} THEN waits + 1 ELSE waits"
            f" END, m.{stage}_due = CASE WHEN done THEN null ELSE $now + toInteger("
            f"CASE WHEN wait < {MAX_WAIT_MS} THEN wait ELSE {MAX_WAIT_MS} END) END"
            " RETURN done, m.id, m.version, m.payload_version"
        )
        rows = await self._change(tenant, "claim_due", query, now=now_ms, most=limit)
        return [Due(**row) for row in rows if not row.pop("done")]

    async def next_due(self, tenant: str) -> int | None:
        """Return the smallest due time of all stages and runs in ms; None where nothing waits."""
        stages = " UNION ALL ".join(
            f"MATCH (m:Memory) WHERE {is_waiting(stage)} RETURN min(m.{stage}_due) AS due"
            for stage in VERSION_OF
        )
        stages += " UNION ALL MATCH (r:Run) WHERE r.due > 0 RETURN min(r.due) AS due"
        rows = await self._read(tenant, "next_due", stages)
        return min((row["due"] for row in rows if row["due"] is not None), default=None)

    async def give_up(self, tenant: str, stage: Stage, rows: Sequence[tuple[str, int]]) -> set[str]:
        """Mark each (id, job version) as failed in the stage; return the ids still at it.

        The relay publishes no job for them until a PATCH or `requeue`.
        """
        query = (
            f"{EACH_ROW} WHERE m.{VERSION_OF[stage]} = r[1] AND m.{stage}_due IS NOT NULL"
            f" SET m.{stage}_failed_version = r[1], m.{stage}_due = {NEVER_MS},"
            f" m.{stage}_waits = null RETURN m.id"
        )
        failed = await self._change(tenant, "give_up", query, rows=rows)
        return {row["id"] for row in failed}

    async def requeue(
        self, tenant: str, stage: Stage, ids: Iterable[str], *, anew: bool = False
    ) -> list[Due]:
        """Make memories due again in a stage, failed or not; return those that exist.

        They are due one outbox delay from now, so the caller publishes their jobs before. With
        `anew` (embed only) the vectors are made again even where the text is the same.
        """
        query = (
            f"{EACH_MEMORY} SET {set_due(stage, '$due')}{_LAG_AGAIN[stage]}"
            f"{', m.embed_anew = true' if anew else ''} RETURN m.id, m.version, m.payload_version"
        )
        rows = await self._change(tenant, "requeue", query, ids=unique(ids))
        return [Due(**row) for row in rows]


def _nearest(row: Related) -> str:
    near = [{"id": key, "score": round(score, 6)} for key, score in row.neighbours[: row.nearest]]
    return compact_json(near)
