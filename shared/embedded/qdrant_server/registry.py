"""The collections and aliases, kept in one file that is replaced as a whole.

Each collection has a folder of a random name, with one folder per generation of its shard;
the file names the live ones. Creating, deleting, switching aliases and replacing a shard by
its optimised copy are therefore one rename each. A folder that the file does not name was
left by a killed server and is removed at the next start.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, TypedDict
from uuid import uuid4

import qdrant_edge as edge
from pydantic import ValidationError

from .collection import Collection
from .config import CollectionConfig
from .errors import ServerError, collection_exists, collection_missing, engine_calls

_FILE = "registry.json"
_FOLDER = "collections"


class Registry:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}

    @property
    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def names(self) -> list[str]:
        return sorted(self._collections)

    def resolve(self, name: str) -> Collection:
        """Return the collection of this name or alias.

        Raises:
            ServerError: 404, there is none.
        """
        found = self._collections.get(self.aliases.get(name, name))
        if found is None:
            raise collection_missing(name)
        return found

    def is_live(self, collection: Collection) -> bool:
        return self._collections.get(collection.name) is collection

    def open(self) -> None:
        """Open what the file names and remove the folders that it does not.

        Raises:
            UnreadableCollection: a collection cannot be opened.
        """
        root = self._folder / _FOLDER
        root.mkdir(parents=True, exist_ok=True)
        stored = _read(self._folder / _FILE)
        live = {entry["folder"]: entry["generation"] for entry in stored["collections"].values()}
        for folder in root.iterdir():
            _sweep(folder, live.get(folder.name))
        for name, entry in stored["collections"].items():
            self._collections[name] = _opened(name, root / entry["folder"], entry)
        self.aliases = stored["aliases"]

    def create(self, name: str, config: CollectionConfig) -> None:
        """Create a collection.

        Raises:
            ServerError: 409, the name is taken by a collection or an alias.
        """
        if name in self._collections or name in self.aliases:
            raise collection_exists(name)
        collection = Collection(name, config, self._folder / _FOLDER / uuid4().hex)
        generation = uuid4().hex
        _create_shard(collection.folder / generation, config)
        collection.open(generation, 0)
        self._save({**self._collections, name: collection}, self.aliases)

    def remove(self, name: str) -> Collection | None:
        """Close and return a collection, and drop its aliases; the caller removes its folder."""
        collection = self._collections.get(name)
        if collection is None:
            return None
        self._save(
            {other: kept for other, kept in self._collections.items() if other != name},
            {alias: target for alias, target in self.aliases.items() if target != name},
        )
        collection.close()
        return collection

    def set_aliases(self, aliases: dict[str, str]) -> None:
        self._save(self._collections, aliases)

    def set_generation(self, collection: Collection, generation: str, points: int) -> None:
        """Let the next start serve the collection from another generation."""
        previous = collection.generation, collection.optimized_points
        collection.generation, collection.optimized_points = generation, points
        try:
            self._save(self._collections, self.aliases)
        except OSError:
            collection.generation, collection.optimized_points = previous
            raise

    def close(self) -> None:
        for collection in self.collections:
            collection.flush()
            collection.close()

    def _save(self, collections: dict[str, Collection], aliases: dict[str, str]) -> None:
        """Write the file, then change the state; a failed write changes nothing."""
        _replace(
            self._folder / _FILE,
            {
                "collections": {name: _entry(kept) for name, kept in collections.items()},
                "aliases": aliases,
            },
        )
        self._collections, self.aliases = collections, aliases


class _Entry(TypedDict):
    folder: str
    generation: str
    optimized_points: int
    config: dict[str, Any]


class _File(TypedDict):
    collections: dict[str, _Entry]
    aliases: dict[str, str]


def _opened(name: str, folder: Path, entry: _Entry) -> Collection:
    try:
        # Members that only an earlier version knew do not keep a collection closed.
        config = CollectionConfig.model_validate(entry["config"], extra="ignore")
        collection = Collection(name, config, folder)
        collection.open(entry["generation"], entry["optimized_points"])
    except (ServerError, ValidationError) as error:
        raise UnreadableCollection(f"{name} in {folder}: {error}") from error
    return collection


class UnreadableCollection(Exception):
    """A collection's files cannot be opened; move them away or restore them."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the data folder for this process; a kill releases the lock.

    Raises:
        BlockingIOError: another server holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _create_shard(path: Path, config: CollectionConfig) -> None:
    path.mkdir(parents=True)
    try:
        with engine_calls():
            edge.EdgeShard.create(str(path), config.engine()).close()
    except BaseException:
        rmtree(path.parent, ignore_errors=True)
        raise


def _entry(collection: Collection) -> _Entry:
    return {
        "folder": collection.folder.name,
        "generation": collection.generation,
        "optimized_points": collection.optimized_points,
        "config": collection.config.stored(),
    }


def _read(path: Path) -> _File:
    if not path.exists():
        return {"collections": {}, "aliases": {}}
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


def _replace(path: Path, content: _File) -> None:
    """Replace a file so that a crash leaves either the old or the new content."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sweep(folder: Path, live_generation: str | None) -> None:
    """Remove a collection's folder, or all generations but the live one."""
    if live_generation is None:
        rmtree(folder)
        return
    for generation in folder.iterdir():
        if generation.name != live_generation:
            rmtree(generation)
