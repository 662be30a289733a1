"""Call the Lua scripts of a stage: each signature here is what its script expects.

Every script begins with ledger.lua, which names the stage's keys. Arguments are encoded, and
replies become typed values, in this file only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, NamedTuple

from shared.redis.client import RedisClients, Script, scripts_beside
from shared.streams.job import Job, Malformed
from shared.streams.policy import StreamPolicy
from shared.streams.transitions import (
    DeadJob,
    DeadLetter,
    Defer,
    Depth,
    Done,
    JobLocation,
    Published,
    Retry,
    Settled,
    Settlement,
)
from shared.telemetry import metrics

# One call of a script handles at most so many jobs: it holds Redis for some milliseconds.
CHUNK = 500
# After two deliveries, two consumers went silent with the entry: it may crash the process, so
# its third delivery is to a consumer that handles nothing else at that time.
POISON_AFTER = 2
MALFORMED = "malformed"
_SCRIPTS = scripts_beside(__file__)
_ERROR_CHARS = 2048
# There may be as many delayed jobs as high water allows, and Redis keeps this twice.
_DELAYED_ERROR_CHARS = 256
# More entries than all consumers together hold, unless there are very many of them.
_PENDING_LOOKED_AT = 2_000


class StageKeys(NamedTuple):
    """The Redis keys of one stage, in the order in which ledger.lua names them."""

    jobs: str
    delayed: str
    dead: str
    at: str
    load: str


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as Redis delivered it, before it is known to be a Job."""

    entry_id: str
    deliveries: int
    fields: Mapping[str, str]


class StageScripts:
    """The scripts of one stage; any number of jobs or entries is passed on in chunks.

    Every method raises Unavailable while Redis does not answer; a script may have run all the
    same, and repeating it is harmless.
    """

    def __init__(self, clients: RedisClients, policy: StreamPolicy) -> None:
        self.policy = policy
        self.stage = policy.stage
        self.keys = StageKeys(*(clients.key(policy.stage, name) for name in StageKeys._fields))
        self._scripts = {
            name: Script(clients.command, _SCRIPTS["ledger"], text)
            for name, text in _SCRIPTS.items()
        }
        self._cursor = "-"  # where the next reclaim goes on

    async def publish(self, jobs: Sequence[Job], *, exempt: bool = False) -> list[Published]:
        """Add the jobs that are neither live nor dead; return one result per job, in order.

        BUSY past high water, or when the stage is half full and the tenant holds its share
        (`tenant_share` of high water); relay and admin traffic is `exempt` from both.
        """
        high_water = self.policy.high_water
        tenant_limit, crowded_from = int(self.policy.tenant_share * high_water), high_water // 2
        limits = (0 if exempt else high_water, tenant_limit, crowded_from)
        replies = await self._rows("publish", limits, ((job.key, job.encode()) for job in jobs))
        results = [Published[reply] for reply in replies]
        for result, count in Counter(results).items():
            metrics.JOBS_PUBLISHED.labels(stream=self.stage, result=result).inc(count)
        return results

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

    async def reap_consumers(self, idle_s: float) -> int:
        """Delete consumers that hold nothing and were idle for `idle_s`; return how many."""
        return int(await self._call("reap", milliseconds(idle_s)))

    async def depth(self) -> Depth:
        ready, pending, delayed, dead, age_ms = await self._call("depth")
        return Depth(ready, pending, delayed, dead, None if age_ms < 0 else age_ms / 1000)

    async def in_flight_of(self, tenant: str) -> int:
        """Return how many of the tenant's jobs consumers hold."""
        return int(await self._call("in_flight", tenant, _PENDING_LOOKED_AT))

    async def locations(self, jobs: Sequence[Job]) -> list[JobLocation | None]:
        """Return where each job is, in order; None for one that is nowhere in this stage."""
        replies = await self._rows("locations", [], ([job.key] for job in jobs))
        return [_location(reply) if reply else None for reply in replies]

    async def discard(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many of them there were."""
        return sum(await self._rows("discard", [], zip(dead_ids)))

    async def _reclaim(
        self, consumer: str, limit: int, *, alone: bool
    ) -> tuple[list[RawEntry], bool, bool]:
        """Return the entries, whether poison waits, and whether others were deleted by hand."""
        mode, limit = ("alone", 1) if alone else ("together", limit)
        visibility_ms = milliseconds(self.policy.visibility_s)
        self._cursor, poison_waits, silent, missing, *rows = await self._call(
            "reclaim", consumer, visibility_ms, limit, self._cursor, POISON_AFTER, mode
        )
        metrics.JOBS_RECLAIMED.labels(stream=self.stage).inc(silent)
        entries = [
            RawEntry(entry_id, deliveries, dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, deliveries, flat in rows
        ]
        return entries, bool(poison_waits), bool(missing)

    async def _settle_malformed(
        self, consumer: str, errors: Sequence[tuple[RawEntry, str]]
    ) -> None:
        """Make dead letters of entries that hold no valid job; their fields are kept as JSON."""
        rows = []
        for entry, error in errors:
            fields, key = json.dumps(entry.fields, sort_keys=True), entry.fields.get("key", "")
            rows.append(_dead_letter_row(entry.entry_id, key, fields, MALFORMED, error, 0))
        replies = await self._rows("settle", [consumer], rows)
        settled = metrics.JOBS_SETTLED.labels(stream=self.stage, outcome=DeadLetter.label)
        settled.inc(len(replies))

    async def _hand_back(self, consumer: str) -> int:
        """Release at most CHUNK pending entries; delete the consumer if it has none left."""
        visibility_ms = milliseconds(self.policy.visibility_s)
        return int(await self._call("hand_back", consumer, visibility_ms, CHUNK))

    async def _replay(self, dead: Sequence[DeadJob]) -> int:
        """Turn dead letters into jobs with no attempt yet; return how many there still were."""
        rows = [
            (letter.entry_id, letter.job.key, replace(letter.job, attempt=0).encode())
            for letter in dead
            if letter.job
        ]
        return sum(await self._rows("replay", [], rows))

    async def _sweep(self, job_keys: Sequence[str]) -> int:
        """Delete the ledger's fields of jobs that no longer exist; return how many."""
        return sum(await self._rows("sweep", [], zip(job_keys)))

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


def new_entries(reply: Any) -> list[RawEntry]:
    """Return XREADGROUP's entries; its reply is a dict where a URL asks for protocol 3."""
    if isinstance(reply, dict):
        pages = [page for pages in reply.values() for page in pages]
    else:
        pages = [page for _, page in reply or ()]
    return [RawEntry(entry_id, 1, fields or {}) for page in pages for entry_id, fields in page]


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _job_or_none(text: str) -> Job | None:
    try:
        return Job.decode(text)
    except Malformed:
        return None


def dead_job(entry_id: str, fields: Mapping[str, str]) -> DeadJob:
    """Return the dead letter that an entry of the dead stream holds."""
    raw, reason = fields.get("job", ""), fields.get("reason", "")
    return DeadJob(
        entry_id=entry_id,
        job=None if reason == MALFORMED else _job_or_none(raw),
        reason=reason,
        error=fields.get("error", ""),
        attempts=int(fields.get("attempts", 0)),
        deliveries=int(fields.get("deliveries", 0)),
        first_ms=int(fields.get("first", 0)),
        dead_since_ms=int(fields.get("buried", 0)),
        consumer=fields.get("consumer", ""),
        raw=raw,
    )


def _location(reply: Sequence[Any]) -> JobLocation:
    state, job, due_ms, error, dead_id, reason, dead_since_ms = reply
    return JobLocation(
        state,
        _job_or_none(job),
        due_ms=int(float(due_ms)) if due_ms else None,
        error=error,
        dead_id=dead_id,
        reason=reason,
        dead_since_ms=int(dead_since_ms) if dead_since_ms else None,
    )


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
