"""/entities and /entity: who and what memories name, and which entities are the same."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.api.graph.entity_answers import (
    AcceptedEntityAnswer,
    AuditAnswer,
    EntityFoundAnswer,
    EntityListAnswer,
    MergeAnswer,
    MergeCandidatesAnswer,
    MergedAnswer,
    RejectedEntityAnswer,
)
from services.api.graph.entity_identity import (
    MergeCandidate,
    flaw,
    merge_candidate,
    similar_pairs,
)
from services.api.http.answers import json_answer
from services.api.http.body import read_body
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, flag, integer, text
from services.api.http.route import Route
from services.api.http.validation import parse_optional, required, validate
from shared.domain.memory import check_text, tag_keys
from shared.errors import InvalidInput, NotFound
from shared.graph.memory.entities import Entity
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.lua import CHUNK
from shared.streams.outbox import Outbox

MAX_LISTED = 500
# The least referenced entities, and the least similar pairs, beyond these are not compared.
COMPARED_ENTITIES = 5_000
COMPARED_PAIRS = 1_000
_MERGES_FOLLOWED = 3
# The most memories that one merge enriches again; a repeated merge does the others.
_MOST_RETAGGED = 100_000


@dataclass(frozen=True, slots=True)
class Audit:
    """Every audited entity is in exactly one of `sound` and `flawed`."""

    sound: Sequence[AcceptedEntityAnswer]
    flawed: Sequence[RejectedEntityAnswer]
    candidates: Sequence[MergeCandidate]


@dataclass(frozen=True, slots=True)
class Entities:
    """Use cases on one tenant's entities, with a fixed number of store calls each."""

    graph: GraphStore
    outbox: Outbox

    async def top(self, tenant: str, category: str | None, limit: int) -> list[Entity]:
        return await self.graph.entities.top(tenant, category=category, limit=limit)

    async def find(self, tenant: str, name: str, *, what: str = "Entity") -> Entity:
        """Return the entity of an id, slug or alias, or the one it was merged into.

        Raises: NotFound.
        """
        next_name = name
        for _ in range(_MERGES_FOLLOWED):
            found = await self.graph.entities.named(tenant, next_name)
            if not found:
                break
            if found[0].merged_into is None:
                return found[0]
            next_name = found[0].merged_into
        raise NotFound(f"{what} '{name}' not found")

    async def candidates(self, tenant: str, category: str | None = None) -> list[MergeCandidate]:
        """Return entities that may be the same, surest first; at most COMPARED_PAIRS."""
        entities = await self.graph.entities.top(tenant, category=category, limit=COMPARED_ENTITIES)
        # Up to some hundred thousand comparisons would hold the event loop.
        pairs = await asyncio.to_thread(similar_pairs, entities, most=COMPARED_PAIRS)
        # The query walks the memories of the first entity: the one with fewer comes first.
        ends = [sorted((p.alias, p.canonical), key=lambda e: e.references) for p in pairs]
        shared = await self.graph.entities.shared(
            tenant, [(first.id, second.id) for first, second in ends]
        )
        judged = map(merge_candidate, pairs, shared)
        found = [candidate for candidate in judged if candidate is not None]
        return sorted(found, key=lambda c: (not c.auto_merge, -c.confidence, c.canonical, c.alias))

    async def merge(self, tenant: str, name: str, into: str) -> MergeAnswer:
        """Make `name` an alias of `into` (ids, slugs or aliases); a repeat finishes the merge.

        The memories with the alias's tag are enriched again and get the other entity's tag.

        Raises: NotFound, InvalidInput where both are one, Conflict for a race.
        """
        named = await self.graph.entities.named(tenant, name)
        if not named:
            raise NotFound(f"Entity '{name}' not found")
        target = await self.find(tenant, into, what="Target entity")
        # A slug may exist in several categories: the first that is not the target is merged.
        alias = next((entity for entity in named if entity.id != target.id), None)
        if alias is None:
            raise InvalidInput("Source and target entity must be different")
        moved = await self.graph.entities.merge(tenant, alias=alias.id, canonical=target.id)
        await self._retag(tenant, alias.id)
        return MergeAnswer(
            canonical=target.id, alias=alias.id, alias_slug=alias.slug, edges_moved=moved
        )

    async def _retag(self, tenant: str, alias: str) -> None:
        """Enrich again under a run id: a job in flight may have read the entities earlier."""
        run = str(uuid.uuid4())
        tagged = await self.graph.tags.ids(tenant, tag_keys([alias]), _MOST_RETAGGED)
        for at in range(0, len(tagged), CHUNK):
            due = await self.graph.work.requeue(tenant, Stage.ENRICH, tagged[at : at + CHUNK])
            jobs = [Job(tenant, each.id, each.version, run) for each in due]
            await self.outbox.announce({Stage.ENRICH: jobs}, exempt=True)

    async def audit(self, tenant: str, *, compare: bool) -> Audit:
        """Judge the COMPARED_ENTITIES most referenced entities; changes nothing."""
        entities = await self.graph.entities.top(tenant, limit=COMPARED_ENTITIES, ghosts=True)
        sound, flawed = [], []
        for entity in sorted(entities, key=lambda entity: entity.id):
            reason = flaw(entity.category, entity.slug, entity.references)
            if reason is None:
                sound.append(AcceptedEntityAnswer.model_validate(entity))
            else:
                flawed.append(RejectedEntityAnswer.of(entity, reason))
        flawed.sort(key=lambda row: row.reason)
        return Audit(sound, flawed, await self.candidates(tenant) if compare else [])


def _target(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("'merge_into' slug is required")
    return check_text(value.strip(), "'merge_into'")


class MergeIn(BaseModel):
    """POST /entity/{slug}/merge: a slug, alias or id."""

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=required("merge_into"))

    merge_into: Annotated[str, BeforeValidator(_target)] = Field(validate_default=True, default="")


ENTITIES: web.AppKey[Entities] = web.AppKey("entities", Entities)
_CATEGORY = text("category", "Only entities of this category")
_LIMIT = integer("limit", "Most entities", default=100, least=1, most=MAX_LISTED)
_SUMMARY = flag("summary", "Answer samples of the rows")
_COMPARE = flag("include_merge_candidates", "Also with `summary`, which leaves them out")
_AUDIT_LIMIT = integer("limit", "Most rows", default=100, least=0, most=MAX_LISTED)
_OFFSET = integer("offset", "Rows to pass over", default=0, least=0, most=COMPARED_ENTITIES)
_REASON = text("reason", "Only entities refused for this reason")


async def list_entities(request: web.Request) -> web.Response:
    query = Query.of(request)
    found = await request.app[ENTITIES].top(request[TENANT], query[_CATEGORY], query[_LIMIT])
    return json_answer(EntityListAnswer.model_validate({"entities": found, "count": len(found)}))


async def get_entity(request: web.Request) -> web.Response:
    slug = check_text(request.match_info["slug"], "slug")
    entity = await request.app[ENTITIES].find(request[TENANT], slug)
    return json_answer(EntityFoundAnswer.model_validate({"entity": entity}))


async def merge_candidates(request: web.Request) -> web.Response:
    category = Query.of(request)[_CATEGORY]
    found = await request.app[ENTITIES].candidates(request[TENANT], category)
    answer = {"candidates": found, "count": len(found)}
    return json_answer(MergeCandidatesAnswer.model_validate(answer))


async def merge_entity(request: web.Request) -> web.Response:
    body = validate(MergeIn, parse_optional(await read_body(request)))
    slug = check_text(request.match_info["slug"], "slug")
    merged = await request.app[ENTITIES].merge(request[TENANT], slug, body.merge_into)
    return json_answer(MergedAnswer(merge=merged))


async def audit_entities(request: web.Request) -> web.Response:
    query = Query.of(request)
    compare = query[_COMPARE] or not query[_SUMMARY]
    audit = await request.app[ENTITIES].audit(request[TENANT], compare=compare)
    return json_answer(audit_answer(audit, query, compared=compare))


def audit_answer(audit: Audit, query: Query, *, compared: bool) -> AuditAnswer:
    """Render a page of the rows of a category and a reason; the counts are of all entities."""
    category, reason = query[_CATEGORY], query[_REASON]
    page = slice(query[_OFFSET], query[_OFFSET] + query[_AUDIT_LIMIT])
    accepted = [row for row in audit.sound if reason is None and category in (None, row.category)]
    rejected = [
        row
        for row in audit.flawed
        if category in (None, row.category) and reason in (None, row.reason)
    ]
    kinds = ("accepted_sample", "rejected_sample")
    rows = kinds if query[_SUMMARY] else ("accepted", "rejected_entities")
    return AuditAnswer.model_validate(
        {
            rows[0]: accepted[page],
            rows[1]: rejected[page],
            "merge_candidates": audit.candidates,
            "counts": _counts(audit, len(accepted), len(rejected)),
            "counts_by_reason": dict(sorted(Counter(row.reason for row in audit.flawed).items())),
            "counts_by_category": _by_category(audit),
            "summary": query[_SUMMARY],
            "limit": query[_AUDIT_LIMIT],
            "offset": query[_OFFSET],
            "merge_candidates_skipped": not compared,
        }
    )


def _counts(audit: Audit, accepted: int, rejected: int) -> dict[str, int]:
    automatic = sum(candidate.auto_merge for candidate in audit.candidates)
    return {
        "accepted_entities": accepted,
        "rejected_entities": rejected,
        "accepted_total_unfiltered": len(audit.sound),
        "rejected_total_unfiltered": len(audit.flawed),
        "merge_candidates": len(audit.candidates),
        "auto_merge_candidates": automatic,
        "review_merge_candidates": len(audit.candidates) - automatic,
    }


def _by_category(audit: Audit) -> dict[str, dict[str, int]]:
    sound = Counter(row.category for row in audit.sound)
    flawed = Counter(row.category for row in audit.flawed)
    return {
        name: {"accepted": sound[name], "rejected": flawed[name]} for name in sorted(sound | flawed)
    }


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/entities",
        list_entities,
        "Entities by the number of memories that name them",
        query=(_CATEGORY, _LIMIT),
        group="entities",
        returns=EntityListAnswer,
    ),
    Route(
        "GET",
        "/entities/merge-candidates",
        merge_candidates,
        "Entities that may be the same",
        query=(_CATEGORY,),
        group="entities",
        returns=MergeCandidatesAnswer,
    ),
    Route(
        "GET",
        "/entities/audit",
        audit_entities,
        "A dry run over all entities: which deserve a look, and why",
        scope="admin",
        query=(_SUMMARY, _COMPARE, _AUDIT_LIMIT, _OFFSET, _CATEGORY, _REASON),
        group="entities",
        returns=AuditAnswer,
    ),
    Route(
        "GET",
        "/entity/{slug}",
        get_entity,
        "One entity by slug, alias or id",
        answers={200: "Success", 404: "No such entity"},
        group="entities",
        returns=EntityFoundAnswer,
    ),
    Route(
        "POST",
        "/entity/{slug}/merge",
        merge_entity,
        "Make an entity an alias of another",
        scope="admin",
        body=MergeIn,
        answers={200: "Merged", 404: "No such entity", 409: "Changed meanwhile; look again"},
        group="entities",
        returns=MergedAnswer,
    ),
)
