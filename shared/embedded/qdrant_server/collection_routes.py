"""Routes of collections, aliases and payload indexes."""

import asyncio
from shutil import rmtree

import qdrant_edge as edge
from aiohttp import web

from .aliases import changed
from .app import REGISTRY, add, body_of
from .config import config_json, read_config
from .errors import engine_objects, invalid
from .fields import JsonObject, fields, required, text
from .indexes import index_schema, schema_json
from .optimizer import is_behind
from .shard import Collection
from .updates import Update

_MAX_NAME_CHARS = 255


def add_collection_routes(app: web.Application) -> None:
    add(app, "GET", "/collections", _list)
    add(app, "POST", "/collections/aliases", _change_aliases)
    add(app, "GET", "/aliases", _all_aliases)
    add(app, "GET", "/collections/{name}", _info)
    add(app, "PUT", "/collections/{name}", _create)
    add(app, "DELETE", "/collections/{name}", _delete)
    add(app, "GET", "/collections/{name}/exists", _exists)
    add(app, "GET", "/collections/{name}/aliases", _aliases)
    add(app, "PUT", "/collections/{name}/index", _create_index)
    add(app, "DELETE", "/collections/{name}/index/{field}", _delete_index)


def collection_of(request: web.Request) -> Collection:
    return request.app[REGISTRY].resolve(request.match_info["name"])


async def _list(request: web.Request) -> object:
    return {"collections": [{"name": name} for name in request.app[REGISTRY].names()]}


async def _exists(request: web.Request) -> object:
    return {"exists": request.app[REGISTRY].has(request.match_info["name"])}


async def _create(request: web.Request) -> object:
    config = read_config(await body_of(request))
    request.app[REGISTRY].create(_valid(request.match_info["name"]), config)
    return True


def _valid(name: str) -> str:
    if len(name) > _MAX_NAME_CHARS or "/" in name or "\0" in name:
        raise invalid(f"collection_name: at most {_MAX_NAME_CHARS} characters, no `/` or NUL")
    return name


async def _delete(request: web.Request) -> object:
    """Delete by name; false where there is no such collection. An alias deletes nothing."""
    removed = request.app[REGISTRY].remove(request.match_info["name"])
    if removed is None:
        return False
    await asyncio.to_thread(rmtree, removed.folder, ignore_errors=True)
    return True


async def _info(request: web.Request) -> object:
    collection = collection_of(request)
    info = collection.info()
    waiting = collection.optimizing or is_behind(collection)
    return {
        "status": "yellow" if waiting else "green",
        "optimizer_status": "ok",
        "points_count": info.points_count,
        "indexed_vectors_count": info.indexed_vectors_count,
        "segments_count": info.segments_count,
        "config": config_json(collection.config),
        "payload_schema": {key: schema_json(index) for key, index in info.payload_schema.items()},
    }


async def _create_index(request: web.Request) -> object:
    collection = collection_of(request)
    known = frozenset({"field_name", "field_schema"})
    body = fields(await body_of(request), "index", known)
    key = text(required(body, "field_name", "index"), "field_name")
    schema = index_schema(required(body, "field_schema", "index"))
    with engine_objects():
        operation = edge.UpdateOperation.create_field_index(key, schema)
    return update_result(await collection.apply([Update(operation, 0)]))


async def _delete_index(request: web.Request) -> object:
    with engine_objects():
        operation = edge.UpdateOperation.delete_field_index(request.match_info["field"])
    return update_result(await collection_of(request).apply([Update(operation, 0)]))


def update_result(operation: int) -> JsonObject:
    return {"operation_id": operation, "status": "completed"}


async def _change_aliases(request: web.Request) -> object:
    registry = request.app[REGISTRY]
    actions = await body_of(request)
    registry.set_aliases(
        changed(actions, registry.aliases, frozenset(registry.names()).__contains__)
    )
    return True


async def _all_aliases(request: web.Request) -> object:
    return _aliases_json(request.app[REGISTRY].aliases)


async def _aliases(request: web.Request) -> object:
    target = collection_of(request).name
    aliases = request.app[REGISTRY].aliases
    return _aliases_json({alias: name for alias, name in aliases.items() if name == target})


def _aliases_json(aliases: dict[str, str]) -> JsonObject:
    return {
        "aliases": [
            {"alias_name": alias, "collection_name": name} for alias, name in aliases.items()
        ]
    }
