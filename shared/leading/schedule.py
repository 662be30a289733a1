"""Schedule: a task that one process of all runs, once per interval.

Each schedule has its own lease, kept between runs. When it last ran is noted in Redis by
the server's clock, so a change of leader neither skips nor repeats a run; if that note is
lost it runs soon, which is harmless because every body is idempotent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field

from shared.errors import EunoeError, Fenced, Unavailable
from shared.leading.lease import Election, Lease
from shared.redis.client import RedisClients, Script, scripts_beside
from shared.telemetry import log, metrics
from shared.waiting import backoff_s, wait

_log = log.get_logger(__name__)
_LAST_RUN = scripts_beside(__file__)["schedule"]
_SHORTEST_MEMORY_MS = 86_400_000
# A body that runs every second would fill the log: shorter intervals are logged as debug.
_LOGGED_FROM_S = 30.0


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """`body(lease)` every `interval_s` from start to start, on one replica; <= 0 disables it.

    `wait_first`: when no run is noted, the first comes after an interval.
    `resign` is called at the end of a term, such as to withdraw metrics that only a leader sets.
    """

    name: str
    interval_s: float
    body: Callable[[Lease], Awaitable[None]]
    wait_first: bool = False
    resign: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Schedule:
    """Runs a task on the leader.

    Each wait is up to `jitter` (a ratio) longer, so that schedules spread. A body that fails
    is tried again after `retry_s`, doubling up to the interval; Fenced ends the term at once.
    """

    task: ScheduledTask
    election: Election
    clients: RedisClients
    _: KW_ONLY
    jitter: float = 0.1
    retry_s: float = 5.0
    _failures: int = field(default=0, init=False)
    _last_run: Script = field(init=False)
    _key: str = field(init=False)  # of the note when it last ran

    def __post_init__(self) -> None:
        self._last_run = Script(self.clients.command, _LAST_RUN)
        self._key = self.clients.key("schedule", self.task.name)

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead whenever possible until `stopping` is set; the lease is released at the end."""
        if self.task.interval_s <= 0:
            _log.info("schedule.disabled", schedule=self.task.name)
            return
        metrics.LEADER.labels(schedule=self.task.name).set(0)
        while not stopping.is_set():
            try:
                await self.election.lead(self._term, stopping)
            except Fenced as error:
                await wait(stopping, self._note_failure(error))

    async def _term(self, lease: Lease) -> None:
        """Run the body whenever it is due, for as long as this process leads."""
        gauge = metrics.LEADER.labels(schedule=self.task.name)
        metrics.LEADER_TERMS.labels(schedule=self.task.name).inc()
        gauge.set(1)
        try:
            wait_s = await self._until_due_s()
            while True:
                await asyncio.sleep(wait_s)
                wait_s = await self._run_once(lease)
        finally:
            gauge.set(0)
            self.task.resign()

    async def _run_once(self, lease: Lease) -> float:
        """Run the body and note it; return the seconds until it is due again."""
        started_at = time.monotonic()
        try:
            await self.task.body(lease)
            # Not before: a leader that dies in its body must leave the run to the next one.
            await self._note_run()
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 - a tick's blanket catch: the next one comes
            return self._note_failure(error)
        finally:
            elapsed_s = time.monotonic() - started_at
            metrics.SCHEDULE_DURATION.labels(schedule=self.task.name).observe(elapsed_s)
        self._failures = 0
        metrics.SCHEDULE_LAST_SUCCESS.labels(schedule=self.task.name).set_to_current_time()
        write = _log.info if self.task.interval_s >= _LOGGED_FROM_S else _log.debug
        write("schedule.ran", schedule=self.task.name, elapsed_s=round(elapsed_s, 3))
        return max(0.0, self._interval_s() - elapsed_s)

    def _interval_s(self) -> float:
        return self.task.interval_s * (1 + random.uniform(0.0, self.jitter))

    async def _until_due_s(self) -> float:
        """Return the seconds until the next run, whichever process ran last; 0 if none did."""
        try:
            now_ms, last_ms = await self._last_run([self._key], [0])
        except Unavailable:
            return 0.0
        if not last_ms and self.task.wait_first:
            await self._note_run()
            return self._interval_s()
        return due_in_s(now_ms, last_ms, self._interval_s())

    async def _note_run(self) -> None:
        kept_ms = max(_SHORTEST_MEMORY_MS, int(self.task.interval_s * 2000))
        try:
            await self._last_run([self._key], [kept_ms])
        except Unavailable as error:
            _log.warning("schedule.unnoted", schedule=self.task.name, error=str(error))

    def _note_failure(self, error: Exception) -> float:
        """Count and log a failed run; return the pause before the next one in s."""
        self._failures += 1
        metrics.SCHEDULE_FAILURES.labels(schedule=self.task.name).inc()
        # Only our own errors are known to quote no memory.
        text = str(error) if isinstance(error, EunoeError) else type(error).__name__
        frames = log.frames_of(error)
        _log.error("schedule.failed", schedule=self.task.name, error=text, frames=frames)
        pause_s = backoff_s(self._failures, first_s=self.retry_s, longest_s=self.task.interval_s)
        return pause_s * random.uniform(0.75, 1.0)


def due_in_s(now_ms: int, last_ms: int, interval_s: float) -> float:
    """Return the seconds until a run is due: 0 for a `last_ms` of 0 or in the future."""
    if not 0 < last_ms <= now_ms:
        return 0.0
    return max(0.0, interval_s - (now_ms - last_ms) / 1000)
