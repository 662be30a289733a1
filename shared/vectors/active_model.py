"""ModelFollower: which model and generation this process embeds with, as the aliases say.

The aliases are read once a second. The model of a generation that is being filled is opened
before that generation becomes live, so that the switch is one assignment: one pair of model and
generation replaces another, and work that began with the old pair ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from shared.config import EmbeddingSettings
from shared.errors import ConfigError, EunoeError, TransientError, Unavailable
from shared.models.open import chosen_provider, named, open_embedding
from shared.models.types import EmbeddingModel
from shared.telemetry.log import get_logger
from shared.vectors import Generation, VectorStore
from shared.vectors.generation import mismatch_message
from shared.waiting import wait

log = get_logger(__name__)

REFRESH_EVERY_S = 1.0
# Aliases read longer ago are not trusted: the process was stopped, or Qdrant did not answer.
_TRUSTED_S = 2.5
# After this time a model that could not be opened is tried again.
_REOPEN_AFTER_S = 10.0
# A former model is closed when all work that began with it has surely ended.
_CLOSE_AFTER_S = 120.0

Wrap = Callable[[EmbeddingModel], EmbeddingModel]


@dataclass(frozen=True, slots=True, eq=False)
class ActiveModel:
    """A model and the generation that holds its vectors.

    `generation` is None until the process has reached Qdrant for the first time.
    """

    model: EmbeddingModel
    generation: Generation | None


@dataclass(slots=True)
class _Opened:
    model: EmbeddingModel
    named_at: float  # when an alias last named its generation, monotonic


class ModelFollower:
    """Keeps `live` and `next` at the models of the generations that the aliases name.

    A request or batch reads `live` once and uses it to its end. `next` is the model of the
    generation that is being filled, None where there is none.
    `wrap` is applied to every model that is opened, for instance to add a cache.
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
        self._refreshing = asyncio.Lock()
        self._refreshed_at = 0.0
        self.live = ActiveModel(self._configured, None)
        self.next: ActiveModel | None = None

    async def open(self) -> None:
        """Use the live generation, with its own model if another one is configured.

        Raises: ConfigError if no generation is of the configured model and the live generation's
        model cannot be opened with these settings; Unavailable while Qdrant or that model does
        not answer.
        """
        name, dimension = _key(self._configured)
        live = await self._vectors.generations.live()
        if live is None or live.fits(name, dimension):
            await self._vectors.live.open(name, dimension, provider=self._provider)
        else:
            others = await self._vectors.generations.all()
            if not any(each.fits(name, dimension) for each in others):
                await self._open_live(live)
            log.warning("serving.not_configured", live=live.collection, configured=name)
            await self._vectors.live.open(live.model, live.dimension, provider=live.provider)
        await self.refresh()
        await self._open_missing()
        await self.current()

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow the aliases until `stopping`; opening a model does not delay that."""
        opening: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while not await wait(stopping, REFRESH_EVERY_S):
                try:
                    await self.refresh()
                except EunoeError as error:
                    log.warning("serving.unseen", error=str(error))
                if opening is None or opening.done():
                    opening = group.create_task(self._open_missing(), name="open models")
            if opening is not None:
                opening.cancel()

    async def refresh(self) -> None:
        """Read the aliases now. Raises: Unavailable while Qdrant does not answer."""
        async with self._refreshing:
            began = monotonic()
            self._aliased = await self._read_aliases()
            self._follow()
            self._refreshed_at = began
            await self._close_unused()

    async def current(self) -> tuple[ActiveModel, ActiveModel | None]:
        """Return the pairs to write to: the live one, and the one that is being filled.

        Raises: Unavailable if the aliases cannot be read, or if the live generation's model cannot
        be opened here: a writer must not continue with the former one.
        """
        if monotonic() - self._refreshed_at > _TRUSTED_S:
            await self.refresh()
        live = self._aliased[0]
        if live is None or live != self.live.generation:
            name = live.collection if live else ""
            _, reason = self._refused.get(name, (0.0, "its model is being opened"))
            raise Unavailable("embedding", f"{name}: {reason}")
        return self.live, self.next

    def report(self) -> dict[str, object]:
        """Return what /readyz shows; `live` is in use here even if the alias has moved on."""
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

    async def _open_live(self, live: Generation) -> None:
        """Open the live generation's model, since no generation of the configured one is left.

        That is the state after a switch whose old generation was dropped, and a restart must not
        fail because of it. Without a recorded provider, none is guessed.
        """
        refusal = mismatch_message(live, *_key(self._configured))
        if not live.provider:
            raise ConfigError(refusal)
        if self._pair(live) is not None:
            return
        try:
            model = await open_generation(self._settings, live)
        except ConfigError as error:
            raise ConfigError(f"{refusal} ({error})") from error
        except TransientError as error:
            raise Unavailable("embedding", str(error)) from error
        self._opened[_key(model)] = _Opened(self._wrap(model), monotonic())

    async def _read_aliases(self) -> tuple[Generation, Generation | None]:
        generations = self._vectors.generations
        names, used = await generations.names(), self.live.generation
        live = used
        if used is None or names.live != used.collection:
            live = await generations.live()
        if live is None:  # Qdrant was emptied: start a new generation
            provider = used.provider if used else self._provider
            live = await self._vectors.live.open(*_key(self.live.model), provider=provider)
        return live, await generations.next() if names.next else None

    def _follow(self) -> None:
        """Use the generations that the aliases name, as far as their models are open."""
        live, self.next = (self._pair(generation) for generation in self._aliased)
        if live is None or live.generation is None or live.generation == self.live.generation:
            return
        if self.live.generation is not None:
            log.info("serving.switched", live=live.generation.collection)
        self.live = live
        self._vectors.live.use(live.generation)

    def _pair(self, generation: Generation | None) -> ActiveModel | None:
        if generation is None:
            return None
        opened = self._opened.get((generation.model, generation.dimension))
        return ActiveModel(opened.model, generation) if opened else None

    async def _open_missing(self) -> None:
        for generation in self._aliased:
            if generation is None or self._pair(generation) is not None:
                continue
            failed_at, _ = self._refused.get(generation.collection, (-_REOPEN_AFTER_S, ""))
            if monotonic() - failed_at < _REOPEN_AFTER_S:
                continue
            try:
                model = await open_generation(self._settings, generation)
            except (ConfigError, TransientError) as error:
                self._refused[generation.collection] = (monotonic(), str(error))
                log.warning("serving.refused", collection=generation.collection, error=str(error))
            else:
                self._refused.pop(generation.collection, None)
                self._opened[_key(model)] = _Opened(self._wrap(model), monotonic())
                self._follow()

    async def _close_unused(self) -> None:
        """Close models that no alias has named for a while, and forget their errors."""
        named_now = list(filter(None, (*self._aliased, self.live.generation)))
        collections = {generation.collection for generation in named_now}
        self._refused = {
            name: refusal for name, refusal in self._refused.items() if name in collections
        }
        kept = {(generation.model, generation.dimension) for generation in named_now}
        now = monotonic()
        for key, opened in list(self._opened.items()):
            if key in kept:
                opened.named_at = now
            elif now - opened.named_at > _CLOSE_AFTER_S:
                del self._opened[key]
                await opened.model.close()


def _key(model: EmbeddingModel) -> tuple[str, int]:
    return model.name, model.dimension


def _name(pair: ActiveModel | None) -> str | None:
    return pair.generation.collection if pair and pair.generation else None


async def open_requested(
    settings: EmbeddingSettings, live: Generation | None, requested: Mapping[str, Any]
) -> tuple[str, EmbeddingModel]:
    """Open the model of the `provider`, `model` and `dimension`; return its provider too.

    A value that is not requested is taken from the live generation if that has the same model.
    """
    live_provider = live.provider if live else ""
    provider = requested.get("provider") or live_provider or chosen_provider(settings)
    model, preferred = requested.get("model"), None
    if live and provider == live_provider and model in (None, live.model):
        model, preferred = live.model, live.dimension
    chosen, size = named(settings, provider, model), requested.get("dimension")
    return provider, await open_embedding(chosen, size, preferred=preferred)


async def open_generation(settings: EmbeddingSettings, generation: Generation) -> EmbeddingModel:
    """Open the model that filled a generation, after one successful call.

    Raises: ConfigError where this process cannot open it, or the provider serves another one now.
    """
    provider = generation.provider or chosen_provider(settings)
    model = await open_embedding(
        named(settings, provider, generation.model), preferred=generation.dimension
    )
    if not generation.fits(model.name, model.dimension):
        await model.close()
        raise ConfigError(mismatch_message(generation, model.name, model.dimension))
    return model
