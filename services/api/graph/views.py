"""/graph/*: the memories and their edges as a picture, for viewers and dashboards.

The shapes are AutoMem's (no `status` key). A picture is read in pages; at most two are read
at a time, so that viewers never crowd out the requests of agents.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.api.http.answers import json_answer, memory_json
from services.api.http.middleware import TENANT
from services.api.http.query import flag, integer, number, texts, when
from services.api.http.route import Param, Route
from shared.domain.memory import FALLBACK_TYPE, TYPES, Memory, check_text, iso, now_ms
from shared.domain.relations import RELATIONS
from shared.errors import InvalidInput, NotFound, TransientError
from shared.graph.memory.views import Edge, NodeFilter, Views
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
_OTHER_COLOR = "#9AA5B1"

TYPE_COLORS = {
    "Decision": "#2F6FDE",
    "Pattern": "#1F9E77",
    "Preference": "#8A4FD3",
    "Style": "#D6408A",
    "Habit": "#E0A100",
    "Insight": "#E8662A",
    "Context": "#5F6B7A",
    FALLBACK_TYPE: _OTHER_COLOR,
}
RELATION_COLORS = {
    "RELATES_TO": "#7A8CA3",
    "LEADS_TO": "#2F6FDE",
    "OCCURRED_BEFORE": "#6C7BD9",
    "PREFERS_OVER": "#8A4FD3",
    "EXEMPLIFIES": "#1F9E77",
    "CONTRADICTS": "#D7373F",
    "REINFORCES": "#3DA35D",
    "INVALIDATED_BY": "#B3392F",
    "EVOLVED_INTO": "#1298A6",
    "DERIVED_FROM": "#C9822B",
    "PART_OF": "#4D6A8F",
    "SIMILAR_TO": "#A9B4C2",
    "PRECEDED_BY": "#C2CBD6",
    "DISCOVERED": "#E8662A",
}
# What clients may name; DISCOVERED and the edges of other nodes are the workers' own.
PUBLIC_RELATIONS = tuple(
    kind for kind in RELATIONS if kind not in ("DISCOVERED", "REFERENCED_IN", "SUMMARIZES")
)


@dataclass(frozen=True, slots=True)
class Picture:
    """`nodes` and `edges` are JSON array texts: a large picture is encoded page by page."""

    nodes: bytes
    edges: bytes
    node_count: int
    edge_count: int
    total_nodes: int
    total_edges: int


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    center: Memory
    around: Sequence[Memory]
    similar: Sequence[tuple[Memory, float]]
    edges: Sequence[Edge]
    degraded: tuple[str, ...]


class GraphViews:
    """Use cases behind /graph; each makes a bounded number of store calls per page read."""

    def __init__(
        self, graph: GraphStore, vectors: VectorStore, *, hidden: Sequence[str], views: Views
    ) -> None:
        self._graph = graph
        self._views = views
        self._vectors = vectors
        self._hidden = tuple(hidden)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def snapshot(self, tenant: str, chosen: NodeFilter) -> Picture:
        async with self._turns:
            ids = await self._views.strongest(tenant, chosen)
            shown, nodes = await self._nodes(tenant, ids)
            edges = await self._views.edges(tenant, shown, most=MAX_EDGES)
            by_type = await self._views.edges_by_type(tenant, hidden=self._hidden)
            return Picture(
                nodes=nodes,
                edges=await _encoded([edge_json(edge) for edge in edges]),
                node_count=len(shown),
                edge_count=len(edges),
                total_nodes=await self._views.nodes(tenant, hidden=self._hidden),
                total_edges=sum(by_type.values()),
            )

    async def _nodes(self, tenant: str, ids: Sequence[str]) -> tuple[list[str], bytes]:
        """The ids that still exist, and their nodes as one JSON array."""
        shown: list[str] = []
        parts: list[bytes] = []
        for at in range(0, len(ids), _PAGE):
            page = ids[at : at + _PAGE]
            found = await self._graph.memories.get(tenant, page)
            kept = [found[memory_id] for memory_id in page if memory_id in found]
            shown += [memory.id for memory in kept]
            parts += [_json(node_json(memory)) for memory in kept]
        return shown, b"[" + b",".join(parts) + b"]"

    async def neighbourhood(
        self, tenant: str, memory_id: str, *, depth: int, semantic: int
    ) -> Neighbourhood:
        """What lies around one memory, by edges and (`semantic` > 0) by meaning.

        Raises: NotFound. Without vectors `degraded` says so and `similar` is empty.
        """
        ids = await self._views.reach(
            tenant, memory_id, depth=depth, limit=MAX_NEIGHBOURS, hidden=self._hidden
        )
        hits, degraded = await self._similar(tenant, memory_id, len(ids) + semantic, semantic)
        known = {memory_id, *ids}
        fresh = {key: score for key, score in hits if key not in known}
        found = await self._graph.memories.get(tenant, [memory_id, *ids, *fresh])
        if memory_id not in found:
            raise NotFound(f"Memory {memory_id} not found")
        similar = [
            (found[key], score)
            for key, score in fresh.items()
            if key in found and found[key].type not in self._hidden
        ]
        return Neighbourhood(
            found[memory_id],
            [found[key] for key in ids if key in found],
            similar[:semantic],
            await self._views.edges(tenant, [memory_id, *ids], most=MAX_EDGES),
            degraded,
        )

    async def _similar(
        self, tenant: str, memory_id: str, fetch: int, semantic: int
    ) -> tuple[list[tuple[str, float]], tuple[str, ...]]:
        if not semantic or not _is_uuid(memory_id):
            return [], ()
        try:
            found = await self._vectors.neighbours(tenant, [memory_id], limit=fetch, threshold=-1)
        except TransientError:
            return [], ("vector",)
        return [(hit.id, hit.score) for hit in found.get(memory_id, ())], ()

    async def stats(self, tenant: str) -> dict[str, Any]:
        async with self._turns:
            counted = await self._views.distribution(
                tenant, hidden=self._hidden, fallback=FALLBACK_TYPE
            )
            by_relation = await self._views.edges_by_type(tenant, hidden=self._hidden)
            return {
                "totals": {
                    "nodes": sum(counted.by_type.values()),
                    "edges": sum(by_relation.values()),
                },
                "by_type": dict(counted.by_type),
                "by_relationship": by_relation,
                "importance_distribution": dict(counted.by_importance),
                "recent_activity": await self._activity(tenant, now_ms()),
            }

    async def _activity(self, tenant: str, at_ms: int) -> list[dict[str, Any]]:
        """Memories per UTC day of the last seven, newest first; days without any are left out."""
        today = at_ms - at_ms % _DAY_MS
        starts = [today - back * _DAY_MS for back in range(_ACTIVITY_DAYS)]
        counts = [
            await self._views.between(tenant, start, start + _DAY_MS, hidden=self._hidden)
            for start in starts
        ]
        return [
            {"date": (iso(start) or "")[:10], "count": count}
            for start, count in zip(starts, counts, strict=True)
            if count
        ]


def node_json(memory: Memory) -> dict[str, Any]:
    shown = {
        name: value
        for name, value in memory_json(memory).items()
        if name not in ("memory_id", "tag_prefixes", "last_accessed", "version", "processed")
    }
    return shown | {
        "color": TYPE_COLORS.get(memory.type, _OTHER_COLOR),
        "radius": round(0.5 + 1.5 * memory.importance, 4),
        "opacity": round(0.4 + 0.6 * memory.confidence, 4),
    }


def edge_json(edge: Edge) -> dict[str, Any]:
    properties = dict(edge.properties)
    if isinstance(properties.get("updated_at"), int):
        properties["updated_at"] = iso(properties["updated_at"])
    return {
        "id": f"{edge.source}-{edge.type}-{edge.target}",
        "source": edge.source,
        "target": edge.target,
        "type": edge.type,
        "strength": edge.strength,
        "color": RELATION_COLORS.get(edge.type, _OTHER_COLOR),
        "properties": properties,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _encoded(rows: Sequence[object]) -> bytes:
    """One JSON array; other requests get their turn between pages."""
    parts: list[bytes] = []
    for at in range(0, len(rows), _PAGE):
        parts += map(_json, rows[at : at + _PAGE])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _is_uuid(text: str) -> bool:
    bare = text.replace("-", "")
    return len(bare) == 32 and all(each in "0123456789abcdefABCDEF" for each in bare)


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What the handlers need besides the use cases."""

    archive_threshold: float
    hidden: tuple[str, ...]


GRAPH_VIEWS: web.AppKey[GraphViews] = web.AppKey("graph_views", GraphViews)
VIEW_SETTINGS: web.AppKey[ViewSettings] = web.AppKey("graph_shown", ViewSettings)


async def snapshot(request: web.Request) -> web.Response:
    began = time.perf_counter()
    limit = integer(request.query, "limit", default=500, most=MAX_NODES)
    if limit < 0:
        raise InvalidInput("limit must be >= 0")
    picture = await request.app[GRAPH_VIEWS].snapshot(
        request[TENANT],
        NodeFilter(
            limit=limit or MAX_NODES,
            min_importance=number(request.query, "min_importance", default=0.0),
            types=texts(request.query, "types"),
            since_ms=when(request.query, "since"),
            hidden=request.app[VIEW_SETTINGS].hidden,
        ),
    )
    tail = _json({"stats": _stats(picture), "meta": _meta(request, began)})
    body = b'{"nodes":' + picture.nodes + b',"edges":' + picture.edges + b"," + tail[1:]
    return web.Response(body=body, content_type="application/json")


def _stats(picture: Picture) -> dict[str, Any]:
    return {
        "total_nodes": picture.total_nodes,
        "total_edges": picture.total_edges,
        "returned_nodes": picture.node_count,
        "returned_edges": picture.edge_count,
        "sampled": picture.node_count < picture.total_nodes,
        "sample_ratio": picture.node_count / max(1, picture.total_nodes),
        "edges_truncated": picture.edge_count >= MAX_EDGES,
    }


def _meta(request: web.Request, began: float) -> dict[str, Any]:
    return {
        "type_colors": TYPE_COLORS,
        "relation_colors": RELATION_COLORS,
        "query_time_ms": _ms_since(began),
        "archive_threshold": request.app[VIEW_SETTINGS].archive_threshold,
    }


async def neighbors(request: web.Request) -> web.Response:
    began = time.perf_counter()
    depth = integer(request.query, "depth", default=1, least=1, most=3)
    semantic = integer(request.query, "semantic_limit", default=5, least=0, most=MAX_SEMANTIC)
    found = await request.app[GRAPH_VIEWS].neighbourhood(
        request[TENANT],
        check_text(request.match_info["memory_id"], "memory_id"),
        depth=depth,
        semantic=semantic if flag(request.query, "include_semantic", default=True) else 0,
    )
    meta: dict[str, Any] = {"depth": depth, "query_time_ms": _ms_since(began)}
    if found.degraded:
        meta["degraded"] = list(found.degraded)
    return json_answer(neighbours_json(found) | {"meta": meta})


def neighbours_json(found: Neighbourhood) -> dict[str, Any]:
    return {
        "center": memory_json(found.center) | node_json(found.center),
        "graph_neighbors": [node_json(memory) for memory in found.around],
        "semantic_neighbors": [
            node_json(memory) | {"similarity": round(score, 4)} for memory, score in found.similar
        ],
        "edges": [edge_json(edge) for edge in found.edges],
    }


async def stats(request: web.Request) -> web.Response:
    began = time.perf_counter()
    found = await request.app[GRAPH_VIEWS].stats(request[TENANT])
    return json_answer(found | {"meta": _meta(request, began)})


async def types(_request: web.Request) -> web.Response:
    return json_answer({"types": list(TYPES), "colors": TYPE_COLORS})


async def relations(_request: web.Request) -> web.Response:
    return json_answer({"relations": sorted(PUBLIC_RELATIONS), "colors": RELATION_COLORS})


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def hidden_types(excluded: str) -> tuple[str, ...]:
    """RECALL_EXCLUDED_TYPES as names."""
    return tuple(_named(excluded.split(",")))


def _named(parts: Iterable[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]


_LIMIT = Param(
    "limit",
    {"type": "integer", "default": 500, "minimum": 0},
    f"0 means all; never more than {MAX_NODES}",
)
_UNIT = {"type": "number", "default": 0}
ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/graph/snapshot",
        snapshot,
        "The most important memories and the edges between them",
        query=(
            _LIMIT,
            Param("min_importance", _UNIT, "Only memories at least this important"),
            Param("types", {"type": "string"}, "Comma list of memory types"),
            Param("since", {"type": "string", "format": "date-time"}, "Only newer memories"),
        ),
        group="graph",
    ),
    Route(
        "GET",
        "/graph/neighbors/{memory_id}",
        neighbors,
        "What lies around a memory, by edges and by meaning",
        query=(
            Param("depth", {"type": "integer", "default": 1}, "Edges to follow, clamped to 1..3"),
            Param("include_semantic", {"type": "boolean", "default": True}),
            Param(
                "semantic_limit",
                {"type": "integer", "default": 5},
                f"Neighbours by meaning, clamped to 0..{MAX_SEMANTIC}",
            ),
        ),
        answers={200: "Success", 404: "No such memory"},
        group="graph",
    ),
    Route(
        "GET", "/graph/stats", stats, "Counts by type, relation, importance and day", group="graph"
    ),
    Route("GET", "/graph/types", types, "Memory types and their colors", group="graph"),
    Route("GET", "/graph/relations", relations, "Relation types and their colors", group="graph"),
)
