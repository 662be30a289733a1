"""The task `reembed`: make all vectors again, in place or in another generation.

With the live model, the newest memories of one tenant are embedded again in the live generation.
Another model (or a generation that was live before) means a switch, for all tenants.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.syncer.reembedding.forced_jobs import ForcedJobs
from services.syncer.reembedding.switch import Switch
from services.syncer.runs import Progress, RunLost
from shared.config import EmbeddingSettings
from shared.domain.memory import Memory, now_ms
from shared.domain.scope import Scope
from shared.errors import ConfigError, PermanentError
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.vectors import Generation, VectorStore
from shared.vectors.active_model import open_generation, open_requested

TASK = "reembed"
REFRESHING = "refreshing"
_BATCH_SIZE = 32
_SHOWN_IDS = 10


@dataclass(slots=True)
class Reembed:
    """Body of runs of this task; resumes where the run's progress says it was."""

    graph: GraphStore
    vectors: VectorStore
    outbox: Outbox
    settings: EmbeddingSettings

    async def __call__(self, progress: Progress) -> dict[str, Any]:
        """Return AutoMem's summary of a re-embedding, and the collection that is live at the end.

        Raises: RunLost; PermanentError with what the operator can do about it. The live
        generation stays live after either.
        """
        try:
            target = await self._target(progress)
            if target is None:
                await self._refresh(progress)
            else:
                failed = await self._switch(progress, target)
                progress.state |= {"failed": len(failed), "failed_ids": failed[:_SHOWN_IDS]}
            return await self._result(progress)
        except ConfigError as error:
            raise PermanentError(str(error)) from error

    async def _target(self, progress: Progress) -> Generation | None:
        """The generation to switch to; None for a refresh of the live one."""
        generations, request = self.vectors.generations, progress.run.request
        if progress.state.get("phase") == REFRESHING:
            return None
        if begun := progress.state.get("generation"):
            return await generations.named(begun)
        if name := request.get("generation"):
            target = await generations.named(name)
            # Opened once, so that a model which no process could use is refused now.
            await (await open_generation(self.settings, target)).close()
        elif any(request.get(key) for key in ("provider", "model", "dimension")):
            live = await self.vectors.live.attach()
            provider, model = await open_requested(self.settings, live, request)
            await model.close()
            if live.fits(model.name, model.dimension):
                return None
            # The number is written first, so a run that is killed in between finds it again.
            if "serial" not in progress.state:
                serials = (each.serial for each in await generations.all())
                await progress.write(serial=max(serials, default=0) + 1)
            serial = int(progress.state["serial"])
            target = await generations.create(
                model.name, model.dimension, serial=serial, provider=provider
            )
        else:
            return None
        await progress.write(generation=target.collection)
        return target

    async def _switch(self, progress: Progress, target: Generation) -> list[str]:
        try:
            return await Switch(self.graph, self.vectors, self.outbox, progress, target)()
        except (PermanentError, ConfigError):
            await self.vectors.generations.abandon(target.collection)
            raise
        except RunLost:
            stored = await self.graph.runs.get(progress.tenant, progress.run.id)
            if stored is None or stored.over:  # It was cancelled; else another process goes on.
                await self.vectors.generations.abandon(target.collection)
            raise

    async def _refresh(self, progress: Progress) -> None:
        """Have the vectors of this tenant's memories made again, page by page."""
        tenant, run, state = progress.tenant, progress.run, progress.state
        if "total" not in state:
            total = (await self.graph.memories.counts(tenant)).memories
            limit = run.request.get("limit") or total
            begun = {"phase": REFRESHING, "total": min(total, limit), "processed": 0}
            await progress.write(**begun, cursor="", failed=0)
        forced = ForcedJobs(self.outbox, progress, run.id, self._unfinished)
        async for ids, cursor in self._pages(progress):
            due = await self.graph.work.requeue(tenant, Stage.EMBED, ids, anew=True)
            versions = {each.id: each.payload_version for each in due}
            failed = await forced(tenant, versions)
            rows = [(key, versions[key]) for key in failed]
            await self.graph.work.give_up(tenant, Stage.EMBED, rows)
            state["processed"] += len(ids)
            failed_ids = [*state.get("failed_ids", ()), *sorted(failed)][:_SHOWN_IDS]
            await progress.write(
                cursor=cursor, failed=state["failed"] + len(failed), failed_ids=failed_ids
            )

    async def _unfinished(self, tenant: str, versions: Mapping[str, int]) -> set[str]:
        found = await self.graph.memories.get(tenant, versions)
        return {
            key
            for key, memory in found.items()
            if memory.embed_anew or memory.embedded_version < versions[key]
        }

    async def _pages(self, progress: Progress) -> AsyncIterator[tuple[list[str], str]]:
        """Yield the ids from where the run was, with the cursor behind them.

        The newest `limit` of all, downwards from when it began, or all by their ids.
        """
        run = progress.run
        # Whole batches of the embedders: a paid provider waits for a full batch.
        batch = self.settings.batch_size
        size = math.ceil(_batch_size(run) / batch) * batch
        tenant, state, limit = progress.tenant, progress.state, run.request.get("limit")
        if limit:
            if ":" not in state["cursor"]:  # Memories stored later are not part.
                await progress.write(cursor=await self._newest(tenant), processed=0)
            while (left := limit - state["processed"]) > 0:
                older = await self._older(tenant, state["cursor"], min(size, left))
                if not older:
                    return
                yield [each.id for each in older], _at(older[-1].timestamp, older[-1].id)
            return
        while rows := await self.graph.sweeps.memories_page(tenant, state["cursor"], size):
            yield [row.id for row in rows], rows[-1].id

    async def _newest(self, tenant: str) -> str:
        """Return the cursor before the newest memory, whose timestamp may be in the future."""
        found = await self.graph.candidates.newest(tenant, [], 1)
        rows = await self.graph.sweeps.audited(tenant, [each.id for each in found])
        return _at(max((row.memory.timestamp for row in rows.values()), default=now_ms()), "")

    async def _older(self, tenant: str, cursor: str, count: int) -> list[Memory]:
        """Return at most `count` memories behind the cursor, newest first; none is the end."""
        at, _, after = cursor.partition(":")
        most = count + 1  # the one at the cursor, if it is still there
        while True:
            scope = Scope(end_ms=int(at))
            found = await self.graph.candidates.newest(tenant, [], most, scope=scope)
            rows = await self.graph.sweeps.audited(tenant, [each.id for each in found])
            behind = [row.memory for row in rows.values() if _order(row.memory) > (-int(at), after)]
            if behind or len(found) < most:
                return sorted(behind, key=_order)[:count]
            most *= 2  # All of them have one timestamp, as after an import.

    async def _result(self, progress: Progress) -> dict[str, Any]:
        live, state = await self.vectors.live.attach(), progress.state
        failed, total = state["failed"], state["total"]
        summary: dict[str, Any] = {
            "status": "complete",
            "processed": max(0, total - failed),
            "failed": failed,
            "total": total,
            "batch_size": _batch_size(progress.run),
            "metadata_preserved": True,
            "generation": live.collection,
            "model": live.model,
            "dimension": live.dimension,
        }
        if failed:
            summary["failed_ids"] = state["failed_ids"]
            summary["failed_ids_truncated"] = failed > _SHOWN_IDS
        return summary


def _at(timestamp: int, memory_id: str) -> str:
    return f"{timestamp}:{memory_id}"


def _order(memory: Memory) -> tuple[int, str]:
    return -memory.timestamp, memory.id


def _batch_size(run: Run) -> int:
    return int(run.request.get("batch_size") or _BATCH_SIZE)
