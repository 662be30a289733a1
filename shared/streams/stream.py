"""Stream: one stage's work, with a ledger of where each of its jobs is.

Every transition is one Lua script that moves the ledger with the job, so a publish is a
no-op exactly while its job really is there, and an entry is settled at most once. Acked
entries are deleted: the stream's length is the backlog and nothing is ever trimmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from redis.exceptions import ResponseError

from shared.errors import EunoeError
from shared.redis.client import RedisClients, Script, translated
from shared.streams.job import Delivery, Job, Malformed
from shared.streams.transitions import (
    CHUNK,
    OUTCOME,
    ConsumerState,
    DeadJob,
    Depth,
    Published,
    RawEntry,
    Reclaimed,
    Settled,
    Settlement,
    StreamPolicy,
    Transition,
    chunks,
    dead_job,
    entries_of,
    malformed_row,
    milliseconds,
    pairs,
    policy_for,
    replay_row,
    settle_row,
)
from shared.telemetry import metrics

__all__ = [
    "ConsumerState",
    "DeadJob",
    "Depth",
    "Published",
    "Reclaimed",
    "Settled",
    "Settlement",
    "Stream",
    "StreamPolicy",
    "Transition",
    "policy_for",
]

GROUP = "workers"
# A third delivery means two consumers went silent with the entry: it runs alone from then on.
POISON_AFTER = 2
_KEYS = ("jobs", "delayed", "dead", "at", "load")
_WORK_SCRIPTS = ("publish", "settle", "reclaim", "renew", "promote", "hand_back", "reap")
_ADMIN_SCRIPTS = ("replay", "discard", "sweep", "depth", "whereabouts", "in_flight")
# Whoever gave entries back: the name they stay under, and nobody's.
RELEASED = "released"
# More entries than all consumers together hold, unless there are very many of them.
_PENDING_LOOKED_AT = 2_000

State: TypeAlias = Literal["queued", "in_flight", "delayed", "dead"]


@dataclass(frozen=True, slots=True)
class JobLocation:
    """Where a job is. `due_ms` of a delayed one; `dead_id`, `reason` and `dead_since_ms` of a dead.

    `error` of both: the last one, in one short line of a delayed job.
    """

    state: State
    job: Job | None
    due_ms: int | None = None
    error: str = ""
    dead_id: str = ""
    reason: str = ""
    dead_since_ms: int | None = None


class Stream:
    """One stage of work.

    Everything raises Unavailable while Redis does not answer; a transition may have happened
    all the same, and repeating it is harmless.
    """

    def __init__(self, clients: RedisClients, policy: StreamPolicy) -> None:
        self.policy = policy
        self.stage = policy.stage
        # Any: redis-py's stubs unite every protocol's reply shapes.
        self._command: Any = clients.command
        self._blocking: Any = clients.blocking
        self._keys = [clients.key(policy.stage, name) for name in _KEYS]
        self._jobs, _, self._dead, self._at, _ = self._keys
        self._scripts = {
            name: Script(clients.command, "ledger", name)
            for name in (*_WORK_SCRIPTS, *_ADMIN_SCRIPTS)
        }
        self._cursor = "-"

    async def publish(self, jobs: Sequence[Job], *, exempt: bool = False) -> list[Published]:
        """Add the jobs that are neither live nor dead; one answer per job, in order.

        BUSY past high water, or when the stage is half full and the tenant holds its share
        (`tenant_share` of high water); relay and admin traffic is `exempt` from both.
        """
        policy = self.policy
        high = 0 if exempt else policy.high_water
        limits = (high, int(policy.tenant_share * policy.high_water), policy.high_water // 2)
        answers: list[Published] = []
        for chunk in chunks(jobs):
            rows = [text for job in chunk for text in (job.key, job.encode())]
            replies = await self._run("publish", *limits, *rows)
            answers += [Published[reply] for reply in replies]
        for answer, count in Counter(answers).items():
            metrics.JOBS_PUBLISHED.labels(stream=self.stage, result=answer).inc(count)
        return answers

    async def read(
        self, consumer: str, limit: int, *, block_s: float | None = None
    ) -> list[Delivery]:
        """Deliver up to `limit` new entries, waiting at most `block_s` (the policy's) for one.

        0 does not wait. Creates the group where it is missing, and buries what is no Job.
        May be cancelled: an entry that was on its way stays pending on this name.
        """
        wait_s = self.policy.block_s if block_s is None else min(block_s, self.policy.block_s)
        block_ms = milliseconds(wait_s) if wait_s > 0 else None
        try:
            with translated():
                reply = await self._blocking.xreadgroup(
                    GROUP, consumer, {self._jobs: ">"}, count=limit, block=block_ms
                )
        except EunoeError as error:
            if not _says(error, "NOGROUP", "UNBLOCKED"):
                raise
            await self._create_group()
            return []
        rows = [RawEntry(entry_id, 1, fields or {}) for entry_id, fields in entries_of(reply)]
        return await self._parsed(consumer, rows)

    async def reclaim(self, consumer: str, limit: int, *, alone: bool = False) -> Reclaimed:
        """Take over entries of silent consumers, and at once those that were handed back.

        An entry that went silent with two consumers is a suspect: it is left where it is,
        uncharged, unless `alone`, which takes one suspect and nothing else.
        """
        mode, wanted = ("alone", 1) if alone else ("crowd", limit)
        visibility_ms = milliseconds(self.policy.visibility_s)
        reply = await self._run(
            "reclaim", consumer, visibility_ms, wanted, self._cursor, POISON_AFTER, mode
        )
        self._cursor, suspects, silent, missing, *entries = reply
        metrics.JOBS_RECLAIMED.labels(stream=self.stage).inc(silent)
        if missing:
            await self.sweep()
        rows = [RawEntry(entry_id, count, pairs(flat)) for entry_id, count, flat in entries]
        return Reclaimed(await self._parsed(consumer, rows), bool(suspects))

    async def renew(self, consumer: str, entry_ids: Sequence[str]) -> set[str]:
        """Keep my entries mine for another visibility; the ids that still are."""
        kept: set[str] = set()
        for chunk in chunks(entry_ids):
            kept.update(await self._run("renew", consumer, *chunk))
        return kept

    async def settle(self, consumer: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """Move each entry to its next state, if it is still mine; one answer each, in order.

        A late ack passes: the work is done. A late retry or burial is refused as LOST.
        """
        answers: list[Settled] = []
        for chunk in chunks(settlements):
            rows = [text for settlement in chunk for text in settle_row(settlement)]
            replies = await self._run("settle", consumer, *rows)
            answers += [Settled(reply) for reply in replies]
        outcomes = Counter(
            OUTCOME[settlement.transition] if answer is Settled.OK else "lost"
            for settlement, answer in zip(settlements, answers, strict=True)
        )
        for outcome, count in outcomes.items():
            metrics.JOBS_SETTLED.labels(stream=self.stage, outcome=outcome).inc(count)
        return answers

    async def promote(self, limit: int = 100) -> int:
        """Move delayed jobs that are due into the stream; `limit` moved means: call again."""
        return int(await self._run("promote", limit))

    async def hand_back(self, consumer: str) -> int:
        """Give up all that is pending on this name and delete the consumer; how many entries.

        Others take them at once and no delivery is charged. The name must be one process's own.
        """
        visibility_ms = milliseconds(self.policy.visibility_s)
        handed = calls = 0
        while True:
            moved = int(await self._run("hand_back", consumer, visibility_ms, CHUNK))
            handed, calls = handed + moved, calls + 1
            # A read that was cancelled takes entries until Redis sees that its connection was
            # closed, also those that were just given back: the call after that finds them.
            if calls > 1 and not moved:
                return handed

    async def reap_consumers(self, idle_s: float) -> int:
        """Delete consumers that hold nothing and were idle for `idle_s`; how many."""
        return int(await self._run("reap", milliseconds(idle_s)))

    async def depth(self) -> Depth:
        return Depth(*(await self._run("depth"))[:4])

    async def load_of(self, tenant: str) -> int:
        """Live jobs of one tenant."""
        with translated():
            return int(await self._command.hget(self._keys[-1], tenant) or 0)

    async def oldest_age_s(self) -> float | None:
        """Seconds since the oldest live job was first published, by Redis' clock."""
        age_ms = int((await self._run("depth"))[4])
        return None if age_ms < 0 else age_ms / 1000

    async def in_flight_of(self, tenant: str) -> int:
        """Jobs of one tenant that consumers hold."""
        return int(await self._run("in_flight", tenant, _PENDING_LOOKED_AT))

    async def locations(self, jobs: Sequence[Job]) -> list[JobLocation | None]:
        """Where each job is, in order; None for one that is nowhere in this stage."""
        found: list[JobLocation | None] = []
        for chunk in chunks(jobs):
            replies = await self._run("whereabouts", *(job.key for job in chunk))
            found += [_job_location(*reply) if reply else None for reply in replies]
        return found

    async def dead(self, *, limit: int, before: str | None = None) -> list[DeadJob]:
        """The newest `limit` buried jobs, newest first; `before` is the last page's last id."""
        newest = f"({before}" if before else "+"
        with translated():
            rows = await self._command.xrevrange(self._dead, newest, "-", count=limit)
        return [dead_job(*row) for row in rows]

    async def dead_named(self, entry_ids: Sequence[str]) -> list[DeadJob]:
        """Those of the entries that are there, malformed ones included; a round trip per chunk."""
        found: list[DeadJob] = []
        for chunk in chunks(dict.fromkeys(entry_ids)):
            with translated():
                async with self._command.pipeline(transaction=False) as pipe:
                    for entry_id in chunk:
                        pipe.xrange(self._dead, entry_id, entry_id)
                    replies = await pipe.execute()
            found += [dead_job(*row) for rows in replies for row in rows]
        return found

    async def replay(self, entry_ids: Sequence[str] | None = None, *, limit: int = CHUNK) -> int:
        """Publish dead jobs again with their attempts forgotten; how many.

        Without ids the oldest `limit`. Malformed ones stay dead: discard them.
        """
        found = await (
            self._oldest_dead(limit) if entry_ids is None else self.dead_named(entry_ids)
        )
        found = [dead for dead in found if dead.job]
        replayed = 0
        for chunk in chunks(found):
            rows = [text for dead in chunk for text in replay_row(dead)]
            replayed += int(await self._run("replay", *rows))
        return replayed

    async def discard(self, entry_ids: Sequence[str]) -> int:
        """Forget dead jobs for good; how many of them there were."""
        return sum([int(await self._run("discard", *ids)) for ids in chunks(entry_ids)])

    async def sweep(self) -> int:
        """Clear ledger fields whose job was deleted by hand; how many. Reads the whole ledger."""
        cleared, cursor = 0, 0
        while True:
            with translated():
                cursor, page = await self._command.hscan(self._at, cursor, count=CHUNK)
            for keys in chunks(list(page)):
                cleared += int(await self._run("sweep", *keys))
            if cursor == 0:
                return cleared

    async def consumers(self) -> list[ConsumerState]:
        try:
            with translated():
                rows = await self._command.xinfo_consumers(self._jobs, GROUP)
        except EunoeError as error:
            if not _says(error, "NOGROUP", "no such key"):
                raise
            return []
        return [ConsumerState(row["name"], row["pending"], row["idle"]) for row in rows]

    def is_active(self, consumer: ConsumerState) -> bool:
        """Whether it spoke up lately: it reads every `block_s`, and renews while it is busy."""
        quiet_s = max(3 * (self.policy.block_s + 10.0), self.policy.visibility_s / 2)
        return consumer.name != RELEASED and consumer.idle_ms < quiet_s * 1000

    async def _run(self, script: str, *args: str | int) -> Any:
        return await self._scripts[script](self._keys, args)

    async def _create_group(self) -> None:
        """From id 0: entries that were added before the group existed are work, too."""
        try:
            with translated():
                await self._command.xgroup_create(self._jobs, GROUP, "0", mkstream=True)
        except EunoeError as error:
            if not _says(error, "BUSYGROUP"):
                raise

    async def _parsed(self, consumer: str, rows: Sequence[RawEntry]) -> list[Delivery]:
        """The entries as Jobs; what is none is buried here and now."""
        good: list[Delivery] = []
        bad: list[str] = []
        for row in rows:
            try:
                job = Job.decode(row.fields["job"])
            except (Malformed, KeyError) as error:
                bad += malformed_row(row, str(error))
            else:
                good.append(Delivery(job, row.entry_id, row.deliveries))
        if bad:
            buried = await self._run("settle", consumer, *bad)
            metrics.JOBS_SETTLED.labels(stream=self.stage, outcome="buried").inc(len(buried))
        return good

    async def _oldest_dead(self, limit: int) -> list[DeadJob]:
        """The oldest `limit` that can be replayed; malformed ones are passed over."""
        found: list[DeadJob] = []
        start = "-"
        while len(found) < limit:
            with translated():
                rows = await self._command.xrange(self._dead, start, "+", count=CHUNK)
            found += [dead for dead in (dead_job(*row) for row in rows) if dead.job]
            if len(rows) < CHUNK:
                break
            start = f"({rows[-1][0]}"
        return found[:limit]


def _says(error: EunoeError, *starts: str) -> bool:
    """Whether Redis' own answer behind `error` begins like this."""
    return isinstance(error.__cause__, ResponseError) and str(error.__cause__).startswith(starts)


def _job_location(
    state: State,
    job: str,
    due: str = "",
    error: str = "",
    dead_id: str = "",
    reason: str = "",
    buried: str = "",
) -> JobLocation:
    try:
        parsed = Job.decode(job)
    except Malformed:
        parsed = None
    due_ms, dead_since_ms = int(float(due)) if due else None, int(buried or 0) or None
    return JobLocation(state, parsed, due_ms, error, dead_id, reason, dead_since_ms)
