"""/entities and /entity: who and what the memories speak of, and which of them are the same."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.api.graph.entity_identity import MergeCandidate, flaw, merge_candidate, similar_pairs
from services.api.http.answers import json_answer
from services.api.http.middleware import TENANT
from services.api.http.query import flag, integer, text
from services.api.http.route import Param, Route
from services.api.http.validation import parse_object, required, validate
from shared.domain.memory import check_text, iso, tag_keys
from shared.errors import InvalidInput, NotFound
from shared.graph.memory.entities import Entity
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage
from shared.streams.lua import CHUNK
from shared.streams.outbox import Outbox

MAX_LISTED = 500
# Beyond these the least referenced entities, and the least similar pairs, are not looked at.
COMPARED_ENTITIES = 5_000
COMPARED_PAIRS = 1_000
_MERGES_FOLLOWED = 3
# Of one merge; for more it is asked again.
_MOST_RETAGGED = 100_000


@dataclass(frozen=True, slots=True)
class Merged:
    canonical: str
    alias: str
    alias_slug: str
    edges_moved: int


@dataclass(frozen=True, slots=True)
class Flawed:
    """An entity and why it deserves a look."""

    entity: Entity
    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Every looked-at entity is in exactly one of `sound` and `flawed`."""

    sound: Sequence[Entity]
    flawed: Sequence[Flawed]
    candidates: Sequence[MergeCandidate]


class Entities:
    """Use cases on one tenant's entities; a fixed number of store calls each."""

    def __init__(self, graph: GraphStore, outbox: Outbox) -> None:
        self._graph = graph
        self._store = graph.entities
        self._outbox = outbox

    async def top(self, tenant: str, category: str | None, limit: int) -> list[Entity]:
        return await self._store.top(tenant, category=category, limit=limit)

    async def find(self, tenant: str, name: str, *, what: str = "Entity") -> Entity:
        """The entity of an id, slug or alias; a merged one's canonical. Raises: NotFound."""
        wanted = name
        for _ in range(_MERGES_FOLLOWED):
            found = await self._store.named(tenant, wanted)
            if not found:
                break
            if found[0].merged_into is None:
                return found[0]
            wanted = found[0].merged_into
        raise NotFound(f"{what} '{name}' not found")

    async def candidates(self, tenant: str, category: str | None = None) -> list[MergeCandidate]:
        """Return entities that may be the same, surest first; at most COMPARED_PAIRS."""
        entities = await self._store.top(tenant, category=category, limit=COMPARED_ENTITIES)
        # Up to some hundred thousand comparisons would hold the event loop.
        pairs = await asyncio.to_thread(similar_pairs, entities, most=COMPARED_PAIRS)
        # The query walks the memories of the first entity: the one with fewer comes first.
        ends = [sorted((p.alias, p.canonical), key=lambda e: e.references) for p in pairs]
        shared = await self._store.shared(tenant, [(first.id, second.id) for first, second in ends])
        judged = map(merge_candidate, pairs, shared)
        found = [candidate for candidate in judged if candidate is not None]
        return sorted(found, key=lambda c: (not c.auto_merge, -c.confidence, c.canonical, c.alias))

    async def merge(self, tenant: str, name: str, into: str) -> Merged:
        """Make `name` an alias of `into` (ids, slugs or aliases); again: finishes it.

        The memories with the alias's tag are enriched again, and get the other's.

        Raises: NotFound, InvalidInput where both are one, Conflict for a race.
        """
        named = await self._store.named(tenant, name)
        if not named:
            raise NotFound(f"Entity '{name}' not found")
        target = await self.find(tenant, into, what="Target entity")
        # A slug may exist in several categories; the one that is not the target is meant.
        alias = next((entity for entity in named if entity.id != target.id), None)
        if alias is None:
            raise InvalidInput("Source and target entity must be different")
        moved = await self._store.merge(tenant, alias=alias.id, canonical=target.id)
        await self._retag(tenant, alias.id)
        return Merged(target.id, alias.id, alias.slug, moved)

    async def _retag(self, tenant: str, alias: str) -> None:
        """A run of its own: a job that is under way may have read the entities before."""
        run = str(uuid.uuid4())
        tagged = await self._graph.tags.ids(tenant, tag_keys([alias]), _MOST_RETAGGED)
        for at in range(0, len(tagged), CHUNK):
            due = await self._graph.work.requeue(tenant, Stage.ENRICH, tagged[at : at + CHUNK])
            jobs = [Job(tenant, each.id, each.version, run) for each in due]
            await self._outbox.announce({Stage.ENRICH: jobs}, exempt=True)

    async def audit(self, tenant: str, *, compare: bool) -> Audit:
        """Judge the COMPARED_ENTITIES most referenced entities; changes nothing."""
        entities = await self._store.top(tenant, limit=COMPARED_ENTITIES, ghosts=True)
        judged = [(each, flaw(each.category, each.slug, each.references)) for each in entities]
        return Audit(
            sorted((each for each, reason in judged if reason is None), key=lambda e: e.id),
            sorted(
                (Flawed(each, reason) for each, reason in judged if reason is not None),
                key=lambda f: (f.reason, f.entity.id),
            ),
            await self.candidates(tenant) if compare else [],
        )


def _target(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("'merge_into' slug is required")
    return check_text(value.strip(), "'merge_into'")


class MergeIn(BaseModel):
    """POST /entity/{slug}/merge: a slug, alias or id."""

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=required("merge_into"))

    merge_into: Annotated[str, BeforeValidator(_target)] = Field(validate_default=True, default="")


ENTITIES: web.AppKey[Entities] = web.AppKey("entities", Entities)


def entity_json(entity: Entity) -> dict[str, Any]:
    return {
        "id": entity.id,
        "slug": entity.slug,
        "category": entity.category,
        "name": entity.name,
        "aliases": list(entity.aliases),
        "identity": entity.identity,
        "identity_version": entity.identity_version,
        "identity_updated_at": iso(entity.identity_updated_at),
        "identity_source_count": entity.identity_source_count,
        "reference_count": entity.references,
        "created_at": iso(entity.created_at),
        "last_referenced_at": iso(entity.last_referenced_at),
    }


def candidate_json(candidate: MergeCandidate) -> dict[str, Any]:
    first, second = sorted((candidate.canonical, candidate.alias))
    return {
        "entity_a": first,
        "entity_b": second,
        "canonical": candidate.canonical,
        "alias": candidate.alias,
        "confidence": candidate.confidence,
        "reason": candidate.reason,
        "auto_merge": candidate.auto_merge,
    }


async def list_entities(request: web.Request) -> web.Response:
    limit = integer(request.query, "limit", default=100, least=1, most=MAX_LISTED)
    found = await request.app[ENTITIES].top(request[TENANT], text(request.query, "category"), limit)
    rows = [entity_json(entity) for entity in found]
    return json_answer({"status": "success", "entities": rows, "count": len(rows)})


async def get_entity(request: web.Request) -> web.Response:
    slug = check_text(request.match_info["slug"], "slug")
    entity = await request.app[ENTITIES].find(request[TENANT], slug)
    return json_answer({"status": "success", "entity": entity_json(entity)})


async def merge_candidates(request: web.Request) -> web.Response:
    found = await request.app[ENTITIES].candidates(request[TENANT], text(request.query, "category"))
    rows = [candidate_json(candidate) for candidate in found]
    return json_answer({"status": "success", "candidates": rows, "count": len(rows)})


async def merge_entity(request: web.Request) -> web.Response:
    raw = await request.read()
    body = validate(MergeIn, parse_object(raw) if raw.strip() else {})
    slug = check_text(request.match_info["slug"], "slug")
    merged = await request.app[ENTITIES].merge(request[TENANT], slug, body.merge_into)
    shown = {
        "canonical": merged.canonical,
        "alias": merged.alias,
        "alias_slug": merged.alias_slug,
        "edges_moved": merged.edges_moved,
    }
    return json_answer({"status": "success", "merge": shown})


async def audit_entities(request: web.Request) -> web.Response:
    query = request.query
    short = flag(query, "summary", default=False)
    compare = flag(query, "include_merge_candidates", default=False) or not short
    limit = integer(query, "limit", default=100, least=0, most=MAX_LISTED)
    offset = integer(query, "offset", default=0, least=0, most=COMPARED_ENTITIES)
    audit = await request.app[ENTITIES].audit(request[TENANT], compare=compare)
    body = audit_json(
        audit,
        text(query, "category"),
        text(query, "reason"),
        slice(offset, offset + limit),
        short=short,
    )
    paging = {"limit": limit, "offset": offset, "merge_candidates_skipped": not compare}
    return json_answer(body | paging)


def audit_json(
    audit: Audit, category: str | None, reason: str | None, page: slice, *, short: bool
) -> dict[str, Any]:
    """A dry run's report; `category` and `reason` choose the rows, the counts are of all."""
    sound = [
        {
            "id": each.id,
            "category": each.category,
            "slug": each.slug,
            "name": each.name,
            "source_tags": [each.id],
            "references": each.references,
            "confidence": 1.0,
        }
        for each in audit.sound
        if reason is None and category in (None, each.category)
    ]
    flawed = [
        {
            "tag": each.entity.id,
            "category": each.entity.category,
            "slug": each.entity.slug,
            "reason": each.reason,
            "references": each.entity.references,
        }
        for each in audit.flawed
        if category in (None, each.entity.category) and reason in (None, each.reason)
    ]
    names = ("accepted_sample", "rejected_sample") if short else ("accepted", "rejected_entities")
    return {
        "status": "success",
        "dry_run": True,
        names[0]: sound[page],
        names[1]: flawed[page],
        "merge_candidates": [candidate_json(candidate) for candidate in audit.candidates],
        "counts": _counts(audit, len(sound), len(flawed)),
        "counts_by_reason": dict(sorted(Counter(each.reason for each in audit.flawed).items())),
        "counts_by_category": _by_category(audit),
        "summary": short,
    }


def _counts(audit: Audit, sound: int, flawed: int) -> dict[str, int]:
    automatic = sum(candidate.auto_merge for candidate in audit.candidates)
    return {
        "accepted_entities": sound,
        "rejected_entities": flawed,
        "accepted_total_unfiltered": len(audit.sound),
        "rejected_total_unfiltered": len(audit.flawed),
        "merge_candidates": len(audit.candidates),
        "auto_merge_candidates": automatic,
        "review_merge_candidates": len(audit.candidates) - automatic,
    }


def _by_category(audit: Audit) -> Mapping[str, Mapping[str, int]]:
    sound = Counter(each.category for each in audit.sound)
    flawed = Counter(each.entity.category for each in audit.flawed)
    return {
        name: {"accepted": sound[name], "rejected": flawed[name]} for name in sorted(sound | flawed)
    }


_CATEGORY = Param("category", {"type": "string"}, "Only entities of this category")
_LISTED = {"type": "integer", "default": 100, "minimum": 1, "maximum": MAX_LISTED}
ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/entities",
        list_entities,
        "Entities by the number of memories that name them",
        query=(_CATEGORY, Param("limit", _LISTED, "Clamped")),
        group="entities",
    ),
    # Before /entity/{slug}: these two are paths of their own.
    Route(
        "GET",
        "/entities/merge-candidates",
        merge_candidates,
        "Entities that may be the same",
        query=(_CATEGORY,),
        group="entities",
    ),
    Route(
        "GET",
        "/entities/audit",
        audit_entities,
        "A dry run over all entities: which deserve a look, and why",
        scope="admin",
        query=(
            Param("summary", {"type": "boolean", "default": False}),
            Param("include_merge_candidates", {"type": "boolean"}, "Default: unless summary"),
            Param("limit", {"type": "integer", "default": 100, "maximum": MAX_LISTED}, "Clamped"),
            Param("offset", {"type": "integer", "default": 0}, "Clamped"),
            _CATEGORY,
            Param("reason", {"type": "string"}, "Only entities refused for this reason"),
        ),
        group="entities",
    ),
    Route(
        "GET",
        "/entity/{slug}",
        get_entity,
        "One entity by slug, alias or id",
        answers={200: "Success", 404: "No such entity"},
        group="entities",
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
    ),
)
