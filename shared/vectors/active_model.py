"""Serving: the model and the generation that this process embeds with, as the aliases say.

Once a second the aliases are looked at. The model of a generation that is being filled is
opened before that one serves, so that the switch itself is one assignment: a pair of model
and generation is replaced by another, and whoever took the old pair ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from shared.config import EmbeddingSettings
from shared.errors import ConfigError, EunoeError, TransientError, Unavailable
from shared.models.embedding import EmbeddingModel
from shared.models.open import chosen_provider, named, open_embedding
from shared.telemetry.log import get_logger
from shared.vectors import Generation, VectorStore
from shared.vectors.generation import mismatch_message
from shared.waiting import wait

log = get_logger(__name__)

LOOK_EVERY_S = 1.0
# A look older than this is not trusted: the process was stopped, or Qdrant was silent.
_TRUSTED_S = 2.5
# A model that could not be opened is tried again after this long.
_AGAIN_S = 10.0
# A model that serves no more is closed when everybody who took it has surely ended.
_CLOSED_AFTER_S = 120.0

Wrap = Callable[[EmbeddingModel], EmbeddingModel]


@dataclass(frozen=True, slots=True, eq=False)
class ActiveModel:
    """A model and the generation of its vectors; none before Qdrant was reached."""

    model: EmbeddingModel
    generation: Generation | None


@dataclass(slots=True)
class _Opened:
    model: EmbeddingModel
    wanted_at: float


class ModelFollower:
    """`live` is read per request or batch, as a whole; `next` is filled beside it.

    `wrap` goes around every model that is opened, such as a cache.
    """

    def __init__(
        self,
        vectors: VectorStore,
        settings: EmbeddingSettings,
        configured: EmbeddingModel,
        *,
        wrap: Wrap = lambda model: model,
    ) -> None:
        self._vectors = vectors
        self._settings = settings
        self._wrap = wrap
        self._provider = chosen_provider(settings)
        self._configured = wrap(configured)
        self._opened = {_key(configured): _Opened(self._configured, monotonic())}
        self._refused: dict[str, tuple[float, str]] = {}
        self._aliased: tuple[Generation | None, Generation | None] = (None, None)
        self._looking = asyncio.Lock()
        self._looked_at = 0.0
        self.live = ActiveModel(self._configured, None)
        self.next: ActiveModel | None = None

    async def open(self) -> None:
        """Serve the live generation, with its own model if the configured one is another's.

        Raises: ConfigError if no generation at all is of the configured model, and the live
        one's own cannot be opened with these settings; Unavailable while Qdrant or that model
        does not answer.
        """
        name, dimension = _key(self._configured)
        live = await self._vectors.generations.live()
        if live is None or live.fits(name, dimension):
            await self._vectors.open(name, dimension, provider=self._provider)
        else:
            others = await self._vectors.generations.all()
            if not any(each.fits(name, dimension) for each in others):
                await self._demand(live)
            log.warning("serving.not_configured", live=live.collection, configured=name)
            await self._vectors.open(live.model, live.dimension, provider=live.provider)
        await self.look()
        await self._open_missing()
        await self.current()

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow the aliases until `stopping`; a model that takes long to open delays nothing."""
        opening: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while not await wait(stopping, LOOK_EVERY_S):
                try:
                    await self.look()
                except EunoeError as error:
                    log.warning("serving.unseen", error=str(error))
                if opening is None or opening.done():
                    opening = group.create_task(self._open_missing(), name="open models")
            if opening is not None:
                opening.cancel()

    async def look(self) -> None:
        """Follow the aliases now. Raises: Unavailable while Qdrant does not answer."""
        async with self._looking:
            began = monotonic()
            self._aliased = await self._look()
            self._settle()
            self._looked_at = began
            await self._close_unused()

    async def current(self) -> tuple[ActiveModel, ActiveModel | None]:
        """What to write to: the live pair, and the one that is being filled.

        Raises: Unavailable if that cannot be told, or the live generation's model cannot be
        opened here: whoever writes must not go on with the one before.
        """
        if monotonic() - self._looked_at > _TRUSTED_S:
            await self.look()
        live = self._aliased[0]
        if live is None or live != self.live.generation:
            name = live.collection if live else ""
            _, reason = self._refused.get(name, (0.0, "its model is being opened"))
            raise Unavailable("embedding", f"{name}: {reason}")
        return self.live, self.next

    def shown(self) -> dict[str, object]:
        """What /readyz tells; `live` is what this process serves, the alias may be ahead."""
        circuit = self.live.model.circuit
        return {
            "live": _name(self.live),
            "model": self.live.model.name,
            "next": _name(self.next),
            "not_opened": {name: error for name, (_, error) in self._refused.items()},
            "circuit": circuit.report() if circuit else None,
        }

    async def close(self) -> None:
        for opened in self._opened.values():
            await opened.model.close()

    async def _demand(self, live: Generation) -> None:
        """Open the model of a generation beside which none of the configured one is left.

        A switch whose old generation was dropped ends like this, and a restart must not end
        the process; what was never recorded is not guessed.
        """
        refusal = mismatch_message(live, *_key(self._configured))
        if not live.provider:
            raise ConfigError(refusal)
        if self._served(live) is not None:
            return
        try:
            model = await open_generation(self._settings, live)
        except ConfigError as error:
            raise ConfigError(f"{refusal} ({error})") from error
        except TransientError as error:
            raise Unavailable("embedding", str(error)) from error
        self._opened[_key(model)] = _Opened(self._wrap(model), monotonic())

    async def _look(self) -> tuple[Generation, Generation | None]:
        generations = self._vectors.generations
        names, serving = await generations.names(), self.live.generation
        live = serving
        if serving is None or names.live != serving.collection:
            live = await generations.live()
        if live is None:  # somebody emptied Qdrant; what is embedded now begins a new one
            provider = serving.provider if serving else self._provider
            live = await self._vectors.open(*_key(self.live.model), provider=provider)
        return live, await generations.next() if names.next else None

    def _settle(self) -> None:
        """Serve what the aliases name, as far as its model is open."""
        live, filling = (self._served(each) for each in self._aliased)
        self.next = filling
        if live is None or live.generation is None or live.generation == self.live.generation:
            return
        if self.live.generation is not None:
            log.info("serving.switched", live=live.generation.collection)
        self.live = live
        self._vectors.use(live.generation)

    def _served(self, generation: Generation | None) -> ActiveModel | None:
        if generation is None:
            return None
        opened = self._opened.get((generation.model, generation.dimension))
        return ActiveModel(opened.model, generation) if opened else None

    async def _open_missing(self) -> None:
        for generation in self._aliased:
            if generation is None or self._served(generation) is not None:
                continue
            failed_at, _ = self._refused.get(generation.collection, (-_AGAIN_S, ""))
            if monotonic() - failed_at < _AGAIN_S:
                continue
            try:
                model = await open_generation(self._settings, generation)
            except (ConfigError, TransientError) as error:
                self._refused[generation.collection] = (monotonic(), str(error))
                log.warning("serving.refused", collection=generation.collection, error=str(error))
            else:
                self._refused.pop(generation.collection, None)
                self._opened[_key(model)] = _Opened(self._wrap(model), monotonic())
                self._settle()

    async def _close_unused(self) -> None:
        """Close models that neither alias has named for a while; forget their refusals."""
        named_now = [each for each in (*self._aliased, self.live.generation) if each]
        self._refused = {
            name: told
            for name, told in self._refused.items()
            if name in {each.collection for each in named_now}
        }
        kept = {(each.model, each.dimension) for each in named_now}
        now = monotonic()
        for key, opened in list(self._opened.items()):
            if key in kept:
                opened.wanted_at = now
            elif now - opened.wanted_at > _CLOSED_AFTER_S:
                del self._opened[key]
                await opened.model.close()


def _key(model: EmbeddingModel) -> tuple[str, int]:
    return model.name, model.dimension


def _name(served: ActiveModel | None) -> str | None:
    return served.generation.collection if served and served.generation else None


async def open_generation(settings: EmbeddingSettings, generation: Generation) -> EmbeddingModel:
    """The model that a generation was filled by, proven to answer.

    Raises: ConfigError where this process cannot open it, or it is another one by now.
    """
    provider = generation.provider or chosen_provider(settings)
    model = await open_embedding(
        named(settings, provider, generation.model), preferred=generation.dimension
    )
    if not generation.fits(model.name, model.dimension):
        await model.close()
        raise ConfigError(mismatch_message(generation, model.name, model.dimension))
    return model
