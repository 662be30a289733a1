"""Consumer: read, batch, renew and hand back the entries of one stream. No business logic.

Every entry it holds waits for a batch or is in one, and is settled exactly once or left to
be reclaimed. When Redis goes away, every loop here tries again until it is back.

A batch holds each memory once; a second job of the same memory goes in a later batch, where
its handler sees what the first one wrote. Jobs of one memory may run at the same time in
other batches or consumers: the versions guard the effects.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from shared.errors import Unavailable
from shared.streams.batch import Batch, FailureListener, Handler
from shared.streams.job import Delivery
from shared.streams.policy import redis_backoff_s
from shared.streams.stream import Stream
from shared.telemetry import log, metrics
from shared.waiting import Pause, wait

_log = log.get_logger(__name__)
_PROMOTE_ROWS = 100


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A delivered job that has no batch yet; times are monotonic."""

    delivery: Delivery
    claimed_at: float
    leave_at: float


class Consumer:
    """One reader of a stream; its `name` must be this process's own.

    Holds at most `batches` batches of `batch_size`, and reads only what a free batch can take,
    so that a slow handler never holds work that another replica could do. `linger_s`: a batch
    that is not full starts when its oldest job was published that long ago. Both may be
    callables, which are called whenever the value is needed.
    `pause_s`: first and longest pause while a dependency is down.
    """

    def __init__(
        self,
        stream: Stream,
        handler: Handler,
        *,
        name: str,
        batch_size: int,
        batches: int | Callable[[], int] = 1,
        linger_s: float | Callable[[], float] = 0.0,
        pause_s: tuple[float, float] = (1.0, 30.0),
        on_failures: FailureListener | None = None,
    ) -> None:
        self._stream = stream
        self._policy = stream.policy
        self._visibility_s = stream.policy.limits.visibility_s
        self._handler = handler
        self._name = name
        self._batch_size = batch_size
        self._batches = batches if callable(batches) else lambda: batches
        self._linger_s = linger_s if callable(linger_s) else lambda: linger_s
        self._on_failures = on_failures
        self._pause = Pause(metrics.CONSUMER_PAUSED.labels(stream=stream.stage), pause_s)
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[Batch, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup
        self._freed = asyncio.Event()
        self._poison_waits = False
        self._reclaim_at = 0.0
        self._renewed_at = time.monotonic()
        self.ticked_at = time.monotonic()  # when the read loop last turned
        self.ready = asyncio.Event()  # set by the first read that succeeds

    def reads(self) -> bool:
        """Return whether the read loop still turns; a Redis that hangs does not stop it."""
        return time.monotonic() - self.ticked_at < self._policy.silence_limit_s

    async def run(self, stopping: asyncio.Event, *, drain_timeout_s: float) -> None:
        """Consume until `stopping` is set; then let handlers end, and hand back the rest.

        Nothing is pending on this name afterwards, unless Redis is down. Raises what a bug in
        a loop (no failure of a handler) raised, after handing back.
        """
        self._show_busy()
        try:
            async with asyncio.TaskGroup() as self._group:
                reading = [
                    self._group.create_task(self._read_forever(), name="consumer-read"),
                    self._group.create_task(self._promote_forever(), name="consumer-promote"),
                ]
                renewing = self._group.create_task(self._renew_forever(), name="consumer-renew")
                await stopping.wait()
                for task in reading:
                    task.cancel()
                await self._drain(drain_timeout_s)
                renewing.cancel()
        finally:
            await self._leave()

    async def _drain(self, timeout_s: float) -> None:
        """Wait for the running batches; cancel those that take longer, and wait until they end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _leave(self) -> None:
        self._waiting.clear()
        self._show_busy()
        try:
            handed = await self._stream.hand_back(self._name)
        except Unavailable as error:
            _log.warning("consumer.abandoned", stream=self._stream.stage, error=str(error))
        else:
            _log.info("consumer.left", stream=self._stream.stage, handed_back=handed)

    async def _read_forever(self) -> None:
        failures = 0
        while True:
            await self._until_room()
            try:
                await self._fill()
            except Unavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("stream.unreadable", stream=self._stream.stage, error=str(error))
                await asyncio.sleep(redis_backoff_s(failures))
            else:
                failures = 0
            self._start_batches()

    async def _until_room(self) -> None:
        """Wait until another batch may start, updating `ticked_at` meanwhile."""
        while True:
            self.ticked_at = time.monotonic()
            pause_s = self._pause.remaining_s()
            if not pause_s and self._free_batches() > 0:
                return
            self._freed.clear()
            await wait(self._freed, min(self._policy.block_s, pause_s or 60.0))

    def _free_batches(self) -> int:
        """Return how many batches may start now; one that may crash the process runs alone."""
        if any(batch.alone for batch in self._running):
            return 0
        allowed = 1 if self._poison_waits or self._pause.probing else self._batches()
        return allowed - len(self._running)

    async def _fill(self) -> None:
        """Reclaim where due, then read new entries, as many as the free batches take."""
        room = self._free_batches() * self._room_of_a_batch() - len(self._waiting)
        if self._poison_waits:
            # Waiting deliveries run first: the process may not survive the poison.
            if not self._waiting:
                await self._reclaim(1, alone=True)
            return
        if room > 0 and time.monotonic() >= self._reclaim_at:
            room -= await self._reclaim(room, alone=False)
        if room > 0 and not self._poison_waits:
            await self._read(room)

    async def _reclaim(self, room: int, *, alone: bool) -> int:
        claimed_at = time.monotonic()
        reclaimed = await self._stream.reclaim(self._name, room, alone=alone)
        self._poison_waits = reclaimed.poison_waits
        count = len(reclaimed.deliveries)
        self._reclaim_at = claimed_at + (0.0 if count >= room else self._visibility_s / 10)
        if alone and count:
            self._start(Batch(self._stream, reclaimed.deliveries, claimed_at, alone=True))
        else:
            self._add_waiting(reclaimed.deliveries, claimed_at)
        return count

    async def _read(self, room: int) -> None:
        claimed_at = time.monotonic()
        block_s = max(0.0, self._leave_at() - claimed_at) if self._waiting else None
        deliveries = await self._stream.read(self._name, room, block_s=block_s)
        self.ready.set()
        self._add_waiting(deliveries, claimed_at)

    def _add_waiting(self, deliveries: Sequence[Delivery], claimed_at: float) -> None:
        """Let deliveries wait for a batch, but for those held already (reclaimed from itself)."""
        held = set(self._held_ids())
        now, wall_ms, linger_s = time.monotonic(), time.time() * 1000, self._linger_s()
        for delivery in deliveries:
            if delivery.entry_id not in held:
                # Clamped: the server's clock may be off, the linger must not grow with it.
                age_s = min(max(0.0, (wall_ms - delivery.published_ms) / 1000), linger_s)
                self._waiting.append(_Waiting(delivery, claimed_at, now + linger_s - age_s))
        self._show_busy()

    def _start_batches(self) -> None:
        while self._waiting and not self._pause.remaining_s() and self._free_batches() > 0:
            may_linger = len(self._waiting) < self._room_of_a_batch() and not self._poison_waits
            if may_linger and self._leave_at() > time.monotonic():
                return
            self._start(self._next_batch())

    def _leave_at(self) -> float:
        """Return when the waiting jobs must start: reclaimed ones come later and may be older."""
        return min(waiting.leave_at for waiting in self._waiting)

    def _room_of_a_batch(self) -> int:
        """Return a batch's size: 1 to probe a dependency, so that a failure delays one job."""
        return 1 if self._pause.probing else self._batch_size

    def _next_batch(self) -> Batch:
        """Take the oldest waiting jobs, each memory once; the others keep their order."""
        chosen: dict[tuple[str, str], _Waiting] = {}
        rest: deque[_Waiting] = deque()
        room = self._room_of_a_batch()
        for waiting in self._waiting:
            job = waiting.delivery.job
            if len(chosen) < room and (job.tenant, job.memory_id) not in chosen:
                chosen[job.tenant, job.memory_id] = waiting
            else:
                rest.append(waiting)
        self._waiting = rest
        deliveries = [waiting.delivery for waiting in chosen.values()]
        claimed_at = min(waiting.claimed_at for waiting in chosen.values())
        return Batch(self._stream, deliveries, claimed_at)

    def _start(self, batch: Batch) -> None:
        self._running[batch] = self._group.create_task(self._run(batch), name="consumer-batch")
        self._show_busy()

    async def _run(self, batch: Batch) -> None:
        try:
            await batch.run(self._handler, self._name, self._pause, self._on_failures)
        finally:
            del self._running[batch]
            self._show_busy()
            self._freed.set()

    async def _renew_forever(self) -> None:
        """Keep holding every entry; without an answer for a whole visibility, drop them."""
        every_s = self._visibility_s / 3
        wait_s = every_s
        while True:
            await asyncio.sleep(wait_s)
            held, sent_at = self._held_ids(), time.monotonic()
            try:
                async with asyncio.timeout(self._expires_in_s()):
                    still_held = await self._stream.renew(self._name, held) if held else set()
            except (Unavailable, TimeoutError):
                wait_s = every_s / 10
            else:
                wait_s = every_s
                self._renewed_at = sent_at
                self._lose(set(held) - still_held)
            self._lose(self._expired_ids())

    def _expires_in_s(self) -> float:
        """Return the seconds until the first handler must end unless a renewal succeeds."""
        now = time.monotonic()
        claims = [batch.claimed_at for batch in self._running if batch.handling]
        since = max(self._renewed_at, min(claims, default=now))
        return max(0.0, since + self._visibility_s - now)

    def _expired_ids(self) -> set[str]:
        """Return the entries that another consumer may have by now: no renewal succeeded."""
        oldest = time.monotonic() - self._visibility_s
        if self._renewed_at > oldest:
            return set()
        expired = {row.delivery.entry_id for row in self._waiting if row.claimed_at <= oldest}
        for batch in self._running:
            if batch.handling and batch.claimed_at <= oldest:
                expired.update(batch.entry_ids)
        return expired

    def _lose(self, entry_ids: set[str]) -> None:
        if not entry_ids:
            return
        for batch in self._running:
            batch.lose(entry_ids)
        kept = (row for row in self._waiting if row.delivery.entry_id not in entry_ids)
        self._waiting = deque(kept)

    async def _promote_forever(self) -> None:
        while True:
            try:
                moved = await self._stream.promote(_PROMOTE_ROWS)
            except Unavailable:
                moved = 0  # the read loop reports it
            if moved < _PROMOTE_ROWS:
                await asyncio.sleep(self._policy.limits.promote_every_s)

    def _held_ids(self) -> list[str]:
        running = [entry_id for batch in self._running for entry_id in batch.entry_ids]
        return [row.delivery.entry_id for row in self._waiting] + running

    def _show_busy(self) -> None:
        slots = self._batches() * self._batch_size
        metrics.CONSUMER_SLOTS.labels(stream=self._stream.stage).set(slots)
        busy = len(self._waiting) + sum(len(batch.deliveries) for batch in self._running)
        metrics.CONSUMER_SLOTS_BUSY.labels(stream=self._stream.stage).set(busy)
