"""`python -m services.api restore FILE [--tenant T]`: restore a backup, ours or AutoMem's.

It may be repeated, and run while the product is up: a memory that the graph holds at the same or
a newer version stays, with the edges that workers derived from it. Vectors are made again from
the texts, except those that clients supplied. The stores are those of the settings, else those
of the stack that runs on the data folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

from services.api.backup.archive import rows_of
from services.api.backup.row_check import node_of, plain, relation_of, restored
from shared.config import Settings, load
from shared.domain.memory import now_ms
from shared.domain.relations import RELATIONS
from shared.domain.tenant import check_tenant
from shared.errors import EunoeError, InvalidInput
from shared.graph.upkeep.backup import LABELS, Restore, Restored

_Row = Mapping[str, Any]
BATCH = 500
_MEMBER = "falkordb"


@dataclass(slots=True)
class Report:
    """How many of the file's rows were written, kept or refused; `refused` counts by reason."""

    memories_created: int = 0
    memories_updated: int = 0
    memories_kept: int = 0
    nodes_created: int = 0
    relations: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        return counts | {"refused": dict(sorted(self.refused.items()))}


@dataclass(slots=True)
class Restorer:
    """Writes one backup's rows into one tenant's graph, in batches."""

    _store: Restore
    _tenant: str
    report: Report = field(default_factory=Report)
    # The backup's own node id → label and id of the restored node; edges refer to it.
    _restored: dict[object, tuple[str, str]] = field(default_factory=dict)

    async def restore(self, file: Path) -> Report:
        """Restore nodes, then edges. Raises: InvalidInput, Unavailable; then run it again."""
        for key, restore in (("nodes", self._nodes), ("relationships", self._links)):
            rows = rows_of(file, _MEMBER, key)
            while batch := await asyncio.to_thread(list, islice(rows, BATCH)):
                await restore(batch)
        memories = [key for label, key in self._restored.values() if label == "Memory"]
        for at in range(0, len(memories), BATCH):
            await self._store.done(self._tenant, memories[at : at + BATCH])
        return self.report

    async def _nodes(self, rows: Sequence[_Row]) -> None:
        memories: list[Restored] = []
        others: dict[str, list[dict[str, Any]]] = defaultdict(list)
        now = now_ms()
        for row in rows:
            try:
                key, labels, properties = node_of(row)
                if "Memory" in labels:
                    memories.append(restored(properties, now))
                    self._restored[key] = ("Memory", memories[-1].memory.id)
                    continue
                label = next(each for each in LABELS if each in labels)
                others[label].append(plain(properties, now))
                self._restored[key] = (label, others[label][-1]["id"])
            except StopIteration:
                label = str(labels[0])[:40] if labels else "without label"
                self.report.refused[f"node {label}"] += 1
            except InvalidInput as error:
                self.report.refused[f"node: {error}"] += 1
        put = await self._store.memories(self._tenant, memories)
        self.report.memories_created += put.created
        self.report.memories_updated += put.updated
        self.report.memories_kept += put.kept
        for label, found in others.items():
            self.report.nodes_created += await self._store.nodes(self._tenant, label, found)

    async def _links(self, rows: Sequence[_Row]) -> None:
        groups = defaultdict[tuple[str, str, str], list[tuple[str, str, dict[str, Any]]]](list)
        for row in rows:
            kind, properties = relation_of(str(row.get("type")), row.get("properties"))
            source = self._end(row.get("source_id"))
            target = self._end(row.get("target_id"))
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

    def _end(self, key: object) -> tuple[str, str] | None:
        return self._restored.get(key) if isinstance(key, int | str) else None


def _local(settings: Settings) -> dict[str, str]:
    """Return the URL of a running stack's Redis, unless the settings name other stores."""
    named = settings.redis.model_fields_set | settings.graph.model_fields_set
    stack = settings.process.data_dir / "stack.json"
    if named & {"url_given", "host", "port"} or not stack.exists():
        return {}
    processes = json.loads(stack.read_text())["processes"]
    ports = [each["ports"]["redis"] for each in processes if each["role"] == "redis"]
    return {"url_given": f"redis://127.0.0.1:{ports[0]}/0"} if ports else {}


async def run(file: Path, tenant: str) -> Report:
    """Restore into the configured stores, and make the tenant's outbox due at once."""
    from shared.graph.store import GraphStore
    from shared.redis.client import RedisClients
    from shared.streams.outbox import Outbox

    settings = load()
    local = _local(settings)
    delay_s = settings.streams.outbox_delay_s
    graph_settings = settings.graph.model_copy(update=local)
    graph = await GraphStore(graph_settings, outbox_delay_s=delay_s).open()
    redis = RedisClients.open(settings.redis.model_copy(update=local), settings.streams)
    try:
        report = await Restorer(graph.restore, tenant).restore(file)
        outbox = Outbox(redis, {}, delay_s=delay_s)
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
    sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
