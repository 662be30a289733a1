"""Admission: while the backlog is full a write is refused before anything is stored.

The backlog is read at most once a second, and its counts are used until the next reading. From
half of the limit (`high_water`) on, a tenant that has more than its share of it is refused, so
that one tenant cannot shut out the others. While Redis does not answer no write is refused: the
graph stores it, and the relay publishes its jobs later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from shared.errors import Overloaded, TransientError
from shared.streams.stream import Stream

_TRUSTED_FOR_S = 1.0
_RETRY_AFTER_S = 5.0


class Admission:
    """Refuses writes by the backlog, as it was at most one second ago."""

    def __init__(self, streams: Sequence[Stream], *, up: Callable[[], bool] = lambda: True) -> None:
        self._streams = streams
        self._up = up
        limits = streams[0].policy.limits
        self._high_water = limits.high_water
        self._share = int(limits.tenant_share * limits.high_water)
        self._read_at = -_TRUSTED_FOR_S
        self._backlog = 0
        self._loads: dict[str, tuple[float, int]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def admit(self, tenant: str) -> None:
        """Raises: Overloaded while the backlog, or the tenant's share of it, is full."""
        if not self._up():
            return
        if time.monotonic() - self._read_at >= _TRUSTED_FOR_S:
            await self._read_once()
        if self._backlog >= self._high_water:
            raise Overloaded(
                f"The backlog is full ({self._high_water} jobs); nothing was stored",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._backlog * 2 >= self._high_water and await self._load(tenant) >= self._share:
            raise Overloaded(
                f"The backlog holds this tenant's share ({self._share} jobs); nothing was stored",
                retry_after_s=_RETRY_AFTER_S,
            )

    async def _read_once(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="admission")
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            depths = await asyncio.gather(*(stream.depth() for stream in self._streams))
        except TransientError:
            self._backlog = 0
        else:
            self._backlog = max((depth.live for depth in depths), default=0)
        self._read_at = time.monotonic()

    async def _load(self, tenant: str) -> int:
        at, load = self._loads.get(tenant, (-_TRUSTED_FOR_S, 0))
        if time.monotonic() - at < _TRUSTED_FOR_S:
            return load
        try:
            loads = await asyncio.gather(*(stream.load_of(tenant) for stream in self._streams))
            load = max(loads)
        except TransientError:
            load = 0
        self._loads[tenant] = (time.monotonic(), load)
        return load
