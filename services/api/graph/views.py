"""/graph/*: the memories and their edges as a picture, for viewers and dashboards.

The answers are AutoMem's (no `status` key). A snapshot is read in pages; at most two are read
at a time, so that viewers leave room for the requests of agents.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator, Field
from pydantic_core import to_json

from services.api.http.answers import Absent, Answer, attribute, json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import SETTINGS, Query, flag, integer, moment, number, texts
from services.api.http.route import Routes
from services.api.memory.answers import MemoryAnswer
from services.api.memory.handlers import ms_since
from shared.domain.memory import TYPES, check_text, iso, now_ms
from shared.domain.relations import RELATIONS
from shared.errors import NotFound, TransientError
from shared.graph.memory.views import NodeFilter
from shared.graph.store import GraphStore
from shared.vectors import VectorStore

MAX_NODES = 50_000
MAX_EDGES = 200_000
MAX_NEIGHBOURS = 100
MAX_SEMANTIC = 20
_AT_ONCE = 2
_PAGE = 500
_DAY_MS = 86_400_000
_ACTIVITY_DAYS = 7
# What clients may name; DISCOVERED and the edges of other nodes are the workers' own.
PUBLIC_RELATIONS = tuple(
    kind for kind in RELATIONS if kind not in ("DISCOVERED", "REFERENCED_IN", "SUMMARIZES")
)

_COLORS = json.loads(Path(__file__).with_name("colors.json").read_bytes())
TYPE_COLORS: Mapping[str, str] = _COLORS["types"]
RELATION_COLORS: Mapping[str, str] = _COLORS["relations"]
_OTHER_COLOR: str = _COLORS["other"]
_Color = Annotated[str, BeforeValidator(lambda type_: TYPE_COLORS.get(type_, _OTHER_COLOR))]
_Radius = Annotated[float, BeforeValidator(lambda importance: round(0.5 + 1.5 * importance, 4))]
_Opacity = Annotated[float, BeforeValidator(lambda confidence: round(0.4 + 0.6 * confidence, 4))]
_LeftOut = Annotated[Any, Field(exclude=True)]


class CenterAnswer(MemoryAnswer):
    """A memory with how it is drawn."""

    color: _Color = attribute("type")
    radius: _Radius = attribute("importance")
    opacity: _Opacity = attribute("confidence")


class NodeAnswer(CenterAnswer):
    """A memory in a picture, without what only its clients read."""

    memory_id: _LeftOut = None
    tag_prefixes: _LeftOut = None
    last_accessed: _LeftOut = None
    version: _LeftOut = None
    processed: _LeftOut = None
    similarity: Absent[float] = None


def _shown_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    at = properties.get("updated_at")
    return {**properties, "updated_at": iso(at)} if isinstance(at, int) else dict(properties)


class EdgeAnswer(Answer):
    """An edge between two memories, with its properties."""

    id: str
    source: str
    target: str
    type: str
    strength: float
    color: str
    properties: Annotated[dict[str, Any], BeforeValidator(_shown_properties)]


class MetaAnswer(Answer):
    """How a picture is drawn, and how long it took."""

    type_colors: Mapping[str, str] = TYPE_COLORS
    relation_colors: Mapping[str, str] = RELATION_COLORS
    query_time_ms: float
    archive_threshold: float


class SnapshotStatsAnswer(Answer):
    """How much of the graph a snapshot shows."""

    total_nodes: int
    total_edges: int
    returned_nodes: int
    returned_edges: int
    sampled: bool
    sample_ratio: float
    edges_truncated: bool


class SnapshotTail(Answer):
    """What follows the nodes and edges of a snapshot, which are encoded page by page."""

    stats: SnapshotStatsAnswer
    meta: MetaAnswer


class SnapshotAnswer(SnapshotTail):
    """The most important memories and the edges between them."""

    nodes: list[NodeAnswer]
    edges: list[EdgeAnswer]


class NeighborsMetaAnswer(Answer):
    """`degraded` names the stores or channels that could not be searched."""

    depth: int
    query_time_ms: float = 0.0
    degraded: Absent[tuple[str, ...]] = None


class NeighborsAnswer(Answer):
    """A memory and its neighbours."""

    center: CenterAnswer
    graph_neighbors: list[NodeAnswer]
    semantic_neighbors: list[NodeAnswer]
    edges: list[EdgeAnswer]
    meta: NeighborsMetaAnswer


class DayAnswer(Answer):
    """How many memories have a timestamp of one day (UTC)."""

    date: str
    count: int


class GraphStatsAnswer(Answer):
    """Counts over all memories and edges."""

    totals: dict[str, int]
    by_type: Mapping[str, int]
    by_relationship: dict[str, int]
    importance_distribution: Mapping[str, int]
    recent_activity: list[DayAnswer]
    meta: MetaAnswer


class TypesAnswer(Answer):
    """The memory types and their colors."""

    types: Sequence[str]
    colors: Mapping[str, str] = TYPE_COLORS


class RelationsAnswer(Answer):
    """The relation types that clients may name, and all colors."""

    relations: Sequence[str]
    colors: Mapping[str, str] = RELATION_COLORS


@dataclass(frozen=True, slots=True)
class GraphViews:
    """Use cases of /graph; each makes a bounded number of store calls per page read.

    Memories of the `hidden` types are not shown, unless a request names their type.
    """

    graph: GraphStore
    vectors: VectorStore
    hidden: tuple[str, ...]
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def snapshot(
        self, tenant: str, chosen: NodeFilter
    ) -> tuple[bytes, bytes, SnapshotStatsAnswer]:
        """Return the nodes and the edges as JSON arrays (they may be large), and their counts."""
        async with self._turns:
            ids = await self.graph.views.strongest(tenant, chosen, hidden=self.hidden)
            shown_ids, nodes = await self._nodes(tenant, ids)
            edges = await self.graph.views.edges(tenant, shown_ids, most=MAX_EDGES)
            by_type = await self.graph.views.edges_by_type(tenant, hidden=self.hidden)
            total_nodes = await self.graph.views.nodes(tenant, hidden=self.hidden)
            stats = SnapshotStatsAnswer(
                total_nodes=total_nodes,
                total_edges=sum(by_type.values()),
                returned_nodes=len(shown_ids),
                returned_edges=len(edges),
                sampled=len(shown_ids) < total_nodes,
                sample_ratio=len(shown_ids) / max(1, total_nodes),
                edges_truncated=len(edges) >= MAX_EDGES,
            )
            return nodes, await _encoded(edges), stats

    async def _nodes(self, tenant: str, ids: Sequence[str]) -> tuple[list[str], bytes]:
        """Return the ids that still exist, and their nodes as one JSON array."""
        nodes: dict[str, bytes] = {}
        for at in range(0, len(ids), _PAGE):
            page = ids[at : at + _PAGE]
            found = await self.graph.memories.get(tenant, page)
            memories = [found[memory_id] for memory_id in page if memory_id in found]
            nodes |= {each.id: to_json(NodeAnswer.model_validate(each)) for each in memories}
        return list(nodes), b"[" + b",".join(nodes.values()) + b"]"

    async def neighbourhood(
        self, tenant: str, memory_id: str, *, depth: int, semantic: int
    ) -> NeighborsAnswer:
        """Return what lies around one memory, by edges and (`semantic` > 0) by meaning.

        Without vectors `meta.degraded` says so. Raises: NotFound.
        """
        ids = await self.graph.views.reach(
            tenant, memory_id, depth=depth, limit=MAX_NEIGHBOURS, hidden=self.hidden
        )
        scores, degraded = await self._similar(tenant, memory_id, len(ids) + semantic, semantic)
        scores = {key: scores[key] for key in scores if key not in {memory_id, *ids}}
        found = await self.graph.memories.get(tenant, [memory_id, *ids, *scores])
        if memory_id not in found:
            raise NotFound(f"Memory {memory_id} not found")
        nodes = {key: NodeAnswer.model_validate(memory) for key, memory in found.items()}
        for key, score in scores.items():
            if key in nodes:
                nodes[key].similarity = round(score, 4)
        similar = [
            nodes[key] for key in scores if key in found and found[key].type not in self.hidden
        ]
        edges = await self.graph.views.edges(tenant, [memory_id, *ids], most=MAX_EDGES)
        return NeighborsAnswer(
            center=CenterAnswer.model_validate(found[memory_id]),
            graph_neighbors=[nodes[key] for key in ids if key in nodes],
            semantic_neighbors=similar[:semantic],
            edges=list(map(_edge, edges)),
            meta=NeighborsMetaAnswer(depth=depth, degraded=degraded or None),
        )

    async def _similar(
        self, tenant: str, memory_id: str, fetch: int, semantic: int
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return scores by id, the most similar first, and what is degraded."""
        if not semantic or not _is_uuid(memory_id):
            return {}, ()
        try:
            found = await self.vectors.neighbours(tenant, [memory_id], limit=fetch, threshold=-1)
        except TransientError:
            return {}, ("vector",)
        return {hit.id: hit.score for hit in found.get(memory_id, ())}, ()

    async def stats(self, tenant: str) -> dict[str, Any]:
        """Return what GraphStatsAnswer holds but for `meta`."""
        async with self._turns:
            by_type, by_importance = await self.graph.views.distribution(tenant, hidden=self.hidden)
            by_relation = await self.graph.views.edges_by_type(tenant, hidden=self.hidden)
            totals = {"nodes": sum(by_type.values()), "edges": sum(by_relation.values())}
            return {
                "totals": totals,
                "by_type": by_type,
                "by_relationship": by_relation,
                "importance_distribution": by_importance,
                "recent_activity": await self._activity(tenant, now_ms()),
            }

    async def _activity(self, tenant: str, at_ms: int) -> list[DayAnswer]:
        """Count the last seven UTC days, newest first; days without a memory are left out."""
        today = at_ms - at_ms % _DAY_MS
        days: list[DayAnswer] = []
        for start in range(today, today - _ACTIVITY_DAYS * _DAY_MS, -_DAY_MS):
            count = await self.graph.views.between(
                tenant, start, start + _DAY_MS, hidden=self.hidden
            )
            if count:
                days.append(DayAnswer(date=(iso(start) or "")[:10], count=count))
        return days


def _edge(row: Mapping[str, Any]) -> EdgeAnswer:
    edge_id = "-".join((row["source"], row["type"], row["target"]))
    return EdgeAnswer(id=edge_id, color=RELATION_COLORS.get(row["type"], _OTHER_COLOR), **row)


async def _encoded(edges: Sequence[Mapping[str, Any]]) -> bytes:
    """Return one JSON array; other requests get their turn between pages."""
    rows: list[bytes] = []
    for at in range(0, len(edges), _PAGE):
        rows += [to_json(_edge(edge)) for edge in edges[at : at + _PAGE]]
        await asyncio.sleep(0)
    return b"[" + b",".join(rows) + b"]"


def _is_uuid(text: str) -> bool:
    digits = text.replace("-", "").lower()
    return len(digits) == 32 and set(digits) <= set("0123456789abcdef")


GRAPH_VIEWS: web.AppKey[GraphViews] = web.AppKey("graph_views", GraphViews)
_LIMIT = integer(
    "limit",
    f"0 means all; never more than {MAX_NODES}, and less than 0 is refused",
    default=500,
    least=0,
    most=MAX_NODES,
    refusal="limit must be >= 0",
)
_MIN_IMPORTANCE = number("min_importance", "Only memories at least this important", default=0.0)
_TYPES = texts("types", "Only memories of these types", repeated=False, commas=True)
_SINCE = moment("since", "Only newer memories", complaint="'since'")
_DEPTH = integer("depth", "Edges to follow", default=1, least=1, most=3)
_INCLUDE_SEMANTIC = flag("include_semantic", "Also neighbours by meaning", default=True)
_SEMANTIC_LIMIT = integer(
    "semantic_limit", "Neighbours by meaning", default=5, least=0, most=MAX_SEMANTIC
)
ROUTES = Routes(group="graph")


@ROUTES.add(
    "GET",
    "/graph/snapshot",
    "The most important memories and the edges between them",
    query=(_LIMIT, _MIN_IMPORTANCE, _TYPES, _SINCE),
    returns=SnapshotAnswer,
)
async def snapshot(request: web.Request) -> web.Response:
    began = time.perf_counter()
    query = Query.of(request)
    nodes, edges, counts = await request.app[GRAPH_VIEWS].snapshot(
        request[TENANT],
        NodeFilter(
            limit=query[_LIMIT] or MAX_NODES,
            min_importance=query[_MIN_IMPORTANCE],
            types=query[_TYPES],
            since_ms=query[_SINCE],
        ),
    )
    tail = to_json(SnapshotTail(stats=counts, meta=_meta(request, began)))
    body = b'{"nodes":' + nodes + b',"edges":' + edges + b"," + tail[1:]
    return web.Response(body=body, content_type="application/json")


def _meta(request: web.Request, began: float) -> MetaAnswer:
    return MetaAnswer(
        query_time_ms=ms_since(began),
        archive_threshold=request.app[SETTINGS].consolidation.archive_threshold,
    )


@ROUTES.add(
    "GET",
    "/graph/neighbors/{memory_id}",
    "What lies around a memory, by edges and by meaning",
    query=(_DEPTH, _INCLUDE_SEMANTIC, _SEMANTIC_LIMIT),
    answers={200: "Success", 404: "No such memory"},
    returns=NeighborsAnswer,
)
async def neighbors(request: web.Request) -> web.Response:
    began = time.perf_counter()
    query = Query.of(request)
    found = await request.app[GRAPH_VIEWS].neighbourhood(
        request[TENANT],
        check_text(request.match_info["memory_id"], "memory_id"),
        depth=query[_DEPTH],
        semantic=query[_SEMANTIC_LIMIT] if query[_INCLUDE_SEMANTIC] else 0,
    )
    found.meta.query_time_ms = ms_since(began)
    return json_answer(found)


@ROUTES.add(
    "GET", "/graph/stats", "Counts by type, relation, importance and day", returns=GraphStatsAnswer
)
async def stats(request: web.Request) -> web.Response:
    began = time.perf_counter()
    found = await request.app[GRAPH_VIEWS].stats(request[TENANT])
    return json_answer(GraphStatsAnswer(**found, meta=_meta(request, began)))


@ROUTES.add("GET", "/graph/types", "Memory types and their colors", returns=TypesAnswer)
async def types(_request: web.Request) -> web.Response:
    return json_answer(TypesAnswer(types=TYPES))


@ROUTES.add("GET", "/graph/relations", "Relation types and their colors", returns=RelationsAnswer)
async def relations(_request: web.Request) -> web.Response:
    return json_answer(RelationsAnswer(relations=sorted(PUBLIC_RELATIONS)))
