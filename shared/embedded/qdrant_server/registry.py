"""The collections and aliases, kept in one file that is replaced as a whole.

Each collection has a folder of a random name, with one folder per generation of its shard;
the file names the live ones. Creating, deleting, switching aliases and replacing a shard by
its optimised copy are therefore one rename each. A folder that the file does not name was
left by a failure or a kill, and is removed at the next start.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Annotated
from uuid import uuid4

import qdrant_edge as edge
from pydantic import BaseModel, Field, ValidationError

from .collection import Collection, StoredCollection
from .config import CollectionConfig
from .errors import ServerError, collection_exists, collection_missing, engine_calls
from .wire import Wire

_FILE = "registry.json"
_FOLDER = "collections"


_Name = Annotated[str, Field(min_length=1)]


class _CreateAlias(Wire):
    """Point an alias at a collection, wherever it pointed before."""

    collection_name: _Name
    alias_name: _Name


class _DeleteAlias(Wire):
    alias_name: _Name


class _Create(Wire):
    create_alias: _CreateAlias


class _Delete(Wire):
    delete_alias: _DeleteAlias


_AliasAction = Annotated[_Create | _Delete, Field(union_mode="left_to_right")]


class AliasActions(Wire):
    actions: list[_AliasAction]


class _File(BaseModel):
    collections: dict[str, StoredCollection] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)


class Registry:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = folder / _FOLDER
        self._collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}

    @property
    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def resolve(self, name: str) -> Collection:
        """Return the collection of this name or alias. Raises: ServerError 404."""
        found = self._collections.get(self.aliases.get(name, name))
        if found is None:
            raise collection_missing(name)
        return found

    def is_live(self, collection: Collection) -> bool:
        return self._collections.get(collection.name) is collection

    def open(self) -> None:
        """Open what the file names, remove other folders. Raises: UnreadableCollection."""
        self._root.mkdir(parents=True, exist_ok=True)
        stored = _read(self._folder / _FILE)
        live = {each.folder: each.generation for each in stored.collections.values()}
        for folder in self._root.iterdir():
            _sweep(folder, live.get(folder.name))
        for name, each in stored.collections.items():
            try:
                self._collections[name] = Collection(name, each, self._root)
            except ServerError as error:
                raise UnreadableCollection(
                    f"cannot open collection {name} in {self._root / each.folder}: {error}"
                ) from error
        self.aliases = stored.aliases

    def create(self, name: str, config: CollectionConfig) -> None:
        """Raises: ServerError 409 where the name is taken by a collection or an alias."""
        if name in self._collections or name in self.aliases:
            raise collection_exists(name)
        stored = StoredCollection(
            folder=uuid4().hex, generation=uuid4().hex, optimized_points=0, config=config
        )
        path = self._root / stored.folder / stored.generation
        path.mkdir(parents=True)
        with engine_calls():
            edge.EdgeShard.create(str(path), config.engine()).close()
        collection = Collection(name, stored, self._root)
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

    def change_aliases(self, actions: Iterable[_AliasAction]) -> None:
        """Take the actions in order. Raises: ServerError, so that none has taken effect."""
        aliases = dict(self.aliases)
        for action in actions:
            if isinstance(action, _Delete):
                aliases.pop(action.delete_alias.alias_name, None)
                continue
            alias, target = action.create_alias.alias_name, action.create_alias.collection_name
            if target not in self._collections:
                raise collection_missing(target)
            if alias in self._collections:
                raise collection_exists(alias)
            aliases[alias] = target
        self._save(self._collections, aliases)

    def set_generation(self, collection: Collection, generation: str, points: int) -> None:
        """Let the next start serve the collection from another generation."""
        previous = collection.stored
        changed = {"generation": generation, "optimized_points": points}
        collection.stored = previous.model_copy(update=changed)
        try:
            self._save(self._collections, self.aliases)
        except OSError:
            collection.stored = previous
            raise

    def close(self) -> None:
        for collection in self.collections:
            collection.flush()
            collection.close()

    def _save(self, collections: dict[str, Collection], aliases: dict[str, str]) -> None:
        """Write the file, then change the state; a failed write changes nothing."""
        stored = {name: kept.stored for name, kept in collections.items()}
        _replace(self._folder / _FILE, _File(collections=stored, aliases=aliases))
        self._collections, self.aliases = collections, aliases


class UnreadableCollection(Exception):
    """Files of the server or of a collection cannot be read; move them away or restore them."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the data folder for this process; a kill releases the lock.

    Raises: BlockingIOError where another server holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _read(path: Path) -> _File:
    if not path.exists():
        return _File()
    try:
        # A member that only an earlier version knew does not keep a collection closed.
        return _File.model_validate_json(path.read_bytes(), extra="ignore")
    except ValidationError as error:
        raise UnreadableCollection(f"cannot read {path}: {error}") from error


def _replace(path: Path, content: _File) -> None:
    """Replace a file so that a crash leaves either the old or the new content."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(content.model_dump_json(exclude_unset=True))
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
