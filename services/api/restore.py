"""`python -m services.api restore FILE [--tenant T]`: read a backup back, ours or AutoMem's.

May be repeated, and run while the product is up: what the graph holds at the same or a newer
version stays. Vectors are made again from the texts (supplied ones come with their memory).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from services.api.archive import rows_of
from shared.errors import EunoeError, InvalidInput
from shared.graph.client import check_tenant
from shared.graph.nodes import PROPERTIES, memory_of
from shared.graph.restore import LABELS, Restore, Restored
from shared.graph.schema import RELATIONS
from shared.memory import (
    NEVER_MS,
    Derived,
    Memory,
    check_text,
    next_version,
    now_ms,
    parse_time,
    speaker_of,
)

BATCH = 500
_MEMBER = "falkordb"
# Edge labels of older AutoMem graphs: the same edge by today's name (spec 2.2).
_LEGACY = {
    "EXPLAINS": "explains",
    "SHARES_THEME": "shares_theme",
    "PARALLEL_CONTEXT": "parallel_context",
}
_TIMES = ("timestamp", "updated_at", "last_accessed", "t_valid", "t_invalid", "enriched_at")
_JSON = ("metadata", "entities", "enrichment")
_UNIT = ("importance", "confidence")


@dataclass(slots=True)
class Report:
    """What became of the file's rows; `refused` counts by reason."""

    memories_created: int = 0
    memories_updated: int = 0
    memories_kept: int = 0
    nodes_created: int = 0
    relations: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, Any]:
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        return counts | {"refused": dict(sorted(self.refused.items()))}


class Restorer:
    """Writes one backup's rows into one tenant's graph, in batches."""

    def __init__(self, store: Restore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self.report = Report()
        # The backup's own node id → what it is here; edges refer to it.
        self._known: dict[Any, tuple[str, str]] = {}

    async def restore(self, file: Path) -> Report:
        """Nodes first, then edges. Raises: InvalidInput, Unavailable; then run it again."""
        await self._each(rows_of(file, _MEMBER, "nodes"), self._nodes)
        await self._each(rows_of(file, _MEMBER, "relationships"), self._links)
        return self.report

    async def _each(self, rows: Iterator[tuple[str, Mapping[str, Any]]], take: Any) -> None:
        while batch := await asyncio.to_thread(_batch, rows):
            await take(batch)

    async def _nodes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        memories: list[Restored] = []
        others: dict[str, list[dict[str, Any]]] = defaultdict(list)
        now = now_ms()
        for row in rows:
            labels = row.get("labels") or []
            properties = row.get("properties") or {}
            try:
                if "Memory" in labels:
                    memories.append(restored(properties, now))
                    self._known[row.get("id")] = ("Memory", memories[-1].memory.id)
                    continue
                label = next(each for each in LABELS if each in labels)
                others[label].append(_plain(properties, now))
                self._known[row.get("id")] = (label, others[label][-1]["id"])
            except StopIteration:
                self.report.refused[f"node {labels[0] if labels else 'without label'}"] += 1
            except InvalidInput as error:
                self.report.refused[f"node: {error}"] += 1
        put = await self._store.memories(self._tenant, memories)
        self.report.memories_created += put.created
        self.report.memories_updated += put.updated
        self.report.memories_kept += put.kept
        for label, found in others.items():
            self.report.nodes_created += await self._store.nodes(self._tenant, label, found)

    async def _links(self, rows: Sequence[Mapping[str, Any]]) -> None:
        groups: dict[tuple[str, str, str], list[tuple[str, str, dict[str, Any]]]]
        groups = defaultdict(list)
        for row in rows:
            kind, properties = _relation(str(row.get("type")), row.get("properties") or {})
            source = self._known.get(row.get("source_id"))
            target = self._known.get(row.get("target_id"))
            if kind not in RELATIONS:
                self.report.refused[f"relation {kind[:40]}"] += 1
            elif source is None or target is None:
                self.report.refused["relation of a node that is not restored"] += 1
            else:
                groups[kind, source[0], target[0]].append((source[1], target[1], properties))
        for (kind, *ends), links in groups.items():
            self.report.relations += await self._store.links(
                self._tenant, kind, (ends[0], ends[1]), links
            )


def _batch(rows: Iterator[tuple[str, Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    return [row for _, row in islice(rows, BATCH)]


def restored(properties: Mapping[str, Any], now: int) -> Restored:
    """A backup's memory, at a version of now: nothing of it is taken as embedded.

    Raises: InvalidInput for what cannot be stored.
    """
    given = {name: properties.get(name) for name in PROPERTIES}
    given["id"] = _uuid(given["id"])
    given["content"] = check_text(_text(given["content"], "content"), "content")
    for name in _TIMES:
        given[name] = _ms(given[name], name)
    for name in _JSON:
        given[name] = _json_text(given[name])
    for name in _UNIT:
        given[name] = _unit(given[name], name)
    for name in ("tags", "entity_tags"):
        given[name] = [check_text(str(tag), name) for tag in given[name] or ()]
    memory = _dated(memory_of([given[name] for name in PROPERTIES]), now)
    vector, model = properties.get("embedding"), properties.get("embedding_model")
    supplied = (vector, model) if isinstance(vector, str) and isinstance(model, str) else None
    return Restored(_renewed(memory, now), memory.version, supplied)


def _dated(memory: Memory, now: int) -> Memory:
    """With what AutoMem's nodes lack, and without the workers' blocks in its metadata."""
    timestamp = memory.timestamp or now
    metadata = dict(memory.metadata)
    block = metadata.get(Derived.ENRICHMENT)
    if isinstance(block, dict) and "last_run" in block:
        metadata = {k: v for k, v in metadata.items() if k not in tuple(Derived)}
    session = memory.session_id or metadata.get("session_id")
    return replace(
        memory,
        timestamp=timestamp,
        updated_at=memory.updated_at or timestamp,
        last_accessed=memory.last_accessed or timestamp,
        metadata=metadata,
        session_id=session[:200] if isinstance(session, str) and session.strip() else None,
        speaker=memory.speaker or speaker_of(memory.content, metadata),
    )


def _renewed(memory: Memory, now: int) -> Memory:
    version = next_version(max(memory.version, memory.payload_version), now)
    finished = memory.enriched and memory.enriched_version > 0
    return replace(
        memory,
        version=version,
        payload_version=version,
        enriched_version=version if finished else 0,
        embedded_version=0,
        related_version=0,
        text_hash=None,
    )


def _plain(properties: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Another node's properties: times in ms, pending work due now. Raises: InvalidInput."""
    found: dict[str, Any] = {}
    for name, value in properties.items():
        if name.endswith(("_at", "timestamp")):
            found[name] = _ms(value, name)
        elif name.endswith("_due"):
            found[name] = now if isinstance(value, int) and value < NEVER_MS else value
        elif isinstance(value, str):
            found[name] = check_text(value, name)
        elif isinstance(value, (int, list)) or (isinstance(value, float) and math.isfinite(value)):
            found[name] = value
    if not isinstance(found.get("id"), str) or not found["id"]:
        raise InvalidInput("without an id")
    return found


def _relation(kind: str, properties: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    found = {
        name: value
        for name, value in properties.items()
        if isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
    }
    if isinstance(found.get("updated_at"), str):
        try:
            found["updated_at"] = parse_time(found["updated_at"])
        except InvalidInput:
            del found["updated_at"]
    if kind in _LEGACY:
        return "DISCOVERED", {"kind": _LEGACY[kind], **found}
    return kind, found


def _uuid(value: object) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise InvalidInput("id is no UUID") from error


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"without {what}")
    return value


def _ms(value: object, what: str) -> int | None:
    """Milliseconds as they are, ISO texts as milliseconds."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return parse_time(value)
    except InvalidInput as error:
        raise InvalidInput(f"{what} is no time") from error


def _json_text(value: object) -> str | None:
    """An object's JSON text; what is no object is left out."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, dict) or not value:
        return None
    try:
        return check_text(json.dumps(value, ensure_ascii=False, allow_nan=False), "metadata")
    except ValueError as error:
        raise InvalidInput("metadata is not finite") from error


def _unit(value: object, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput(f"{what} is no number")
    return min(1.0, max(0.0, float(value)))


async def run(file: Path, tenant: str) -> Report:
    """Restore into the configured stores, and have the relay look at the tenant at once."""
    from shared.config import load
    from shared.connection import RedisClients
    from shared.graph.store import GraphStore
    from shared.outbox import Outbox

    settings = load()
    delay_s = settings.streams.outbox_delay_s
    graph = await GraphStore(settings.graph, outbox_delay_s=delay_s).open()
    redis = RedisClients.open(settings.redis, settings.streams)
    try:
        report = await Restorer(graph.restore, tenant).restore(file)
        outbox = Outbox(redis, {}, prefix=settings.redis.prefix, delay_s=delay_s)
        await outbox.note([tenant], due_ms=now_ms())
    finally:
        await redis.close()
        await graph.close()
    return report


def main(arguments: Sequence[str]) -> int:
    """0 with the report on stdout; 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m services.api restore")
    parser.add_argument("file", type=Path, help="a backup: tar.gz, or its graph's .json.gz")
    parser.add_argument("--tenant", default="default")
    given = parser.parse_args(arguments)
    try:
        report = asyncio.run(run(given.file, check_tenant(given.tenant)))
    except (EunoeError, OSError) as error:
        sys.stderr.write(f"restore: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report.shown(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
