"""LiveGeneration: open, create or follow the generation that the alias names."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from qdrant_client import AsyncQdrantClient

from shared.errors import ConfigError, Unavailable
from shared.vectors.generation import Generation, Generations, mismatch_message
from shared.vectors.observed_call import STORE, observed_call

_OLDEST_SERVER = (1, 17)  # the first with `update_mode`, and with filters on upserts before it
_REOPEN_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0


class LiveGeneration:
    """The generation that this process reads and writes; None until it was opened."""

    def __init__(
        self, client: AsyncQdrantClient, generations: Generations, timeout_s: float
    ) -> None:
        self.generation: Generation | None = None
        self._client = client
        self._generations = generations
        self._timeout_s = timeout_s
        self._reopen: Callable[[], Awaitable[Generation]] | None = None
        self._opening = asyncio.Lock()
        self._opened_at = -math.inf
        self._follows = False
        self._followed_at = -math.inf

    async def open(self, model: str, dimension: int, *, provider: str = "") -> Generation:
        """Use the live generation, and create it if there is none.

        Several processes may do so at once, and one may do so again. If Qdrant does not answer,
        the next call of any method opens the store.

        Raises: ConfigError if Qdrant is too old, or the live generation is another model's;
        Unavailable if it does not answer.
        """
        self._reopen = partial(self.open, model, dimension, provider=provider)
        async with self._opening:
            self._opened_at = monotonic()
            await self._check_server()
            live = await self._generations.live() or await self._first(model, dimension, provider)
            if not live.fits(model, dimension):
                raise ConfigError(mismatch_message(live, model, dimension))
            await self._generations.ensure_indexes(live)
            self.generation = live
            return live

    async def attach(self) -> Generation:
        """Follow the live generation whatever its model is: for a role that embeds nothing.

        Raises: ConfigError if Qdrant is too old; Unavailable if it does not answer, or while no
        embedding role has created a generation. The next call of any method tries again.
        """
        self._reopen = self.attach
        self._follows = True
        async with self._opening:
            self._opened_at = monotonic()
            await self._check_server()
            live = await self._generations.live()
            if live is None:
                raise Unavailable(STORE, "no generation has been created yet")
            self.generation, self._followed_at = live, monotonic()
            return live

    def use(self, generation: Generation) -> None:
        """Read and write `generation` from now on."""
        self.generation = generation
        self._reopen = partial(
            self.open, generation.model, generation.dimension, provider=generation.provider
        )

    def lost(self, generation: Generation) -> None:
        """Forget `generation`, whose collection is gone: the next call opens the live one again."""
        if generation == self.generation:
            self.generation = None

    async def current(self, *, trusted_s: float = FOLLOW_EVERY_S) -> Generation:
        """Return the live generation; a follower has looked at the alias within `trusted_s`."""
        live = self.generation or await self._reopened()
        if self._follows and monotonic() - self._followed_at >= trusted_s:
            began = monotonic()
            if (await self._generations.names()).live != live.collection:
                live = self.generation = await self._reopened(at_once=True)
            self._followed_at = began
        return live

    async def _reopened(self, *, at_once: bool = False) -> Generation:
        waited = at_once or monotonic() - self._opened_at >= _REOPEN_EVERY_S
        if self._reopen is None or not waited:
            raise Unavailable(STORE, "no generation is open")
        try:
            return await self._reopen()
        except ConfigError as error:  # it ends a start, but must not end a request
            raise Unavailable(STORE, str(error)) from error

    async def _first(self, model: str, dimension: int, provider: str) -> Generation:
        """Create generation 1, unless another process was first: then that one is live."""
        created = await self._generations.create(model, dimension, serial=1, provider=provider)
        live = await self._generations.live()
        if live is None:
            await self._generations.activate(created)
            live = await self._generations.live()
        return live or created

    async def _check_server(self) -> None:
        server = await observed_call("info", self._client.info(), self._timeout_s)
        numbers = tuple(int(number) for number in re.findall(r"\d+", server.version)[:2])
        if numbers < _OLDEST_SERVER:
            raise ConfigError(
                f"QDRANT_URL: Qdrant {server.version} is too old; conditional writes need 1.17"
            )
