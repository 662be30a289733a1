"""Generations: one collection per model and dimension, the live one behind an alias.

`<collection>__<model>__<n>` says in its own metadata which model fills it. The alias
`<collection>` names the one that serves; moving it is the whole of a model switch.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from shared.errors import ConfigError, NotFound, PermanentError
from shared.log import get_logger
from shared.vectors.calls import asked
from shared.vectors.points import DENSE_VECTORS, PAYLOAD_INDEXES, SPARSE_VECTORS

log = get_logger(__name__)

_T = TypeVar("_T")
# Creating a collection and thirteen indexes takes longer than a query may.
_CHANGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection: which model fills it, of which dimension, and its number."""

    collection: str
    model: str
    dimension: int
    serial: int

    def fits(self, model: str, dimension: int) -> bool:
        return self.model == model and self.dimension == dimension


class Generations:
    """Makes, finds, switches and drops the generations behind one alias."""

    def __init__(
        self, client: AsyncQdrantClient, alias: str, *, timeout_s: float, ensure_indexes: bool
    ) -> None:
        self._client = client
        self._alias = alias
        self._timeout_s = timeout_s
        self._ensure_indexes = ensure_indexes

    async def live(self) -> Generation | None:
        """What the alias names, or None before the first start.

        Raises: ConfigError if the alias names a collection that no Eunoe made.
        """
        answer = await self._ask("get_aliases", self._client.get_aliases())
        names = [each.collection_name for each in answer.aliases if each.alias_name == self._alias]
        if not names:
            return None
        found = await self._read(names[0])
        if found is None:
            raise ConfigError(
                f"QDRANT_COLLECTION: alias {self._alias} names {names[0]}, which Eunoe did not"
                " make; choose another QDRANT_COLLECTION"
            )
        return found

    async def all(self) -> list[Generation]:
        """Every generation of this alias, oldest first."""
        answer = await self._ask("get_collections", self._client.get_collections())
        names = [each.name for each in answer.collections if each.name.startswith(self._stem)]
        found = [await self._read(name) for name in names]
        return sorted((each for each in found if each), key=lambda each: each.serial)

    async def create(self, model: str, dimension: int, *, serial: int) -> Generation:
        """The generation of that number, made or completed; safe to run several at once.

        Raises: ConfigError if its name is taken by another model or dimension.
        """
        wanted = Generation(f"{self._stem}{slug(model)}__{serial}", model, dimension, serial)
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

    async def activate(self, generation: Generation) -> None:
        """Point the alias at `generation`, at once, wherever it pointed before."""
        target = models.CreateAlias(collection_name=generation.collection, alias_name=self._alias)
        try:
            await self._change(
                "activate",
                self._client.update_collection_aliases(
                    [models.CreateAliasOperation(create_alias=target)]
                ),
            )
        except PermanentError as error:
            raise ConfigError(
                f"QDRANT_COLLECTION: {self._alias} is a collection, and Eunoe needs that name for"
                " an alias; choose another QDRANT_COLLECTION"
            ) from error
        log.info("generation.activated", collection=generation.collection)

    async def drop(self, generation: Generation) -> None:
        """Delete a generation and its points. Raises: PermanentError while it is live."""
        if await self.live() == generation:
            raise PermanentError(f"{generation.collection} is live; activate another one first")
        await self._change("drop", self._client.delete_collection(generation.collection))
        log.info("generation.dropped", collection=generation.collection)

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
                collection, str(told["model"]), int(told["dimension"]), int(told["serial"])
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
