"""What /graph answers, and the colors of types and relations in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from services.api.http.answers import Absent, Answer, attribute
from services.api.memory.answers import MemoryAnswer
from shared.domain.memory import FALLBACK_TYPE, iso
from shared.graph.memory.views import Edge

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


class EdgeAnswer(Answer):
    """An edge between two memories, with its properties."""

    id: str
    source: str
    target: str
    type: str
    strength: float
    color: str
    properties: dict[str, Any]

    @classmethod
    def of(cls, edge: Edge) -> EdgeAnswer:
        properties = dict(edge.properties)
        if isinstance(properties.get("updated_at"), int):
            properties["updated_at"] = iso(properties["updated_at"])
        return cls(
            id=f"{edge.source}-{edge.type}-{edge.target}",
            source=edge.source,
            target=edge.target,
            type=edge.type,
            strength=edge.strength,
            color=RELATION_COLORS.get(edge.type, _OTHER_COLOR),
            properties=properties,
        )


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
