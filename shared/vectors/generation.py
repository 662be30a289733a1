"""Generations: one collection per model and dimension, the live one behind an alias.

The metadata of the collection `<collection>__<model>__<n>` names the model that fills it. The
alias `<collection>` names the live generation; moving that alias switches the model. The alias
`<collection>__next`, where there is one, names the generation that is being filled: every
embedder writes to both.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from qdrant_client import AsyncQdrantClient, models

from shared.errors import ConfigError, Conflict, NotFound, PermanentError
from shared.telemetry.log import get_logger
from shared.vectors.observed_call import observed_call
from shared.vectors.points import DENSE_VECTORS, PAYLOAD_INDEXES, SPARSE_VECTORS

log = get_logger(__name__)

_T = TypeVar("_T")
# Creating a collection and thirteen indexes takes longer than a query may.
_CHANGE_TIMEOUT_S = 30.0
_RECORDED = ("model", "dimension", "serial", "provider")


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection: the model that fills it, its dimension, and its number.

    `provider` serves that model; it is empty for collections older than its recording.
    """

    collection: str
    model: str
    dimension: int
    serial: int
    provider: str = field(default="", compare=False)

    def fits(self, model: str, dimension: int) -> bool:
        return self.model == model and self.dimension == dimension


class GenerationState(StrEnum):
    LIVE = "live"
    NEXT = "next"
    OLD = "old"


@dataclass(frozen=True, slots=True)
class ListedGeneration:
    """A generation, its use, and the number of its points of all tenants."""

    generation: Generation
    state: GenerationState
    points: int


class AliasTargets(NamedTuple):
    """The collections that the two aliases name."""

    live: str | None
    next: str | None


class Generations:
    """Creates, finds, switches and drops the generations behind one alias."""

    def __init__(
        self, client: AsyncQdrantClient, alias: str, *, timeout_s: float, ensure_indexes: bool
    ) -> None:
        self._client = client
        self._alias = alias
        self._next_alias = f"{alias}__next"
        self._stem = f"{alias}__"
        self._timeout_s = timeout_s
        self._ensure_indexes = ensure_indexes

    async def live(self) -> Generation | None:
        """Return the generation that the alias names, or None before the first start.

        Raises: ConfigError if the alias names a collection that Eunoe did not create.
        """
        name = (await self.names()).live
        if name is None:
            return None
        generation = await self._read(name)
        if generation is None:
            raise ConfigError(
                f"QDRANT_COLLECTION: alias {self._alias} names {name}, which Eunoe did not"
                " make; choose another QDRANT_COLLECTION"
            )
        return generation

    async def next(self) -> Generation | None:
        """Return the generation that is being filled, if one is."""
        name = (await self.names()).next
        return await self._read(name) if name else None

    async def names(self) -> AliasTargets:
        """Return the collections that the aliases name now; one cheap call."""
        answer = await self._ask("get_aliases", self._client.get_aliases())
        targets = {alias.alias_name: alias.collection_name for alias in answer.aliases}
        return AliasTargets(targets.get(self._alias), targets.get(self._next_alias))

    async def named(self, collection: str) -> Generation:
        """Raises: NotFound where no generation of this alias has that name."""
        known = collection.startswith(self._stem)
        generation = await self._read(collection) if known else None
        if generation is None:
            raise NotFound(f"There is no generation {collection}")
        return generation

    async def listed(self) -> list[ListedGeneration]:
        """Return every generation with its state and size, oldest first."""
        names = await self.names()
        states = {names.next: GenerationState.NEXT, names.live: GenerationState.LIVE}
        rows = []
        for generation in await self.all():
            count = self._client.count(generation.collection, exact=True)
            points = (await self._ask("count", count)).count
            state = states.get(generation.collection, GenerationState.OLD)
            rows.append(ListedGeneration(generation, state, points))
        return rows

    async def all(self) -> list[Generation]:
        """Return every generation of this alias, oldest first."""
        answer = await self._ask("get_collections", self._client.get_collections())
        names = [row.name for row in answer.collections if row.name.startswith(self._stem)]
        generations = [await self._read(name) for name in names]
        return sorted(filter(None, generations), key=lambda generation: generation.serial)

    async def create(
        self, model: str, dimension: int, *, serial: int, provider: str = ""
    ) -> Generation:
        """Create the generation of that number, or complete one that was begun.

        Several processes may do so at once.

        Raises: ConfigError if another model or dimension has taken its name.
        """
        name = f"{self._stem}{slug(model)}__{serial}"
        wanted = Generation(name, model, dimension, serial, provider)
        if await self._read(name) is None:
            await self._create(wanted)
        if (found := await self._read(name)) != wanted:
            raise ConfigError(
                f"QDRANT_COLLECTION: {name} is there and holds"
                f" {found.model if found else 'no model'} instead of {model} at {dimension}"
            )
        await self.ensure_indexes(wanted)
        return wanted

    async def ensure_indexes(self, generation: Generation) -> None:
        """Create the index of every filtered key that has none yet."""
        if not self._ensure_indexes:
            return
        read = self._client.get_collection(generation.collection)
        state = await self._ask("get_collection", read)
        for key in PAYLOAD_INDEXES.keys() - state.payload_schema.keys():
            await self._change(
                "create_payload_index",
                self._client.create_payload_index(
                    generation.collection, key, field_schema=PAYLOAD_INDEXES[key], wait=True
                ),
            )

    async def fill(self, generation: Generation) -> None:
        """Make every embedder write to `generation` too; no other one is filled from then on."""
        aliased = [self._alias_for(generation, self._next_alias)]
        await self._change("fill", self._client.update_collection_aliases(aliased))
        log.info("generation.filling", collection=generation.collection)

    async def abandon(self, collection: str | None = None) -> bool:
        """Stop filling the next generation, or only `collection`; its points stay.

        Returns False where none was being filled. A run that fills it notices and fails.
        """
        name = (await self.names()).next
        if name is None or collection not in (None, name):
            return False
        await self._change("abandon", self._client.update_collection_aliases([self._no_next()]))
        log.info("generation.abandoned", collection=name)
        return True

    async def activate(self, generation: Generation) -> None:
        """Point the alias at `generation`, which is no longer the next one, in one request."""
        actions: list[models.AliasOperations] = [self._alias_for(generation, self._alias)]
        if (await self.names()).next == generation.collection:
            actions.append(self._no_next())
        try:
            await self._change("activate", self._client.update_collection_aliases(actions))
        except PermanentError as error:
            raise ConfigError(
                f"QDRANT_COLLECTION: {self._alias} is a collection, and Eunoe needs that name for"
                " an alias; choose another QDRANT_COLLECTION"
            ) from error
        log.info("generation.activated", collection=generation.collection)

    async def drop(self, generation: Generation) -> None:
        """Delete a generation and its points. Raises: Conflict while it is live or next."""
        names = await self.names()
        if generation.collection == names.live:
            raise Conflict(f"{generation.collection} is live; activate another one first")
        if generation.collection == names.next:
            raise Conflict(f"{generation.collection} is being filled; cancel that run first")
        await self._change("drop", self._client.delete_collection(generation.collection))
        log.info("generation.dropped", collection=generation.collection)

    @staticmethod
    def _alias_for(generation: Generation, alias: str) -> models.CreateAliasOperation:
        target = models.CreateAlias(collection_name=generation.collection, alias_name=alias)
        return models.CreateAliasOperation(create_alias=target)

    def _no_next(self) -> models.DeleteAliasOperation:
        return models.DeleteAliasOperation(
            delete_alias=models.DeleteAlias(alias_name=self._next_alias)
        )

    async def _create(self, wanted: Generation) -> None:
        sizes = models.VectorParams(size=wanted.dimension, distance=models.Distance.COSINE)
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        try:
            await self._change(
                "create_collection",
                self._client.create_collection(
                    wanted.collection,
                    vectors_config=dict.fromkeys(DENSE_VECTORS, sizes),
                    sparse_vectors_config=dict.fromkeys(SPARSE_VECTORS, sparse),
                    metadata={key: getattr(wanted, key) for key in _RECORDED},
                ),
            )
            log.info("generation.created", collection=wanted.collection)
        except PermanentError:
            # Another process may have been first; the caller compares what is there now.
            if await self._read(wanted.collection) is None:
                raise

    async def _read(self, collection: str) -> Generation | None:
        """Return the generation of that name; None if there is none, or Eunoe did not create it."""
        try:
            state = await self._ask("get_collection", self._client.get_collection(collection))
        except NotFound:
            return None
        recorded = state.config.metadata or {}
        try:
            return Generation(
                collection,
                str(recorded["model"]),
                int(recorded["dimension"]),
                int(recorded["serial"]),
                str(recorded.get("provider") or ""),
            )
        except (KeyError, TypeError, ValueError):
            return None

    async def _ask(self, operation: str, call: Awaitable[_T]) -> _T:
        return await observed_call(operation, call, self._timeout_s)

    async def _change(self, operation: str, call: Awaitable[_T]) -> _T:
        return await observed_call(operation, call, _CHANGE_TIMEOUT_S)


def slug(model: str) -> str:
    """Return a model's name as part of a collection's: lower case, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:48]


def mismatch_message(live: Generation, model: str, dimension: int) -> str:
    """Return the reason why a process of that model cannot serve, and what its operator may do."""
    return (
        f"the stored vectors ({live.collection}) are of {live.model} with {live.dimension}"
        f" dimensions, but {model} with {dimension} is configured: set EMBEDDING_PROVIDER and"
        " EMBEDDING_MODEL back, or QDRANT_COLLECTION to a new name; memories are then embedded"
        " again"
    )
