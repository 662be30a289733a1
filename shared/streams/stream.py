"""Stream: one stage's work, with a ledger of where each of its jobs is.

Every transition is one Lua script that changes the job and the ledger together. So a publish
adds nothing while the same job is live or a dead letter, and an entry is settled at most once.
Acked entries are deleted: the stream's length is the backlog and nothing is ever trimmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from shared.errors import EunoeError
from shared.redis.client import RedisClients, translated
from shared.streams.job import Delivery, Job, Malformed
from shared.streams.lua import CHUNK, RawEntry, StageScripts, dead_job, milliseconds, new_entries
from shared.streams.policy import StreamPolicy
from shared.streams.transitions import ConsumerState, DeadJob, Reclaimed

GROUP = "workers"
# Entries that were handed back after more than one delivery stay pending under this name, which no
# consumer has; the others are new entries again.
RELEASED = "released"


class Stream(StageScripts):
    """One stage of work: its scripts, and operations of other commands or several calls."""

    def __init__(self, clients: RedisClients, policy: StreamPolicy) -> None:
        super().__init__(clients, policy)
        # Any: redis-py's stubs unite every protocol's reply shapes.
        self._command: Any = clients.command
        self._blocking: Any = clients.blocking

    async def read(
        self, consumer: str, limit: int, *, block_s: float | None = None
    ) -> list[Delivery]:
        """Deliver up to `limit` new entries, waiting at most `block_s` (the policy's) for one.

        0 does not wait. Creates the group where it is missing. A cancelled call may leave
        entries pending on this name.
        """
        wait_s = self.policy.block_s if block_s is None else min(block_s, self.policy.block_s)
        block_ms = milliseconds(wait_s) if wait_s > 0 else None
        reply: Any = None  # redis-py answers [] where no entry came
        jobs = self.keys.jobs
        with _expecting("NOGROUP", "UNBLOCKED"):
            reply = await self._blocking.xreadgroup(
                GROUP, consumer, {jobs: ">"}, count=limit, block=block_ms
            )
        if reply is None:
            # From id 0: entries that were added before the group are work, too.
            with _expecting("BUSYGROUP"):
                await self._command.xgroup_create(jobs, GROUP, "0", mkstream=True)
            return []
        return await self._deliveries(consumer, new_entries(reply))

    async def reclaim(self, consumer: str, limit: int, *, alone: bool = False) -> Reclaimed:
        """Take over entries of silent consumers, and at once those that were handed back.

        An entry that went silent with two consumers may crash the process. It stays where it
        is, uncharged, unless `alone`, which takes one such entry and nothing else.
        """
        entries, poison_waits, some_missing = await self._reclaim(consumer, limit, alone=alone)
        if some_missing:
            await self.sweep()
        return Reclaimed(await self._deliveries(consumer, entries), poison_waits)

    async def hand_back(self, consumer: str) -> int:
        """Release the consumer's pending entries and delete it; return how many they were.

        Others get them at once and no delivery is counted. No other process may use the name.
        """
        handed = await self._hand_back(consumer)
        # A cancelled read gets entries until Redis sees that its connection was closed, among
        # them those that were just handed back: the next call finds them.
        while moved := await self._hand_back(consumer):
            handed += moved
        return handed

    async def load_of(self, tenant: str) -> int:
        """Return how many live jobs the tenant has."""
        with translated():
            return int(await self._command.hget(self.keys.load, tenant) or 0)

    async def consumers(self) -> list[ConsumerState]:
        rows: list[dict[str, Any]] = []
        with _expecting("NOGROUP", "no such key"):
            rows = await self._command.xinfo_consumers(self.keys.jobs, GROUP)
        return [ConsumerState(row["name"], row["pending"], row["idle"]) for row in rows]

    def is_active(self, consumer: ConsumerState) -> bool:
        """Return whether it called lately: it reads every `block_s`, or renews while busy."""
        quiet_s = max(self.policy.silence_limit_s, self.policy.visibility_s / 2)
        return consumer.name != RELEASED and consumer.idle_ms < quiet_s * 1000

    async def sweep(self) -> int:
        """Delete ledger fields whose job was deleted by hand; return how many. Reads all."""
        cleared, cursor = 0, 0
        while True:
            with translated():
                cursor, page = await self._command.hscan(self.keys.at, cursor, count=CHUNK)
            cleared += await self._sweep(list(page))
            if cursor == 0:
                return cleared

    async def dead(self, *, limit: int, before: str | None = None) -> list[DeadJob]:
        """Return `limit` dead letters, newest first; `before`: the last page's last id."""
        newest = f"({before}" if before else "+"
        with translated():
            rows = await self._command.xrevrange(self.keys.dead, newest, "-", count=limit)
        return [dead_job(*row) for row in rows]

    async def dead_named(self, entry_ids: Sequence[str]) -> list[DeadJob]:
        """Return the dead letters that exist, malformed ones included."""
        ids = list(dict.fromkeys(entry_ids))
        found: list[DeadJob] = []
        for start in range(0, len(ids), CHUNK):
            with translated():
                async with self._command.pipeline(transaction=False) as pipe:
                    for entry_id in ids[start : start + CHUNK]:
                        pipe.xrange(self.keys.dead, entry_id, entry_id)
                    replies = await pipe.execute()
            found += [dead_job(*row) for rows in replies for row in rows]
        return found

    async def replay(self, entry_ids: Sequence[str] | None = None, *, limit: int = CHUNK) -> int:
        """Publish dead letters again with no attempt counted; return how many.

        Without ids the oldest `limit`. Malformed ones stay dead: discard them.
        """
        chosen = self._oldest_dead(limit) if entry_ids is None else self.dead_named(entry_ids)
        return await self._replay(await chosen)

    async def _oldest_dead(self, limit: int) -> list[DeadJob]:
        """Return the oldest `limit` dead letters that are well-formed."""
        found: list[DeadJob] = []
        start = "-"
        while len(found) < limit:
            with translated():
                rows = await self._command.xrange(self.keys.dead, start, "+", count=CHUNK)
            found += [dead for dead in (dead_job(*row) for row in rows) if dead.job]
            if len(rows) < CHUNK:
                break
            start = f"({rows[-1][0]}"
        return found[:limit]

    async def _deliveries(self, consumer: str, entries: Sequence[RawEntry]) -> list[Delivery]:
        """Return the entries as jobs; an entry that is none becomes a dead letter here."""
        deliveries: list[Delivery] = []
        malformed: list[tuple[RawEntry, str]] = []
        for entry in entries:
            try:
                job = Job.decode(entry.fields["job"])
            except (Malformed, KeyError) as error:
                malformed.append((entry, str(error)))
            else:
                deliveries.append(Delivery(job, entry.entry_id, entry.deliveries))
        if malformed:
            await self._settle_malformed(consumer, malformed)
        return deliveries


@contextmanager
def _expecting(*starts: str) -> Iterator[None]:
    """Translate errors, and suppress those of Redis that begin with one of `starts`."""
    try:
        with translated():
            yield
    except EunoeError as error:
        cause = error.__cause__
        if not (isinstance(cause, ResponseError) and str(cause).startswith(starts)):
            raise
