"""Generations: one collection per model and dimension, the live one behind an alias.

`<collection>__<model>__<n>` says in its own metadata which model fills it. The alias
`<collection>` names the one that serves; moving it is the whole of a model switch. The alias
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
from shared.vectors.observed_call import asked
from shared.vectors.points import DENSE_VECTORS, PAYLOAD_INDEXES, SPARSE_VECTORS

log = get_logger(__name__)

_T = TypeVar("_T")
# Creating a collection and thirteen indexes takes longer than a query may.
_CHANGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection: which model fills it, of which dimension, and its number.

    `provider` is who serves that model; empty for those made before it was recorded.
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
    """A generation, what it is used for, and how many points it holds of all tenants."""

    generation: Generation
    state: GenerationState
    points: int


class Names(NamedTuple):
    """The collections that the two aliases name."""

    live: str | None
    next: str | None


class Generations:
    """Makes, finds, switches and drops the generations behind one alias."""

    def __init__(
        self, client: AsyncQdrantClient, alias: str, *, timeout_s: float, ensure_indexes: bool
    ) -> None:
        self._client = client
        self._alias = alias
        self._next_alias = f"{alias}__next"
        self._timeout_s = timeout_s
        self._ensure_indexes = ensure_indexes

    async def live(self) -> Generation | None:
        """What the alias names, or None before the first start.

        Raises: ConfigError if the alias names a collection that no Eunoe made.
        """
        name = (await self.names()).live
        if name is None:
            return None
        found = await self._read(name)
        if found is None:
            raise ConfigError(
                f"QDRANT_COLLECTION: alias {self._alias} names {name}, which Eunoe did not"
                " make; choose another QDRANT_COLLECTION"
            )
        return found

    async def next(self) -> Generation | None:
        """The generation that is being filled, if one is."""
        name = (await self.names()).next
        return await self._read(name) if name else None

    async def names(self) -> Names:
        """What the aliases name now; one cheap call."""
        answer = await self._ask("get_aliases", self._client.get_aliases())
        found = {each.alias_name: each.collection_name for each in answer.aliases}
        return Names(found.get(self._alias), found.get(self._next_alias))

    async def named(self, collection: str) -> Generation:
        """Raises: NotFound where no generation of this alias has that name."""
        found = await self._read(collection) if collection.startswith(self._stem) else None
        if found is None:
            raise NotFound(f"There is no generation {collection}")
        return found

    async def listed(self) -> list[ListedGeneration]:
        """Every generation with its state and size, oldest first."""
        names = await self.names()
        states = {names.next: GenerationState.NEXT, names.live: GenerationState.LIVE}
        found = []
        for each in await self.all():
            count = await self._ask("count", self._client.count(each.collection, exact=True))
            state = states.get(each.collection, GenerationState.OLD)
            found.append(ListedGeneration(each, state, count.count))
        return found

    async def all(self) -> list[Generation]:
        """Every generation of this alias, oldest first."""
        answer = await self._ask("get_collections", self._client.get_collections())
        names = [each.name for each in answer.collections if each.name.startswith(self._stem)]
        found = [await self._read(name) for name in names]
        return sorted((each for each in found if each), key=lambda each: each.serial)

    async def create(
        self, model: str, dimension: int, *, serial: int, provider: str = ""
    ) -> Generation:
        """The generation of that number, made or completed; safe to run several at once.

        Raises: ConfigError if its name is taken by another model or dimension.
        """
        name = f"{self._stem}{slug(model)}__{serial}"
        wanted = Generation(name, model, dimension, serial, provider)
        if await self._read(wanted.collection) is None:
            await self._create(wanted)
        if (made := await self._read(wanted.collection)) != wanted:
            raise ConfigError(
                f"QDRANT_COLLECTION: {wanted.collection} is there and holds"
                f" {made.model if made else 'no model'} instead of {model} at {dimension}"
            )
        await self.ensure_indexes(wanted)
        return wanted

    async def ensure_indexes(self, generation: Generation) -> None:
        """Index every filtered key; what is indexed already is left alone."""
        if not self._ensure_indexes:
            return
        state = await self._ask(
            "get_collection", self._client.get_collection(generation.collection)
        )
        for key in PAYLOAD_INDEXES.keys() - state.payload_schema.keys():
            await self._change(
                "create_payload_index",
                self._client.create_payload_index(
                    generation.collection, key, field_schema=PAYLOAD_INDEXES[key], wait=True
                ),
            )

    async def fill(self, generation: Generation) -> None:
        """Have every embedder write to `generation` too, instead of any other next one."""
        target = models.CreateAlias(
            collection_name=generation.collection, alias_name=self._next_alias
        )
        await self._change(
            "fill",
            self._client.update_collection_aliases(
                [models.CreateAliasOperation(create_alias=target)]
            ),
        )
        log.info("generation.filling", collection=generation.collection)

    async def abandon(self, collection: str | None = None) -> bool:
        """Fill no generation any more (or not `collection`); what it holds stays.

        False where there was none to abandon. A run that fills it notices and fails.
        """
        name = (await self.names()).next
        if name is None or collection not in (None, name):
            return False
        await self._change("abandon", self._client.update_collection_aliases([self._no_next()]))
        log.info("generation.abandoned", collection=name)
        return True

    async def activate(self, generation: Generation) -> None:
        """Point the alias at `generation`, wherever it pointed before; it is next no more.

        One request, so nobody ever sees half of it.
        """
        target = models.CreateAlias(collection_name=generation.collection, alias_name=self._alias)
        actions: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=target)]
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

    def _no_next(self) -> models.DeleteAliasOperation:
        return models.DeleteAliasOperation(
            delete_alias=models.DeleteAlias(alias_name=self._next_alias)
        )

    @property
    def _stem(self) -> str:
        return f"{self._alias}__"

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
                    metadata={
                        "model": wanted.model,
                        "dimension": wanted.dimension,
                        "serial": wanted.serial,
                        "provider": wanted.provider,
                    },
                ),
            )
            log.info("generation.created", collection=wanted.collection)
        except PermanentError:
            # Another process was first: fine if what it made is what we want.
            if await self._read(wanted.collection) is None:
                raise

    async def _read(self, collection: str) -> Generation | None:
        """The generation of that name; None if there is none, or no Eunoe made it."""
        try:
            state = await self._ask("get_collection", self._client.get_collection(collection))
        except NotFound:
            return None
        told = state.config.metadata or {}
        try:
            return Generation(
                collection,
                str(told["model"]),
                int(told["dimension"]),
                int(told["serial"]),
                str(told.get("provider") or ""),
            )
        except (KeyError, TypeError, ValueError):
            return None

    async def _ask(self, operation: str, call: Awaitable[_T]) -> _T:
        return await asked(operation, call, self._timeout_s)

    async def _change(self, operation: str, call: Awaitable[_T]) -> _T:
        return await asked(operation, call, _CHANGE_TIMEOUT_S)


def slug(model: str) -> str:
    """A model's name as part of a collection's: lower case, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:48]


def mismatch_message(live: Generation, model: str, dimension: int) -> str:
    """Why a process of that model cannot serve, and what its operator may do."""
    return (
        f"the stored vectors ({live.collection}) are of {live.model} with {live.dimension}"
        f" dimensions, but {model} with {dimension} is configured: set EMBEDDING_PROVIDER and"
        " EMBEDDING_MODEL back, or QDRANT_COLLECTION to a new name; memories are then embedded"
        " again"
    )
