"""Stream: one stage's work, with a ledger of where each of its jobs is.

Every transition is one Lua script that changes the job and the ledger together. So a publish
adds nothing while the same job is live or a dead letter, and an entry is settled at most once.
Acked entries are deleted: the stream's length is the backlog and nothing is ever trimmed.
Every script begins with ledger.lua, which names the stage's keys. Arguments are encoded, and
replies become typed values, here and in transitions.py only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from shared.errors import EunoeError
from shared.redis.client import RedisClients, Script, scripts_beside, translated
from shared.streams.job import Delivery, Job, Malformed
from shared.streams.policy import StreamPolicy
from shared.streams.transitions import (
    MALFORMED,
    ConsumerState,
    DeadJob,
    DeadLetter,
    Defer,
    Depth,
    Done,
    JobLocation,
    Published,
    Reclaimed,
    Retry,
    Settled,
    Settlement,
)
from shared.telemetry import metrics

GROUP = "workers"
# Entries that were handed back after more than one delivery stay pending under this name, which no
# consumer has; the others are new entries again.
RELEASED = "released"
# One call of a script handles at most so many jobs: it holds Redis for some milliseconds.
CHUNK = 500
# After two deliveries, two consumers went silent with the entry: it may crash the process, so
# its third delivery is to a consumer that handles nothing else at that time.
_POISON_AFTER = 2
_SCRIPTS = scripts_beside(__file__)
_ERROR_CHARS = 2048
# There may be as many delayed jobs as high water allows, and Redis keeps this twice.
_DELAYED_ERROR_CHARS = 256
# More entries than all consumers together hold, unless there are very many of them.
_PENDING_LOOKED_AT = 2_000
# An entry as Redis delivered it: its id, how often it was delivered, and its fields.
_Entry = tuple[str, int, Mapping[str, str]]


class StageKeys(NamedTuple):
    """The Redis keys of one stage, in the order in which ledger.lua names them."""

    jobs: str
    delayed: str
    dead: str
    at: str
    load: str


class Stream:
    """One stage of work; any number of jobs or entries is passed on in chunks.

    Every method raises Unavailable while Redis does not answer; a script may have run all the
    same, and repeating it is harmless.
    """

    def __init__(self, clients: RedisClients, policy: StreamPolicy) -> None:
        self.policy = policy
        self.stage = policy.stage
        self.keys = StageKeys(*(clients.key(policy.stage, name) for name in StageKeys._fields))
        # Any: redis-py's stubs unite every protocol's reply shapes.
        self._command: Any = clients.command
        self._blocking: Any = clients.blocking
        self._scripts = {
            name: Script(clients.command, _SCRIPTS["ledger"], text)
            for name, text in _SCRIPTS.items()
        }
        self._visibility_ms = _milliseconds(policy.limits.visibility_s)
        self._cursor = "-"  # where the next reclaim goes on

    async def publish(self, jobs: Sequence[Job], *, exempt: bool = False) -> list[Published]:
        """Add the jobs that are neither live nor dead; return one result per job, in order.

        BUSY past high water, or when the stage is half full and the tenant holds its share
        (`tenant_share` of high water); relay and admin traffic is `exempt` from both.
        """
        share, high_water = self.policy.limits.tenant_share, self.policy.limits.high_water
        limits = (0 if exempt else high_water, int(share * high_water), high_water // 2)
        replies = await self._rows("publish", limits, ((job.key, job.encode()) for job in jobs))
        results = [Published[reply] for reply in replies]
        for result, count in Counter(results).items():
            metrics.JOBS_PUBLISHED.labels(stream=self.stage, result=result).inc(count)
        return results

    async def read(
        self, consumer: str, limit: int, *, block_s: float | None = None
    ) -> list[Delivery]:
        """Deliver up to `limit` new entries, waiting at most `block_s` (the policy's) for one.

        0 does not wait. Creates the group where it is missing. A cancelled call may leave
        entries pending on this name.
        """
        wait_s = self.policy.block_s if block_s is None else min(block_s, self.policy.block_s)
        block_ms = _milliseconds(wait_s) if wait_s > 0 else None
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
        return await self._deliveries(consumer, _new_entries(reply))

    async def reclaim(self, consumer: str, limit: int, *, alone: bool = False) -> Reclaimed:
        """Take over entries of silent consumers, and at once those that were handed back.

        An entry that went silent with two consumers may crash the process. It stays where it
        is, uncharged, unless `alone`, which takes one such entry and nothing else.
        """
        mode, limit = ("alone", 1) if alone else ("together", limit)
        self._cursor, poison_waits, silent, deleted_by_hand, *rows = await self._call(
            "reclaim", consumer, self._visibility_ms, limit, self._cursor, _POISON_AFTER, mode
        )
        metrics.JOBS_RECLAIMED.labels(stream=self.stage).inc(silent)
        if deleted_by_hand:
            await self.sweep()
        entries = [
            (entry_id, deliveries, dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, deliveries, flat in rows
        ]
        return Reclaimed(await self._deliveries(consumer, entries), bool(poison_waits))

    async def renew(self, consumer: str, entry_ids: Sequence[str]) -> set[str]:
        """Hold entries for another visibility; return the ids that the consumer still holds."""
        return set(await self._rows("renew", [consumer], zip(entry_ids)))

    async def settle(self, consumer: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """Move each held entry to its next state; return one result each, in order.

        A late ack passes: the work is done. A late retry or dead letter is refused as LOST.
        """
        replies = await self._rows("settle", [consumer], map(_settlement_row, settlements))
        results = [Settled(reply) for reply in replies]
        outcomes = Counter(
            settlement.outcome.label if result is Settled.OK else "lost"
            for settlement, result in zip(settlements, results, strict=True)
        )
        for outcome, count in outcomes.items():
            metrics.JOBS_SETTLED.labels(stream=self.stage, outcome=outcome).inc(count)
        return results

    async def promote(self, limit: int = 100) -> int:
        """Move delayed jobs that are due into the stream; `limit` moved means: call again."""
        return int(await self._call("promote", limit))

    async def hand_back(self, consumer: str) -> int:
        """Release the consumer's pending entries and delete it; return how many they were.

        Others get them at once and no delivery is counted. No other process may use the name.
        """
        release = partial(self._call, "hand_back", consumer, self._visibility_ms, CHUNK)
        handed = int(await release())
        # A cancelled read gets entries until Redis sees that its connection was closed, among
        # them those that were just handed back: the next call finds them.
        while moved := int(await release()):
            handed += moved
        return handed

    async def reap_consumers(self, idle_s: float) -> int:
        """Delete consumers that hold nothing and were idle for `idle_s`; return how many."""
        return int(await self._call("reap", _milliseconds(idle_s)))

    async def depth(self) -> Depth:
        ready, pending, delayed, dead, age_ms = await self._call("depth")
        return Depth(ready, pending, delayed, dead, None if age_ms < 0 else age_ms / 1000)

    async def load_of(self, tenant: str) -> int:
        """Return how many live jobs the tenant has."""
        with translated():
            return int(await self._command.hget(self.keys.load, tenant) or 0)

    async def in_flight_of(self, tenant: str) -> int:
        """Return how many of the tenant's jobs consumers hold."""
        return int(await self._call("in_flight", tenant, _PENDING_LOOKED_AT))

    async def locations(self, jobs: Sequence[Job]) -> list[JobLocation | None]:
        """Return where each job is, in order; None for one that is nowhere in this stage."""
        replies = await self._rows("locations", [], ([job.key] for job in jobs))
        return [JobLocation.of(*reply) if reply else None for reply in replies]

    async def consumers(self) -> list[ConsumerState]:
        rows: list[dict[str, Any]] = []
        with _expecting("NOGROUP", "no such key"):
            rows = await self._command.xinfo_consumers(self.keys.jobs, GROUP)
        return [ConsumerState(row["name"], row["pending"], row["idle"]) for row in rows]

    def is_active(self, consumer: ConsumerState) -> bool:
        """Return whether it called lately: it reads every `block_s`, or renews while busy."""
        quiet_s = max(self.policy.silence_limit_s, self.policy.limits.visibility_s / 2)
        return consumer.name != RELEASED and consumer.idle_ms < quiet_s * 1000

    async def sweep(self) -> int:
        """Delete ledger fields whose job was deleted by hand; return how many. Reads all."""
        cleared, cursor = 0, 0
        while True:
            with translated():
                cursor, page = await self._command.hscan(self.keys.at, cursor, count=CHUNK)
            cleared += sum(await self._rows("sweep", [], zip(page)))
            if cursor == 0:
                return int(cleared)

    async def dead(self, *, limit: int, before: str | None = None) -> list[DeadJob]:
        """Return `limit` dead letters, newest first; `before`: the last page's last id."""
        newest = f"({before}" if before else "+"
        with translated():
            rows = await self._command.xrevrange(self.keys.dead, newest, "-", count=limit)
        return [DeadJob.of(*row) for row in rows]

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
            found += [DeadJob.of(*row) for rows in replies for row in rows]
        return found

    async def replay(self, entry_ids: Sequence[str]) -> int:
        """Publish dead letters again with no attempt counted; return how many.

        Malformed ones stay dead: discard them.
        """
        rows = [
            (letter.entry_id, letter.job.key, replace(letter.job, attempt=0).encode())
            for letter in await self.dead_named(entry_ids)
            if letter.job
        ]
        return sum(await self._rows("replay", [], rows))

    async def discard(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many of them there were."""
        return sum(await self._rows("discard", [], zip(dead_ids)))

    async def _deliveries(self, consumer: str, entries: Iterable[_Entry]) -> list[Delivery]:
        """Return the entries as jobs; an entry that is none becomes a dead letter here."""
        deliveries: list[Delivery] = []
        malformed: list[Sequence[str]] = []
        for entry_id, count, fields in entries:
            try:
                deliveries.append(Delivery(Job.decode(fields["job"]), entry_id, count))
            except (Malformed, KeyError) as error:
                key, stored = fields.get("key", ""), json.dumps(fields, sort_keys=True)
                row = _dead_letter_row(entry_id, key, stored, MALFORMED, str(error), 0)
                malformed.append(row)
        if malformed:
            await self._rows("settle", [consumer], malformed)
            settled = metrics.JOBS_SETTLED.labels(stream=self.stage, outcome=DeadLetter.label)
            settled.inc(len(malformed))
        return deliveries

    async def _call(self, name: str, *args: str | int) -> Any:
        return await self._scripts[name](self.keys, args)

    async def _rows(
        self, name: str, args: Sequence[str | int], rows: Iterable[Sequence[str]]
    ) -> list[Any]:
        """Call the script with `args` and each chunk of rows; return all replies in order."""
        replies: list[Any] = []
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            reply = await self._call(name, *args, *chain.from_iterable(chunk))
            replies += reply if isinstance(reply, list) else [reply]
        return replies


def _new_entries(reply: Any) -> Iterator[_Entry]:
    """Yield XREADGROUP's entries; its reply is a dict where a URL asks for protocol 3."""
    pages = chain(*reply.values()) if isinstance(reply, dict) else (page for _, page in reply)
    return ((entry_id, 1, fields or {}) for page in pages for entry_id, fields in page)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _settlement_row(settlement: Settlement) -> Sequence[str]:
    entry_id, key = settlement.delivery.entry_id, settlement.delivery.job.key
    job = settlement.job
    match settlement.outcome:
        case Done():
            return entry_id, key, "ack"
        case Retry(error, delay_s) | Defer(error, delay_s):
            delay_ms = str(round((delay_s or 0.0) * 1000))
            line = " ".join(error.split())[:_DELAYED_ERROR_CHARS]
            return entry_id, key, "delay", job.encode(), delay_ms, line
        case DeadLetter(reason, error):
            return _dead_letter_row(entry_id, key, job.encode(), reason, error, job.attempt)


def _dead_letter_row(
    entry_id: str, key: str, stored: str, reason: str, error: str, attempts: int
) -> Sequence[str]:
    return entry_id, key, "dead_letter", stored, reason, error[:_ERROR_CHARS], str(attempts)


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
