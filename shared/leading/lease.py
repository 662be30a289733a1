"""Lease and Election: which process may lead, with a fencing token that the stores check.

Redis grants a lease for `ttl`, counted here from before the request was sent. A leader that was
paused may not notice that its lease has expired, so every write of a leader carries the fencing
token, and the graph rejects an older one. The rules are client-go's: ttl > renew deadline >
1.2 x retry; a term whose renewals fail for the deadline ends while its lease still holds, and
a lease is released only after the body has ended.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.config import LeaseSettings
from shared.errors import Unavailable
from shared.redis.client import RedisClients, Script, scripts_beside
from shared.telemetry import log
from shared.waiting import wait

_log = log.get_logger(__name__)
_SCRIPTS = scripts_beside(__file__)
_TOKEN_KEPT_MS = 30 * 86_400_000
_WEDGED_AFTER_S = 5.0


@dataclass(slots=True)
class Lease:
    """One term of one leader; `token` is greater than that of every term before it."""

    token: int
    holder: str
    expires_at: float  # monotonic; from then on another process may lead


class Election:
    """Campaigns for one lease; `holder` names the process to people who look into Redis."""

    def __init__(
        self, name: str, clients: RedisClients, settings: LeaseSettings, *, holder: str = "process"
    ) -> None:
        self.name = name
        self.lease: Lease | None = None  # the term that this process is in
        self._settings = settings
        self._holder = holder
        self._acquire = Script(clients.lease, _SCRIPTS["acquire"])
        self._release = Script(clients.lease, _SCRIPTS["release"])
        self._keys = [clients.key("lease", name), clients.key("lease", f"{name}:token")]

    def healthy(self) -> bool:
        """Return False once a body runs 5 s after its lease has ended: restart the process."""
        return self.lease is None or time.monotonic() - self.lease.expires_at <= _WEDGED_AFTER_S

    async def lead(self, body: Callable[[Lease], Awaitable[None]], stopping: asyncio.Event) -> None:
        """Wait until this process leads, then run `body(lease)` for at most that term.

        The body is cancelled when the lease is lost or `stopping` is set; afterwards, and
        only then, the lease is released. What the body raises is raised. Call it in a loop.
        """
        lease = await self._campaign(stopping)
        if lease is None:
            return
        self.lease = lease
        _log.info("lease.acquired", lease=self.name, token=lease.token)
        try:
            await self._run_term(lease, body, stopping)
        finally:
            self.lease = None
            await self._give_up(lease.holder)

    async def _campaign(self, stopping: asyncio.Event) -> Lease | None:
        """Return the lease of a new term; None when `stopping` came first."""
        holder = f"{self._holder}/{secrets.token_hex(6)}"
        lease = None
        try:
            while not stopping.is_set():
                if lease := await self._try_acquire(holder):
                    return lease
                await wait(stopping, self._settings.retry_every_s * random.uniform(1.0, 1.2))
        finally:
            # A request that seemed to fail may have got the lease: without this, others would wait.
            if lease is None:
                await self._give_up(holder)
        return None

    async def _try_acquire(self, holder: str) -> Lease | None:
        sent_at = time.monotonic()
        try:
            token = await self._token(holder, "acquire", self._settings.ttl_s)
        except Unavailable:
            return None
        expires_at = sent_at + self._settings.ttl_s
        if not token or expires_at <= time.monotonic():
            return None
        return Lease(token, holder, expires_at)

    async def _run_term(
        self, lease: Lease, body: Callable[[Lease], Awaitable[None]], stopping: asyncio.Event
    ) -> None:
        """Run the body until it ends, the process stops, or the lease is lost."""
        working = asyncio.ensure_future(body(lease))
        renewing = asyncio.create_task(self._renew(lease), name=f"lease-{self.name}-renew")
        leaving = asyncio.create_task(stopping.wait(), name=f"lease-{self.name}-stop")
        try:
            await asyncio.wait({working, renewing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Renewals go on until the body has ended, however long its clean-up takes.
            working.cancel()
            await asyncio.wait({working})
            for task in (renewing, leaving):
                task.cancel()
            await asyncio.wait({renewing, leaving})
        for task in (renewing, working):
            if not task.cancelled():
                task.result()

    async def _renew(self, lease: Lease) -> None:
        """Return when the lease is lost, or could not be renewed for the deadline."""
        settings = self._settings
        deadline = time.monotonic() + settings.renew_deadline_s
        while (remaining_s := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(settings.retry_every_s, remaining_s))
            sent_at = time.monotonic()
            try:
                token = await self._token(lease.holder, "renew", max(0.0, deadline - sent_at))
            except Unavailable as error:
                _log.warning("lease.unrenewed", lease=self.name, error=str(error))
                continue
            if not token:
                _log.warning("lease.lost", lease=self.name, token=lease.token)
                return
            deadline = sent_at + settings.renew_deadline_s
            lease.expires_at = sent_at + settings.ttl_s
        _log.warning("lease.expired", lease=self.name, token=lease.token)

    async def _token(self, holder: str, mode: str, limit_s: float) -> int:
        """Acquire or renew; return the term's token, or 0 when another process leads.

        Waits at most half of the deadline, as client-go: one request must not use it up.
        """
        limit_s = min(limit_s, self._settings.renew_deadline_s / 2)
        ttl_ms = int(self._settings.ttl_s * 1000)
        try:
            async with asyncio.timeout(limit_s):
                return int(await self._acquire(self._keys, [holder, ttl_ms, mode, _TOKEN_KEPT_MS]))
        except TimeoutError as error:
            raise Unavailable("redis", f"no answer within {limit_s:.1f} s") from error

    async def _give_up(self, holder: str) -> None:
        try:
            await self._release(self._keys[:1], [holder])
        except Unavailable as error:
            _log.warning("lease.unreleased", lease=self.name, error=str(error))
