"""Relations between memories: POST /associate authors them, GET /memories/{id}/related walks them.

The same relation again updates the one edge, so a repeated POST does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from aiohttp import web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.api.http.answers import Absent, Answer, Id, Success, Time, Unit, json_answer
from services.api.http.body import read_json, required, validate
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, integer, texts
from services.api.http.route import Routes
from services.api.memory.idempotency import IDEMPOTENCY
from services.api.memory.requests import BATCH_ROWS, Ratio
from services.api.memory.service import check_id
from shared.domain.memory import check_text
from shared.domain.relations import AUTHORED
from shared.errors import InvalidInput, NotFound
from shared.graph.memory.links import MAX_DEPTH, RELATION_PROPERTIES, Association, Links, Value
from shared.graph.store import GraphStore

_DEFAULT_STRENGTH = 0.5
_MAX_VALUE_CHARS = 2000
# Beyond it a number is no longer exact in JSON, nor in the graph's clients.
_MAX_NUMBER = 2**53
_ENDS = ("memory1_id", "memory2_id")
_MISSING = "One or both memories do not exist"
GRAPH: web.AppKey[GraphStore] = web.AppKey("graph", GraphStore)


def _end(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("'memory1_id' and 'memory2_id' are required")
    return check_id(value.strip())


def _kind(value: object) -> str:
    kind = value.strip().upper() if isinstance(value, str) else value
    if kind not in AUTHORED:
        raise InvalidInput(f"Relation type must be one of {sorted(AUTHORED)}")
    return str(kind)


_End = Annotated[str, BeforeValidator(_end), WithJsonSchema({"type": "string", "format": "uuid"})]
_Kind = Annotated[
    str,
    BeforeValidator(_kind),
    WithJsonSchema({"type": "string", "enum": sorted(AUTHORED), "description": "In any case"}),
]


class AssociationIn(BaseModel):
    """One relation; besides these keys, the properties of its type (reason, context …)."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=required(*_ENDS))

    memory1_id: _End = Field("", validate_default=True)
    memory2_id: _End = Field("", validate_default=True)
    type: _Kind = "RELATES_TO"
    strength: Ratio = _DEFAULT_STRENGTH


class AssociateIn(BaseModel):
    """POST /associate: one relation, or `associations` with up to 500."""

    model_config = ConfigDict(extra="allow", frozen=True)

    memory1_id: _End | None = None
    memory2_id: _End | None = None
    type: _Kind = "RELATES_TO"
    strength: float = Field(_DEFAULT_STRENGTH, ge=0, le=1)
    associations: list[AssociationIn] | None = Field(None, min_length=1, max_length=BATCH_ROWS)


class _StrengthIn(BaseModel):
    strength: Ratio = None


class AssociatedAnswer(Success):
    """One relation, with its properties."""

    model_config = ConfigDict(extra="allow")

    message: str
    memory1_id: Id
    memory2_id: Id
    relation_type: str
    strength: Unit


class MadeAssociationAnswer(Answer):
    """A relation that exists now; `index` is its place in the request."""

    index: int
    memory1_id: Id
    memory2_id: Id
    relation_type: str
    strength: Unit


class FailedAssociationAnswer(Answer):
    """One that failed."""

    index: int
    reason: str


class AssociatedManyAnswer(Answer):
    """Many relations."""

    status: Literal["success", "partial_success"]
    message: str
    created_count: int
    failed_count: int
    succeeded: list[MadeAssociationAnswer]
    failed: list[FailedAssociationAnswer]
    summary: str


def parse_association(item: object) -> Association:
    """Raises: InvalidInput."""
    given = validate(AssociationIn, item)
    if given.memory1_id == given.memory2_id:
        raise InvalidInput("Cannot associate a memory with itself")
    strength = _DEFAULT_STRENGTH if given.strength is None else given.strength
    extra = given.model_extra or {}  # without `strength`, which is a field of its own
    properties: dict[str, Value] = {"strength": strength}
    for name in RELATION_PROPERTIES[given.type]:
        if (value := extra.get(name)) is not None:
            properties[name] = _value(name, value)
    return Association(given.memory1_id, given.memory2_id, given.type, properties)


def _value(name: str, value: object) -> Value:
    if isinstance(value, str) and len(value) <= _MAX_VALUE_CHARS:
        return check_text(value, f"'{name}'")
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _MAX_NUMBER:
        return value
    raise InvalidInput(
        f"'{name}' must be a number, a boolean or a text of at most {_MAX_VALUE_CHARS} characters"
    )


def parse_associations(
    items: object,
) -> tuple[dict[int, Association], list[FailedAssociationAnswer]]:
    """Return the valid relations by index, and the errors of the others.

    Raises: InvalidInput for the array itself, and for any strength out of range.
    """
    if not isinstance(items, list) or not items:
        raise InvalidInput("'associations' must be a non-empty array")
    if len(items) > BATCH_ROWS:
        raise InvalidInput(f"Batch size limit is {BATCH_ROWS} associations per request")
    rows: dict[int, Association] = {}
    failed: list[FailedAssociationAnswer] = []
    for index, item in enumerate(items):
        if isinstance(item, dict):
            validate(_StrengthIn, item)
        try:
            _check_ends(item)
            rows[index] = parse_association(item)
        except InvalidInput as error:
            failed.append(FailedAssociationAnswer(index=index, reason=str(error)))
    return rows, failed


def _check_ends(item: object) -> None:
    """Raise InvalidInput for an end that is not a UUID, as AutoMem does for batches only."""
    if not isinstance(item, dict):
        raise InvalidInput("An association must be an object")
    for name in _ENDS:
        try:
            if isinstance(end := item.get(name), str) and end.strip():
                check_id(end.strip())  # a missing end has a message about both
        except InvalidInput as error:
            raise InvalidInput(f"'{name}' must be a valid UUID") from error


ROUTES = Routes(group="relations")


@ROUTES.add(
    "POST",
    "/associate",
    "Relate memories to each other",
    scope="write",
    body=AssociateIn,
    answers={
        201: "All relations exist now",
        207: "Some do; `failed` names the others",
        404: "The one relation lacks an end",
    },
    returns=AssociatedAnswer | AssociatedManyAnswer,
    repeatable=True,
)
async def associate(request: web.Request) -> web.StreamResponse:
    given = await read_json(request)
    body = given.members()
    links, tenant = request.app[GRAPH].links, request[TENANT]
    run_once = request.app[IDEMPOTENCY].run_once
    many = body.get("associations")
    if isinstance(many, list) or ("associations" in body and body.keys().isdisjoint(_ENDS)):
        rows, refused = parse_associations(many)
        return await run_once(request, given, lambda: _store_many(links, tenant, rows, refused))
    row = parse_association(body)
    return await run_once(request, given, lambda: _store_one(links, tenant, row))


async def _store_one(links: Links, tenant: str, row: Association) -> tuple[int, Answer]:
    """Raises: NotFound where an end is missing."""
    if not (await links.associate_many(tenant, [row]))[0]:
        raise NotFound(_MISSING)
    message = f"Association created between {row.from_id} and {row.to_id}"
    return 201, AssociatedAnswer(**row.properties, message=message, **_ends(row))


def _ends(row: Association) -> dict[str, str]:
    return {"memory1_id": row.from_id, "memory2_id": row.to_id, "relation_type": row.type}


async def _store_many(
    links: Links,
    tenant: str,
    rows: Mapping[int, Association],
    failed: list[FailedAssociationAnswer],
) -> tuple[int, Answer]:
    """Store the valid relations, with a query per type; relations that lack an end fail too."""
    exist = await links.associate_many(tenant, list(rows.values()))
    made: list[MadeAssociationAnswer] = []
    for (index, row), exists in zip(rows.items(), exist, strict=True):
        if exists:
            strength = row.properties["strength"]
            made.append(MadeAssociationAnswer(index=index, strength=strength, **_ends(row)))
        else:
            failed.append(FailedAssociationAnswer(index=index, reason=_MISSING))
    summary = f"{len(made)}/{len(made) + len(failed)} associations created successfully"
    return 207 if failed else 201, AssociatedManyAnswer(
        status="partial_success" if failed else "success",
        message=summary,
        created_count=len(made),
        failed_count=len(failed),
        succeeded=made,
        failed=sorted(failed, key=lambda failure: failure.index),
        summary=summary,
    )


# -- related memories ----------------------------------------------------------------

# Followed only where a request names them.
OPT_IN = ("SIMILAR_TO", "PRECEDED_BY", "DISCOVERED")
_CONTENT_CHARS = 160
_RELATION_TYPES = texts(
    "relationship_types", f"Of {', '.join((*AUTHORED, *OPT_IN))}", repeated=False, commas=True
)
_MAX_DEPTH = integer("max_depth", "How many relations away", default=1, least=1, most=MAX_DEPTH)
_LIMIT = integer("limit", "Most memories", default=5, least=1, most=200)


def _preview(content: str) -> str:
    return content if len(content) <= _CONTENT_CHARS else content[: _CONTENT_CHARS - 1] + "…"


_Preview = Annotated[str, AfterValidator(_preview)]


class RelatedMemoryAnswer(Answer):
    """A related memory: its summary, else the beginning of its content."""

    id: Id
    type: str
    timestamp: Time
    importance: Unit
    confidence: Unit
    tags: tuple[str, ...]
    summary: Absent[str] = None
    content: Absent[_Preview] = None


class RelatedAnswer(Success):
    """Related memories in short."""

    memory_id: str
    count: int
    related_memories: list[RelatedMemoryAnswer]
    relationship_types: tuple[str, ...]
    max_depth: int
    limit: int


@ROUTES.add(
    "GET",
    "/memories/{memory_id}/related",
    "What a memory is related to",
    query=(_RELATION_TYPES, _MAX_DEPTH, _LIMIT),
    returns=RelatedAnswer,
)
async def related_memories(request: web.Request) -> web.Response:
    query = Query.of(request)
    memory_id = check_text(request.match_info["memory_id"], "memory_id")
    types = _relation_types(query[_RELATION_TYPES])
    depth, limit = query[_MAX_DEPTH], query[_LIMIT]
    found = await request.app[GRAPH].links.related(
        request[TENANT], memory_id.lower(), types=types, depth=depth, limit=limit
    )
    answer = {
        "memory_id": memory_id,
        "count": len(found),
        "related_memories": found,
        "relationship_types": types,
        "max_depth": depth,
        "limit": limit,
    }
    return json_answer(RelatedAnswer.model_validate(answer))


def _relation_types(named: tuple[str, ...]) -> tuple[str, ...]:
    """Return the known types among `named`; without any, those that clients author."""
    upper = (name.upper() for name in named)
    known = dict.fromkeys(name for name in upper if name in AUTHORED or name in OPT_IN)
    return tuple(known) or AUTHORED
