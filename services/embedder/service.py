"""The embed stage: a batch of jobs in, points in the vector store, relate jobs out.

The graph is read first and written last, guarded by `payload_version`; points are written
in between, conditional on an older one. Whatever runs twice or late therefore changes
nothing, and a memory that went meanwhile takes its point with it.

While a generation is being filled every batch is written to that one too. What goes wrong
with it holds up nothing but the jobs by which it is filled.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from services.embedder.batch import whole_hash
from services.embedder.point_writer import Key, PointWriter, Read, Refusal, keys
from shared.domain.memory import Memory, same_text
from shared.errors import PermanentError, TransientError
from shared.graph.stages.writes import Embedded
from shared.graph.store import GraphStore
from shared.streams.consumer import DeadLetter, Defer, Done, Outcome, Retry
from shared.streams.job import Job, Stage
from shared.streams.outbox import Outbox
from shared.telemetry.log import get_logger
from shared.vectors import VectorStore
from shared.vectors.active_model import ActiveModel, ModelFollower

log = get_logger(__name__)
# How long a job of the filling rests while the next generation's model is down.
_NEXT_REST_S = 2.0


class Embedder:
    """Handler of the embed stream; safe to run in any number of processes."""

    def __init__(
        self, graph: GraphStore, vectors: VectorStore, serving: ModelFollower, outbox: Outbox
    ) -> None:
        self._graph = graph
        self._vectors = vectors
        self._serving = serving
        self._outbox = outbox
        self._filler = PointWriter(vectors)

    async def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Bring every job's memory to its point; raises what concerns the whole batch."""
        live, filling = await self._serving.current()
        by_tenant: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_tenant[job.tenant].append(job)
        reads = [await self._read(tenant, mine) for tenant, mine in by_tenant.items()]
        await self._filler.fill(live, reads)
        outcomes: dict[Key, Outcome] = {}
        if filling is not None:
            outcomes = await self._fill_next(filling, reads)
        for read in reads:
            await self._write(live, filling, read)
        return [
            outcomes.get((job.tenant, job.memory_id), Done()) if job.run else Done() for job in jobs
        ]

    async def _read(self, tenant: str, jobs: Sequence[Job]) -> Read:
        ids = [job.memory_id for job in jobs]
        found, before, supplied = await asyncio.gather(
            self._graph.memories.get(tenant, ids),
            self._graph.dialogue.before(tenant, ids),
            self._graph.memories.embeddings(tenant, ids),
        )
        memories = {
            job.memory_id: found[job.memory_id]
            for job in jobs
            if job.memory_id in found and _lags(found[job.memory_id], job)
        }
        return Read(tenant, [key for key in ids if key not in found], memories, before, supplied)

    async def _fill_next(self, filling: ActiveModel, reads: Sequence[Read]) -> dict[Key, Outcome]:
        """What becomes of the filling's own jobs; other jobs it will ask for again itself."""
        try:
            refused = await self._filler.fill_what_it_takes(filling, reads)
        except TransientError as error:
            log.warning("generation.not_filled", model=filling.model.name, error=str(error))
            parked = Defer(str(error), max(_NEXT_REST_S, error.retry_after_s or 0.0))
            return dict.fromkeys(keys(reads), parked)
        for (_, memory_id), refusal in refused.items():
            log.warning("generation.refused", memory_id=memory_id, error=str(refusal))
        return {key: _refused(refusal) for key, refusal in refused.items()}

    async def _write(self, live: ActiveModel, filling: ActiveModel | None, read: Read) -> None:
        """The graph's word that the points stand; then what follows from them."""
        tenant = read.tenant
        rows = [_row(live, read, memory) for memory in read.memories.values()]
        # Told by what the graph has recorded, not by what was written just now: an earlier
        # run may have written the point and then lost its guarded write to a change.
        renewed = [row.id for row in rows if _other_words(read.memories[row.id], row)]
        successors = await self._graph.dialogue.refresh_after(tenant, renewed)
        result = await self._graph.work.embedded(tenant, rows)
        gone = [*read.absent, *result.absent]
        for served in (live, filling) if gone else ():
            if served is not None:
                await self._vectors.delete(tenant, gone, generation=served.generation)
        relate = [
            Job(tenant, row.id, row.payload_version)
            for row in rows
            if row.relate and row.id in result.applied
        ]
        late = [Job(tenant, due.id, due.payload_version) for due in successors]
        await self._outbox.announce({Stage.RELATE: relate, Stage.EMBED: late})


def _refused(refusal: Refusal) -> Outcome:
    if isinstance(refusal, PermanentError):
        return DeadLetter("permanent", str(refusal))
    return Retry(str(refusal))


def _row(live: ActiveModel, read: Read, memory: Memory) -> Embedded:
    said = read.before.get(memory.id, ())
    whole = whole_hash(live.model.name, memory.content, said)
    renewed = memory.text_hash != whole or memory.embed_anew
    return Embedded(
        memory.id, memory.payload_version, whole, relate=renewed, anew=memory.embed_anew
    )


def _other_words(memory: Memory, row: Embedded) -> bool:
    """Whether successors may have been embedded with other words of this memory."""
    return memory.session_id is not None and not same_text(memory.text_hash, row.text_hash)


def _lags(memory: Memory, job: Job) -> bool:
    """Whether there is anything to do: another job may have brought the memory up already."""
    return bool(job.run) or memory.embedded_version < memory.payload_version
