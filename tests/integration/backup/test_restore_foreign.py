"""`restore` of files that are not our own: AutoMem's, and those with rows that are broken."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.api.memory.metadata import terms
from shared.config import GraphSettings
from shared.graph.store import GraphStore
from tests.support.stores.backing_up import OTHER, restored
from tests.support.stores.graphs import cypher


def _automem(nodes: list[dict[str, Any]], links: list[dict[str, Any]]) -> bytes:
    body = {
        "timestamp": "2026-01-01T00:00:00+00:00",
        "graph_name": "memories",
        "nodes": nodes,
        "relationships": links,
        "stats": {"node_count": len(nodes), "relationship_count": len(links)},
    }
    inner = gzip.compress(json.dumps(body, indent=2).encode())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("falkordb/falkordb_20260101_000000.json.gz")
        entry.size = len(inner)
        archive.addfile(entry, io.BytesIO(inner))
    return out.getvalue()


async def test_automems_own_backup_can_be_read(
    store: GraphStore, settings: GraphSettings, tmp_path: Path
) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    old = {
        "id": ids[0].upper(),
        "content": "Use Redis",
        "tags": ["Proj/Alpha", "entity:tools:redis"],
        "tag_prefixes": ["proj"],
        "importance": 0.8,
        "confidence": 0.9,
        "type": "Decision",
        "timestamp": "2025-03-01T10:00:00+02:00",
        "updated_at": "2025-03-02T10:00:00+00:00",
        "last_accessed": "2025-03-03T10:00:00Z",
        "t_invalid": "2030-01-01T00:00:00+00:00",
        "metadata": json.dumps(
            {"session_id": "s1", "enrichment": {"last_run": "x"}, "repo": "falcon"}
        ),
        "processed": True,
        "relevance_score": 0.4,
        "some_key_of_theirs": 7,
    }
    nodes = [
        {"id": 10, "labels": ["Memory"], "properties": old},
        {"id": 11, "labels": ["Memory"], "properties": {"id": ids[1], "content": "bare"}},
        {"id": 12, "labels": ["Memory"], "properties": {"id": "meta-1", "content": "x"}},
        {"id": 13, "labels": ["Memory"], "properties": {"id": ids[2], "content": "a\0b"}},
        {"id": 14, "labels": ["ConsolidationRun"], "properties": {"id": "r"}},
        {
            "id": 15,
            "labels": ["Entity"],
            "properties": {
                "id": "entity:tools:redis",
                "slug": "redis",
                "category": "tools",
                "name": "Redis",
                "created_at": "2025-01-01T00:00:00+00:00",
                "odd key": 1,
            },
        },
    ]

    def link(source: int, kind: str, target: int, **properties: Any) -> dict[str, Any]:
        named = {"source_id": source, "target_id": target, "type": kind}
        return named | {"properties": properties}

    links = [
        link(10, "LEADS_TO", 11, strength=0.7, updated_at="2025-03-01T00:00:00+00:00"),
        link(11, "EXPLAINS", 10, confidence=0.6),
        link(10, "HACKED]->() DETACH DELETE x //", 11),
        link(15, "REFERENCED_IN", 10),
        link(10, "RELATES_TO", 12),
    ]
    report = await restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.nodes_created, report.relations) == (2, 1, 3)
    assert dict(report.refused) == {
        "node: id is no UUID": 1,
        "node: content must not contain NUL characters": 1,
        "node ConsolidationRun": 1,
        "relation HACKED]->() DETACH DELETE x //": 1,
        "relation of a node that is not restored": 1,
    }
    found = await store.memories.hydrate(OTHER, ids, relation_limit=10)
    memory = found[ids[0]].memory
    assert memory.timestamp == 1_740_816_000_000
    assert (memory.type, memory.importance, memory.confidence) == ("Decision", 0.8, 0.9)
    assert memory.tags == ("Proj/Alpha", "entity:tools:redis")
    assert (memory.session_id, memory.metadata) == ("s1", {"session_id": "s1", "repo": "falcon"})
    assert memory.t_invalid == 1_893_456_000_000
    assert memory.meta_terms == terms(memory.metadata) != (), "AutoMem has none"
    assert not memory.enriched
    assert [(r.type, r.strength) for r in found[ids[0]].relations] == [("LEADS_TO", 0.7)]
    [legacy] = found[ids[1]].relations
    assert (legacy.type, legacy.kind, legacy.strength) == ("DISCOVERED", "explains", 0.6)
    assert found[ids[1]].memory.timestamp > 0
    again = await restored(store, _automem(nodes, links), tmp_path)
    assert (again.memories_created, again.memories_kept) == (0, 2)
    keys = await cypher(settings, "CALL db.propertyKeys()", OTHER)
    assert not {"some_key_of_theirs", "odd key"} & {row[0] for row in keys}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"properties": {"timestamp": 99999999999999999999}}, "timestamp is no time"),
        ({"properties": {"t_invalid": 253_370_764_800_000}}, "t_invalid is no time"),
        ({"properties": {"archived_at": "soon"}}, "archived_at is no time"),
        ({"properties": {"version": "new"}}, "version is no version"),
        ({"properties": {"version": 1 << 63}}, "version is no version"),
        ({"properties": {"tags": 5}}, "tags are no list of texts"),
        ({"properties": {"meta_terms": [["x"]]}}, "meta_terms are no list of texts"),
        ({"properties": {"speaker": ["Ada"]}}, "speaker is no text"),
        ({"properties": {"summary": "a\0b"}}, "summary must not contain NUL characters"),
        ({"properties": {"relevance_score": "high"}}, "relevance_score is no number"),
        ({"properties": {"importance": 10**400}}, "importance is no number"),
        ({"properties": {"metadata": "[" * 100_000}}, "metadata is nested too deeply"),
        ({"properties": [1]}, "properties are no object"),
        ({"labels": 5}, "labels are no list"),
        ({"id": [1]}, "without an id of the backup"),
        ({"labels": ["Entity"], "properties": {"id": " x"}}, None),
        ({"labels": ["Entity"], "properties": {"aliases": 5}}, None),
        ({"labels": ["Entity"], "properties": {"created_at": 1 << 63}}, "created_at is no time"),
    ],
)
async def test_a_broken_row_is_refused_and_the_othersrestored(
    store: GraphStore, tmp_path: Path, broken: dict[str, Any], reason: str | None
) -> None:
    """None of these ended in anything but a traceback, or in 500 when it was read again."""
    sound = {"id": str(uuid4()), "content": "sound"}
    row: dict[str, Any] = {"id": 1, "labels": ["Memory"], "properties": {}} | broken
    if isinstance(row["properties"], dict):
        row["properties"] = {"id": str(uuid4()), "content": "broken"} | row["properties"]
    nodes = [row, {"id": 2, "labels": ["Memory"], "properties": sound}]
    links = [{"source_id": [1], "target_id": 2, "type": "RELATES_TO", "properties": 5}]
    report = await restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.nodes_created) == (1, 0)
    assert report.refused.pop("relation of a node that is not restored") == 1
    [(refusal, count)] = report.refused.items()
    assert count == 1
    assert reason is None or refusal == f"node: {reason}"
    assert list(await store.memories.get(OTHER, [sound["id"]])) == [sound["id"]]


async def test_what_a_row_has_beside_is_mended(
    store: GraphStore, settings: GraphSettings, tmp_path: Path
) -> None:
    """A lone tag is a list, an unreadable vector is made anew, an edge's odd time is left out."""
    ids = [str(uuid4()), str(uuid4())]
    odd = {"id": ids[0], "content": "x", "tags": "lone"}
    odd |= {"embedding": "no base64!", "embedding_model": "m"}
    nodes = [
        {"id": 1, "labels": ["Memory"], "properties": odd},
        {"id": 2, "labels": ["Memory"], "properties": {"id": ids[1], "content": "y"}},
    ]
    properties = {"strength": 0.5, "updated_at": 99999999999999999999, "count": 1 << 70}
    links = [{"source_id": 1, "target_id": 2, "type": "RELATES_TO", "properties": properties}]
    report = await restored(store, _automem(nodes, links), tmp_path)
    assert (report.memories_created, report.relations, report.refused) == (2, 1, {})
    assert (await store.memories.get(OTHER, ids))[ids[0]].tags == ("lone",)
    assert ids[0] not in await store.memories.embeddings(OTHER, ids)
    edges = await cypher(
        settings,
        "MATCH (:Memory)-[r:RELATES_TO]->(:Memory) RETURN r.strength, r.updated_at, r.count",
        OTHER,
    )
    assert edges == [["0.5", None, None]]
