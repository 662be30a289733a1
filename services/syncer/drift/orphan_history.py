"""Since when each orphan point has been seen, in one audit after another.

A point whose memory does not exist now may have one again in a minute (a restore, a wrong
clock, a mistake that is corrected), so the scheduled repair deletes a point only if it was an
orphan a grace period ago too. What one audit does not see is dropped; if all of the history
is lost, the deletions come a grace period later.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.memory import now_ms
from shared.redis.client import RedisClients, translated

# Of one tenant; more orphans than that take several rounds.
_MOST = 100_000


class OrphanHistory:
    """Of any number of tenants; audits of one tenant must not overlap."""

    def __init__(self, clients: RedisClients, *, grace_s: float, interval_s: float) -> None:
        self._clients = clients
        self._grace_ms = int(grace_s * 1000)
        # An audit that comes late, or fails a few times, must still find them.
        self._kept_ms = int((grace_s + 3 * max(interval_s, 60.0)) * 1000)

    async def begin(self, tenant: str) -> None:
        with translated():
            await self._clients.command.unlink(self._keys(tenant)[1])

    async def deletable(self, tenant: str, point_ids: Sequence[str]) -> set[str]:
        """Note that these are seen now; return those first seen at least a grace period ago."""
        if not point_ids:
            return set()
        before, current = self._keys(tenant)
        now = now_ms()
        with translated():
            scores = await self._clients.command.zmscore(before, list(point_ids))
            since = dict(zip(point_ids, scores, strict=True))
            if await self._clients.command.zcard(current) < _MOST:
                first_seen = {key: int(now if at is None else at) for key, at in since.items()}
                async with self._clients.command.pipeline(transaction=True) as both:
                    both.zadd(current, first_seen)
                    both.pexpire(current, self._kept_ms)
                    await both.execute()
        return {key for key, at in since.items() if at is not None and at <= now - self._grace_ms}

    async def end(self, tenant: str) -> None:
        """Drop what this audit did not see."""
        before, current = self._keys(tenant)
        with translated():
            if await self._clients.command.exists(current):
                await self._clients.command.rename(current, before)
            else:
                await self._clients.command.unlink(before)

    def _keys(self, tenant: str) -> tuple[str, str]:
        """The sets of the audit before and of this one: point id → ms when first seen."""
        key = self._clients.key("drift", f"{tenant}:orphans")
        return key, f"{key}:now"
