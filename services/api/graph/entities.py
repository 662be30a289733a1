"""/entities and /entity: who and what memories name, and which entities are the same."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field

from services.api.graph.entity_identity import (
    MergeCandidateAnswer,
    flaw,
    merge_candidate,
    similar_pairs,
)
from services.api.http.answers import Absent, Answer, Success, Time, attribute, json_answer
from services.api.http.body import Body, read_model, required
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, flag, integer, text, without_default
from services.api.http.route import Routes
from shared.domain.memory import check_text, tag_keys
from shared.errors import InvalidInput, NotFound
from shared.graph.memory.entities import Entity
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.streams.stream import CHUNK

MAX_LISTED = 500
# The least referenced entities, and the least similar pairs, beyond these are not compared.
COMPARED_ENTITIES = 5_000
COMPARED_PAIRS = 1_000
_MERGES_FOLLOWED = 3
# The most memories that one merge enriches again; a repeated merge does the others.
_MOST_RETAGGED = 100_000
_SourceTags = Annotated[tuple[str, ...], BeforeValidator(lambda entity_id: (entity_id,))]


class MergeAnswer(Answer):
    """What was merged into what, by ids."""

    canonical: str
    alias: str
    alias_slug: str
    edges_moved: int


class AcceptedEntityAnswer(Answer):
    """An entity that passed every check."""

    id: str
    category: str
    slug: str
    name: str
    source_tags: _SourceTags = attribute("id")
    references: int
    confidence: float = 1.0


class RejectedEntityAnswer(Answer):
    """An entity that deserves a look."""

    tag: str = attribute("id")
    category: str
    slug: str
    reason: str
    references: int


class EntityAnswer(Answer):
    """An entity; `reference_count` memories name it."""

    id: str
    slug: str
    category: str
    name: str
    aliases: tuple[str, ...]
    identity: str | None
    identity_version: int
    identity_updated_at: Time | None
    identity_source_count: int
    reference_count: int = attribute("references")
    created_at: Time | None
    last_referenced_at: Time | None


class EntityListAnswer(Success):
    """The most referenced first."""

    entities: list[EntityAnswer]
    count: int


class EntityFoundAnswer(Success):
    """An entity."""

    entity: EntityAnswer


class MergeCandidatesAnswer(Success):
    """The surest first."""

    candidates: list[MergeCandidateAnswer]
    count: int


class MergedAnswer(Success):
    """A merge that is done."""

    merge: MergeAnswer


class AuditAnswer(Success):
    """A dry run's report; the rows are samples under other keys where `summary` is true."""

    dry_run: Literal[True] = True
    accepted: Absent[list[AcceptedEntityAnswer]] = None
    rejected_entities: Absent[list[RejectedEntityAnswer]] = None
    accepted_sample: Absent[list[AcceptedEntityAnswer]] = None
    rejected_sample: Absent[list[RejectedEntityAnswer]] = None
    merge_candidates: list[MergeCandidateAnswer]
    counts: dict[str, int]
    counts_by_reason: dict[str, int]
    counts_by_category: dict[str, dict[str, int]]
    summary: bool
    limit: int
    offset: int
    merge_candidates_skipped: bool


@dataclass(frozen=True, slots=True)
class Entities:
    """Use cases on one tenant's entities, with a fixed number of store calls each."""

    graph: GraphStore
    outbox: Outbox

    async def find(self, tenant: str, name: str, *, what: str = "Entity") -> Entity:
        """Return the entity of an id, slug or alias, or what it merged into. Raises: NotFound."""
        next_name = name
        for _ in range(_MERGES_FOLLOWED):
            found = await self.graph.entities.named(tenant, next_name)
            if not found:
                break
            if found[0].merged_into is None:
                return found[0]
            next_name = found[0].merged_into
        raise NotFound(f"{what} '{name}' not found")

    async def candidates(
        self, tenant: str, category: str | None = None
    ) -> list[MergeCandidateAnswer]:
        """Return entities that may be the same, surest first; at most COMPARED_PAIRS."""
        entities = await self.graph.entities.top(tenant, category=category, limit=COMPARED_ENTITIES)
        # Up to some hundred thousand comparisons would hold the event loop.
        pairs = await asyncio.to_thread(similar_pairs, entities, most=COMPARED_PAIRS)
        # The query walks the memories of the first entity: the one with fewer comes first.
        ends = [sorted((p.alias, p.canonical), key=lambda e: e.references) for p in pairs]
        shared = await self.graph.entities.shared(
            tenant, [(first.id, second.id) for first, second in ends]
        )
        found = [candidate for candidate in map(merge_candidate, pairs, shared) if candidate]
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
        tagged = await self.graph.memories.tagged_ids(tenant, tag_keys([alias]), _MOST_RETAGGED)
        for at in range(0, len(tagged), CHUNK):
            due = await self.graph.work.requeue(tenant, Stage.ENRICH, tagged[at : at + CHUNK])
            jobs = [Job(tenant, each.id, each.version, run) for each in due]
            await self.outbox.announce({Stage.ENRICH: jobs}, exempt=True)

    async def audit(self, tenant: str) -> tuple[list[Entity], list[RejectedEntityAnswer]]:
        """Judge the COMPARED_ENTITIES most referenced entities; nothing is changed."""
        entities = await self.graph.entities.top(tenant, limit=COMPARED_ENTITIES, ghosts=True)
        accepted, rejected = [], []
        for entity in sorted(entities, key=lambda entity: entity.id):
            if reason := flaw(entity.category, entity.slug, entity.references):
                row = asdict(entity) | {"reason": reason}
                rejected.append(RejectedEntityAnswer.model_validate(row))
            else:
                accepted.append(entity)
        return accepted, sorted(rejected, key=lambda row: row.reason)


def _target(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("'merge_into' slug is required")
    return check_text(value.strip(), "'merge_into'")


class MergeIn(Body):
    """POST /entity/{slug}/merge: a slug, alias or id."""

    model_config = ConfigDict(json_schema_extra=required("merge_into"))

    merge_into: Annotated[str, BeforeValidator(_target)] = Field(validate_default=True, default="")


ENTITIES: web.AppKey[Entities] = web.AppKey("entities", Entities)
_CATEGORY = text("category", "Only entities of this category")
_LIMIT = integer("limit", "Most entities", default=100, least=1, most=MAX_LISTED)
_SUMMARY = flag("summary", "Answer samples of the rows")
_COMPARE = flag("include_merge_candidates", "Also with `summary`; without it they always come")
_AUDIT_LIMIT = integer("limit", "Most rows", default=100, least=0, most=MAX_LISTED)
_OFFSET = integer("offset", "Rows to pass over", default=0, least=0, most=COMPARED_ENTITIES)
_REASON = text("reason", "Only entities refused for this reason")
ROUTES = Routes(group="entities")


@ROUTES.add(
    "GET",
    "/entities",
    "Entities by the number of memories that name them",
    query=(_CATEGORY, _LIMIT),
    returns=EntityListAnswer,
)
async def list_entities(request: web.Request) -> web.Response:
    query, entities = Query.of(request), request.app[ENTITIES].graph.entities
    found = await entities.top(request[TENANT], category=query[_CATEGORY], limit=query[_LIMIT])
    return json_answer(EntityListAnswer.model_validate({"entities": found, "count": len(found)}))


@ROUTES.add(
    "GET",
    "/entities/merge-candidates",
    "Entities that may be the same",
    query=(_CATEGORY,),
    returns=MergeCandidatesAnswer,
)
async def merge_candidates(request: web.Request) -> web.Response:
    category = Query.of(request)[_CATEGORY]
    found = await request.app[ENTITIES].candidates(request[TENANT], category)
    return json_answer(MergeCandidatesAnswer(candidates=found, count=len(found)))


@ROUTES.add(
    "GET",
    "/entities/audit",
    "A dry run over all entities: which deserve a look, and why",
    scope="admin",
    query=(_SUMMARY, without_default(_COMPARE), _AUDIT_LIMIT, _OFFSET, _CATEGORY, _REASON),
    returns=AuditAnswer,
)
async def audit_entities(request: web.Request) -> web.Response:
    """Answer a page of the rows of a category and a reason; the counts are of all entities."""
    query, tenant, entities = Query.of(request), request[TENANT], request.app[ENTITIES]
    category, reason, summary = query[_CATEGORY], query[_REASON], query[_SUMMARY]
    accepted, rejected = await entities.audit(tenant)
    compared = query[_COMPARE] or not summary
    candidates = await entities.candidates(tenant) if compared else []
    passed = [row for row in accepted if reason is None and category in (None, row.category)]
    of_category = [row for row in rejected if category in (None, row.category)]
    refused = [row for row in of_category if reason in (None, row.reason)]
    page = slice(query[_OFFSET], query[_OFFSET] + query[_AUDIT_LIMIT])
    fit, unfit = (Counter(row.category for row in rows) for rows in (accepted, rejected))
    automatic = sum(candidate.auto_merge for candidate in candidates)
    answer = {
        "accepted_sample" if summary else "accepted": passed[page],
        "rejected_sample" if summary else "rejected_entities": refused[page],
        "merge_candidates": candidates,
        "counts": {
            "accepted_entities": len(passed),
            "rejected_entities": len(refused),
            "accepted_total_unfiltered": len(accepted),
            "rejected_total_unfiltered": len(rejected),
            "merge_candidates": len(candidates),
            "auto_merge_candidates": automatic,
            "review_merge_candidates": len(candidates) - automatic,
        },
        "counts_by_reason": dict(sorted(Counter(row.reason for row in rejected).items())),
        "counts_by_category": {
            name: {"accepted": fit[name], "rejected": unfit[name]} for name in sorted(fit | unfit)
        },
        "summary": summary,
        "limit": query[_AUDIT_LIMIT],
        "offset": query[_OFFSET],
        "merge_candidates_skipped": not compared,
    }
    return json_answer(AuditAnswer.model_validate(answer))


@ROUTES.add(
    "GET",
    "/entity/{slug}",
    "One entity by slug, alias or id",
    answers={200: "Success", 404: "No such entity"},
    returns=EntityFoundAnswer,
)
async def get_entity(request: web.Request) -> web.Response:
    slug = check_text(request.match_info["slug"], "slug")
    entity = await request.app[ENTITIES].find(request[TENANT], slug)
    return json_answer(EntityFoundAnswer.model_validate({"entity": entity}))


@ROUTES.add(
    "POST",
    "/entity/{slug}/merge",
    "Make an entity an alias of another",
    scope="admin",
    body=MergeIn,
    answers={200: "Merged", 404: "No such entity", 409: "Changed meanwhile; look again"},
    returns=MergedAnswer,
)
async def merge_entity(request: web.Request) -> web.Response:
    body = await read_model(request, MergeIn, optional=True)
    slug = check_text(request.match_info["slug"], "slug")
    merged = await request.app[ENTITIES].merge(request[TENANT], slug, body.merge_into)
    return json_answer(MergedAnswer(merge=merged))
