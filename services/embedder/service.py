"""The embed stage: turn a batch of jobs into points, then publish relate jobs.

The graph is read first and written last, guarded by `payload_version`; points are written in
between, conditional on an older one. A batch that runs twice or late therefore changes nothing,
and the point of a memory that was deleted meanwhile is deleted.

While a generation is being filled, every batch is written to that one too. Its failures delay
only the jobs that fill it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.embedder.point_writer import Key, Read, fill, fill_accepted, whole_hash
from shared.domain.memory import Memory, same_text
from shared.errors import PermanentError, TransientError
from shared.graph.stages.writes import Embedded
from shared.graph.store import GraphStore
from shared.streams.job import Job, Stage, by_tenant
from shared.streams.outbox import Outbox
from shared.streams.transitions import DeadLetter, Defer, Done, Outcome, Retry
from shared.telemetry.log import get_logger
from shared.vectors import VectorStore
from shared.vectors.active_model import ActiveModel, ModelFollower

log = get_logger(__name__)
# How long a job that fills the next generation is deferred while that one's model is down.
_NEXT_MODEL_DOWN_S = 2.0


@dataclass(slots=True)
class Embedder:
    """Handler of the embed stream; any number of processes may run it."""

    graph: GraphStore
    vectors: VectorStore
    follower: ModelFollower
    outbox: Outbox

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Write the point of every job's memory; raises an error that concerns the whole batch."""
        live, filling = await self.follower.current()
        reads = [await self._read(tenant, jobs_of) for tenant, jobs_of in by_tenant(jobs).items()]
        await fill(self.vectors, live, reads)
        outcomes = await self._fill_next(filling, reads) if filling else {}
        for read in reads:
            await self._write(live, filling, read)
        return [
            outcomes.get((job.tenant, job.memory_id), Done()) if job.run else Done() for job in jobs
        ]

    async def _read(self, tenant: str, jobs: Mapping[str, Job]) -> Read:
        ids = list(jobs)
        found, before, supplied = await asyncio.gather(
            self.graph.memories.get(tenant, ids),
            self.graph.dialogue.before(tenant, ids),
            self.graph.memories.embeddings(tenant, ids),
        )
        memories = {
            key: memory
            for key, job in jobs.items()
            if (memory := found.get(key))
            # Another job may have embedded this version.
            and (job.run or memory.embedded_version < memory.payload_version)
        }
        return Read(tenant, [key for key in ids if key not in found], memories, before, supplied)

    async def _fill_next(self, filling: ActiveModel, reads: Sequence[Read]) -> dict[Key, Outcome]:
        """Return the outcomes of the jobs that fill `filling`; other jobs do not depend on it."""
        try:
            refused = await fill_accepted(self.vectors, filling, reads)
        except TransientError as error:
            log.warning("generation.not_filled", model=filling.model.name, error=str(error))
            wait_s = max(_NEXT_MODEL_DOWN_S, error.retry_after_s or 0.0)
            deferred = Defer(str(error), wait_s)
            return {(read.tenant, key): deferred for read in reads for key in read.memories}
        for (_, memory_id), refusal in refused.items():
            log.warning("generation.refused", memory_id=memory_id, error=str(refusal))
        return {key: _refused(refusal) for key, refusal in refused.items()}

    async def _write(self, live: ActiveModel, filling: ActiveModel | None, read: Read) -> None:
        """Record in the graph that the points are written, and publish the jobs that follow."""
        tenant = read.tenant
        rows = [_row(live, read, memory) for memory in read.memories.values()]
        # What the graph has recorded decides, not what was written just now: an earlier run may
        # have written the point and then lost its guarded write to a change.
        # The successors of a memory in a session may have been embedded with its former words.
        renewed = [
            row.id
            for row in rows
            if (memory := read.memories[row.id]).session_id is not None
            and not same_text(memory.text_hash, row.text_hash)
        ]
        successors = await self.graph.dialogue.refresh_after(tenant, renewed)
        result = await self.graph.work.embedded(tenant, rows)
        gone = [*read.absent, *result.absent]
        for active in filter(None, (live, filling)):
            await self.vectors.delete(tenant, gone, generation=active.generation)
        relate = [
            Job(tenant, row.id, row.payload_version)
            for row in rows
            if row.relate and row.id in result.applied
        ]
        late = [Job(tenant, due.id, due.payload_version) for due in successors]
        await self.outbox.announce({Stage.RELATE: relate, Stage.EMBED: late})


def _refused(refusal: Exception) -> Outcome:
    if isinstance(refusal, PermanentError):
        return DeadLetter("permanent", str(refusal))
    return Retry(str(refusal))


def _row(live: ActiveModel, read: Read, memory: Memory) -> Embedded:
    whole = whole_hash(live.model.name, memory.content, read.before.get(memory.id, ()))
    renewed = memory.text_hash != whole or memory.embed_anew
    return Embedded(
        memory.id, memory.payload_version, whole, relate=renewed, anew=memory.embed_anew
    )
