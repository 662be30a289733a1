"""Which collections and aliases exist, kept in one file that is replaced whole.

A collection is a folder with a name of its own, and in it one folder per
generation; the file says which are live. So creating, deleting, switching aliases
and replacing a shard by its optimised copy are each one rename, and whatever a
killed server left half-done is a folder that the file does not name: it is removed
at the next start.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TypedDict
from uuid import uuid4

import qdrant_edge as edge

from .aliases import Aliases
from .config import CollectionConfig, engine_config, read_config
from .errors import Conflict, ServerError, collection_missing, engine_calls, engine_objects
from .fields import JsonObject
from .shard import Collection

_FILE = "registry.json"
_FOLDER = "collections"


class Registry:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._collections: dict[str, Collection] = {}
        self.aliases: Aliases = {}

    @property
    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def names(self) -> list[str]:
        return sorted(self._collections)

    def resolve(self, name: str) -> Collection:
        """Return the collection with this name or alias.

        Raises:
            NotFound: there is none.
        """
        found = self._collections.get(self.aliases.get(name, name))
        if found is None:
            raise collection_missing(name)
        return found

    def has(self, name: str) -> bool:
        return self.aliases.get(name, name) in self._collections

    def is_live(self, collection: Collection) -> bool:
        return self._collections.get(collection.name) is collection

    def open(self) -> None:
        """Open what the file names and remove the folders that it does not."""
        root = self._folder / _FOLDER
        root.mkdir(parents=True, exist_ok=True)
        stored = _read(self._folder / _FILE)
        live = {entry["folder"]: entry["generation"] for entry in stored["collections"].values()}
        for folder in root.iterdir():
            _sweep(folder, live.get(folder.name))
        for name, entry in stored["collections"].items():
            collection = Collection(name, read_config(entry["config"]), root / entry["folder"])
            _open(collection, entry)
            self._collections[name] = collection
        self.aliases = stored["aliases"]

    def create(self, name: str, config: CollectionConfig) -> None:
        """Create a collection.

        Raises:
            Conflict: the name is taken by a collection or an alias.
        """
        if name in self._collections or name in self.aliases:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        collection = Collection(name, config, self._folder / _FOLDER / uuid4().hex)
        generation = uuid4().hex
        _create_shard(collection.folder / generation, config)
        collection.open(generation, 0)
        self._save({**self._collections, name: collection}, self.aliases)

    def remove(self, name: str) -> Collection | None:
        """Forget a collection and its aliases; its folder is the caller's to remove."""
        collection = self._collections.get(name)
        if collection is None:
            return None
        self._save(
            {other: kept for other, kept in self._collections.items() if other != name},
            {alias: target for alias, target in self.aliases.items() if target != name},
        )
        collection.close()
        return collection

    def set_aliases(self, aliases: Aliases) -> None:
        self._save(self._collections, aliases)

    def set_generation(self, collection: Collection, generation: str, points: int) -> None:
        """Serve the collection from another folder from the next start on."""
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

    def _save(self, collections: dict[str, Collection], aliases: Aliases) -> None:
        """Write the file, then take the new state over; a failed write changes nothing."""
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
    config: JsonObject


class _File(TypedDict):
    collections: dict[str, _Entry]
    aliases: Aliases


def _open(collection: Collection, entry: _Entry) -> None:
    try:
        collection.open(entry["generation"], entry["optimized_points"])
    except ServerError as error:
        raise UnreadableCollection(f"{collection.name} in {collection.path}: {error}") from error


class UnreadableCollection(Exception):
    """A collection's files cannot be opened; move them away or restore them."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process; the kernel lets go of it on SIGKILL.

    Raises:
        BlockingIOError: another server has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _create_shard(path: Path, config: CollectionConfig) -> None:
    path.mkdir(parents=True)
    try:
        with engine_objects():
            wanted = engine_config(config)
        with engine_calls():
            edge.EdgeShard.create(str(path), wanted).close()
    except BaseException:
        rmtree(path.parent, ignore_errors=True)
        raise


def _entry(collection: Collection) -> _Entry:
    return {
        "folder": collection.folder.name,
        "generation": collection.generation,
        "optimized_points": collection.optimized_points,
        "config": collection.config.source,
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
