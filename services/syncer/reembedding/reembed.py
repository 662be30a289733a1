"""The task `reembed`: all vectors anew, in place or in another generation.

With the model that serves, the newest memories of one tenant are embedded again where they
are. With another one (or a generation that served before) it is a switch, of all tenants.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
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
from shared.models.open import chosen_provider, named, open_embedding
from shared.streams.job import Stage
from shared.streams.outbox import Outbox
from shared.vectors import Generation, VectorStore
from shared.vectors.active_model import open_generation

TASK = "reembed"
REFRESHING = "refreshing"
_BATCH_SIZE = 32
_SHOWN_IDS = 10


class Reembed:
    """Body of runs of this task; resumes where the run's progress says it was."""

    def __init__(
        self,
        graph: GraphStore,
        vectors: VectorStore,
        outbox: Outbox,
        settings: EmbeddingSettings,
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._outbox = outbox
        self._settings = settings

    async def __call__(self, tenant: str, run: Run, progress: Progress) -> dict[str, Any]:
        """The seed's summary, with the collection that serves then.

        Raises: RunLost; PermanentError with what the operator can do about it. The live
        generation serves on after either.
        """
        try:
            target = await self._target(run, progress)
            if target is None:
                await self._refresh(tenant, run, progress)
            else:
                failed = await self._switch(tenant, run, progress, target)
                progress.noted |= {"failed": len(failed), "failed_ids": failed[:_SHOWN_IDS]}
            return await self._result(run, progress)
        except ConfigError as error:
            raise PermanentError(str(error)) from error

    # -- a switch ---------------------------------------------------------------------------

    async def _target(self, run: Run, progress: Progress) -> Generation | None:
        """The generation to switch to; None for a refresh of the live one."""
        generations, asked = self._vectors.generations, run.request
        if progress.noted.get("phase") == REFRESHING:
            return None
        if begun := progress.noted.get("generation"):
            return await generations.named(begun)
        if name := asked.get("generation"):
            target = await generations.named(name)
            # Told now, for nobody could serve it.
            await (await open_generation(self._settings, target)).close()
        elif any(asked.get(key) for key in ("provider", "model", "dimension")):
            wanted = await self._wanted(asked)
            live = await self._vectors.attach()
            if live.fits(wanted.model, wanted.dimension):
                return None
            # Named before it is made: a run that is killed in between finds its number again.
            target = await generations.create(
                wanted.model,
                wanted.dimension,
                serial=await self._serial(progress),
                provider=wanted.provider,
            )
        else:
            return None
        await progress.note(generation=target.collection)
        return target

    async def _serial(self, progress: Progress) -> int:
        if "serial" not in progress.noted:
            all_made = await self._vectors.generations.all()
            await progress.note(serial=max((each.serial for each in all_made), default=0) + 1)
        return int(progress.noted["serial"])

    async def _wanted(self, asked: Mapping[str, Any]) -> Generation:
        """What is asked for, with the name and size that its model really has.

        What is not said is as the live generation has it, where that is the same model's.
        """
        live = await self._vectors.attach()
        provider = asked.get("provider") or live.provider or chosen_provider(self._settings)
        model, preferred = asked.get("model"), None
        if provider == live.provider and model in (None, live.model):
            model, preferred = live.model, live.dimension
        opened = await open_embedding(
            named(self._settings, provider, model), asked.get("dimension"), preferred=preferred
        )
        await opened.close()
        return Generation("", opened.name, opened.dimension, 0, provider)

    async def _switch(
        self, tenant: str, run: Run, progress: Progress, target: Generation
    ) -> list[str]:
        try:
            return await Switch(
                self._graph,
                self._vectors,
                self._outbox,
                run=run,
                progress=progress,
                target=target,
            )()
        except (PermanentError, ConfigError):
            await self._vectors.generations.abandon(target.collection)
            raise
        except RunLost:
            now = await self._graph.runs.get(tenant, run.id)
            if now is None or now.over:  # cancelled; else somebody else goes on
                await self._vectors.generations.abandon(target.collection)
            raise

    # -- a refresh --------------------------------------------------------------------------

    async def _refresh(self, tenant: str, run: Run, progress: Progress) -> None:
        """Have the vectors of this tenant's memories made again, page by page."""
        noted = progress.noted
        if "total" not in noted:
            total = (await self._graph.memories.counts(tenant)).memories
            limit = run.request.get("limit") or total
            begun = {"phase": REFRESHING, "total": min(total, limit), "processed": 0}
            await progress.note(**begun, cursor="", failed=0)
        forced = ForcedJobs(self._outbox, progress, run.id)
        async for ids, cursor in self._pages(tenant, run, progress):
            failed = await self._page(tenant, ids, forced)
            noted["processed"] += len(ids)
            shown = [*noted.get("failed_ids", ()), *sorted(failed)][:_SHOWN_IDS]
            await progress.note(
                cursor=cursor, failed=noted["failed"] + len(failed), failed_ids=shown
            )

    async def _page(self, tenant: str, ids: Sequence[str], forced: ForcedJobs) -> set[str]:
        due = await self._graph.work.requeue(tenant, Stage.EMBED, ids, anew=True)
        versions = {each.id: each.payload_version for each in due}
        dead = await forced(tenant, versions, partial(self._left, tenant))
        rows = [(key, versions[key]) for key in dead]
        await self._graph.work.give_up(tenant, Stage.EMBED, rows)
        return dead

    async def _left(self, tenant: str, asked: Mapping[str, int]) -> set[str]:
        found = await self._graph.memories.get(tenant, asked)
        return {
            key
            for key, memory in found.items()
            if memory.embed_anew or memory.embedded_version < asked[key]
        }

    async def _pages(
        self, tenant: str, run: Run, progress: Progress
    ) -> AsyncIterator[tuple[list[str], str]]:
        """The ids from where the run was, with the cursor behind them.

        The newest `limit` of all, downwards from when it began, or all by their ids.
        """
        size, limit, noted = self._page_size(run), run.request.get("limit"), progress.noted
        if limit:
            if ":" not in noted["cursor"]:  # what is stored from here on is none of it
                await progress.note(cursor=await self._newest(tenant), processed=0)
            while (left := limit - noted["processed"]) > 0:
                older = await self._older(tenant, noted["cursor"], min(size, left))
                if not older:
                    return
                yield [each.id for each in older], _at(older[-1].timestamp, older[-1].id)
            return
        while rows := await self._graph.sweeps.memories_page(tenant, noted["cursor"], size):
            yield [row.id for row in rows], rows[-1].id

    async def _newest(self, tenant: str) -> str:
        """The cursor before the newest memory; it may be of tomorrow."""
        found = await self._graph.words.newest(tenant, [], 1)
        rows = await self._graph.sweeps.audited(tenant, [each.id for each in found])
        return _at(max((row.memory.timestamp for row in rows.values()), default=now_ms()), "")

    async def _older(self, tenant: str, cursor: str, count: int) -> list[Memory]:
        """At most `count` memories behind the cursor, newest first; none is the end."""
        at, _, after = cursor.partition(":")
        most = count + 1  # the one at the cursor, if it is still there
        while True:
            scope = Scope(end_ms=int(at))
            found = await self._graph.words.newest(tenant, [], most, scope=scope)
            rows = await self._graph.sweeps.audited(tenant, [each.id for each in found])
            behind = [row.memory for row in rows.values() if _order(row.memory) > (-int(at), after)]
            if behind or len(found) < most:
                return sorted(behind, key=_order)[:count]
            most *= 2  # all of them are of one time, as after an import

    def _page_size(self, run: Run) -> int:
        """`batch_size` in whole batches of the embedders: a paid one waits for a full batch."""
        asked = int(run.request.get("batch_size") or _BATCH_SIZE)
        batch = self._settings.batch_size
        return math.ceil(asked / batch) * batch

    # -- the result -------------------------------------------------------------------------

    async def _result(self, run: Run, progress: Progress) -> dict[str, Any]:
        live, noted = await self._vectors.attach(), progress.noted
        failed, total = noted["failed"], noted["total"]
        summary: dict[str, Any] = {
            "status": "complete",
            "processed": max(0, total - failed),
            "failed": failed,
            "total": total,
            "batch_size": int(run.request.get("batch_size") or _BATCH_SIZE),
            "metadata_preserved": True,
            "generation": live.collection,
            "model": live.model,
            "dimension": live.dimension,
        }
        if failed:
            summary["failed_ids"] = noted["failed_ids"]
            summary["failed_ids_truncated"] = failed > _SHOWN_IDS
        return summary


def _at(timestamp: int, memory_id: str) -> str:
    return f"{timestamp}:{memory_id}"


def _order(memory: Memory) -> tuple[int, str]:
    return -memory.timestamp, memory.id
