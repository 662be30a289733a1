"""The routes of Qdrant that the product and its tests call; any other answers 501."""

import asyncio
from shutil import rmtree
from typing import Any

from aiohttp import web

from .aliases import AliasActions
from .collection import Collection
from .config import CollectionConfig
from .envelope import Handler, answer, enveloped
from .errors import ServerError, engine_calls
from .indexes import CreateIndex, schema_json
from .matrix import MatrixOffsets, MatrixPairs
from .reads import Count, QueryBatch, Retrieve, Scroll
from .registry import Registry
from .updates import Delete, SetPayload, UpdateBatch, Upsert
from .wire import read

_REGISTRY = web.AppKey("registry", Registry)
# qdrant-client 1.20 warns unless the server reports 1.19 to 1.21.
_VERSION = "1.19.0"
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_MAX_NAME_CHARS = 255
_Read = QueryBatch | Retrieve | Scroll | Count | MatrixPairs
_Change = Upsert | Delete | SetPayload | CreateIndex
_READS: dict[str, type[_Read]] = {
    "/query/batch": QueryBatch,
    "": Retrieve,
    "/scroll": Scroll,
    "/count": Count,
    "/search/matrix/pairs": MatrixPairs,
    "/search/matrix/offsets": MatrixOffsets,
}
_CHANGES: list[tuple[str, str, type[_Change]]] = [
    ("PUT", "", Upsert),
    ("POST", "/delete", Delete),
    ("POST", "/payload", SetPayload),
]


def new_application(registry: Registry) -> web.Application:
    app = web.Application(client_max_size=_BODY_LIMIT_BYTES)
    app[_REGISTRY] = registry
    app.router.add_get("/", _root)
    app.router.add_get("/readyz", _ready)
    collection = "/collections/{name}"
    points = f"{collection}/points"
    # aiohttp tries the routes in this order; searches are the most frequent.
    routes: list[tuple[str, str, Handler]] = [
        *(("POST", points + path, _reading(model)) for path, model in _READS.items()),
        *((method, points + path, _changing(model)) for method, path, model in _CHANGES),
        ("POST", f"{points}/batch", _change_batch),
        ("GET", "/collections", _list),
        ("POST", "/collections/aliases", _change_aliases),
        ("GET", "/aliases", _aliases),
        ("GET", collection, _info),
        ("PUT", collection, _create),
        ("DELETE", collection, _delete),
        ("PUT", f"{collection}/index", _changing(CreateIndex)),
        ("*", "/{path:.*}", _not_served),
    ]
    for method, path, handler in routes:
        app.router.add_route(method, path, enveloped(handler))
    return app


async def _root(_request: web.Request) -> web.Response:
    return answer({"title": "qdrant - vector search engine", "version": _VERSION})


async def _ready(_request: web.Request) -> web.Response:
    return web.Response(text="readyz check passed")


async def _not_served(request: web.Request) -> object:
    raise ServerError(501, f"Not supported by the embedded server: {request.method} {request.path}")


def _collection(request: web.Request) -> Collection:
    return request.app[_REGISTRY].resolve(request.match_info["name"])


def _reading(model: type[_Read]) -> Handler:
    async def handle(request: web.Request) -> object:
        collection = _collection(request)
        wanted = read(model, await request.read())
        return collection.read(lambda shard: wanted.run(shard, collection.config))

    return handle


def _changing(model: type[_Change]) -> Handler:
    async def handle(request: web.Request) -> object:
        collection = _collection(request)
        change = read(model, await request.read())
        with engine_calls():
            updates = change.updates(collection.config)
        return _update_json(await collection.apply(updates))

    return handle


async def _change_batch(request: web.Request) -> object:
    collection = _collection(request)
    batch = read(UpdateBatch, await request.read())
    with engine_calls():
        updates = batch.updates()
    return [_update_json(await collection.apply([update])) for update in updates]


def _update_json(operation: int) -> dict[str, Any]:
    return {"operation_id": operation, "status": "completed"}


async def _list(request: web.Request) -> object:
    return {"collections": [{"name": name} for name in request.app[_REGISTRY].names()]}


async def _create(request: web.Request) -> object:
    name = request.match_info["name"]
    config = read(CollectionConfig, await request.read())
    if len(name) > _MAX_NAME_CHARS or "/" in name or "\0" in name:
        raise ServerError(
            422, f"collection_name: at most {_MAX_NAME_CHARS} characters, no `/` or NUL"
        )
    request.app[_REGISTRY].create(name, config)
    return True


async def _delete(request: web.Request) -> object:
    """Delete a collection; return false where none has the name, which an alias may have."""
    removed = request.app[_REGISTRY].remove(request.match_info["name"])
    if removed is None:
        return False
    await asyncio.to_thread(rmtree, removed.folder, ignore_errors=True)
    return True


async def _info(request: web.Request) -> object:
    collection = _collection(request)
    info = collection.info()
    return {
        "status": "yellow" if collection.optimizing or collection.is_behind() else "green",
        "optimizer_status": "ok",
        "points_count": info.points_count,
        "indexed_vectors_count": info.indexed_vectors_count,
        "segments_count": info.segments_count,
        "config": collection.config.shown(),
        "payload_schema": {key: schema_json(index) for key, index in info.payload_schema.items()},
    }


async def _change_aliases(request: web.Request) -> object:
    registry = request.app[_REGISTRY]
    actions = read(AliasActions, await request.read())
    registry.set_aliases(actions.applied(registry.aliases, registry.names()))
    return True


async def _aliases(request: web.Request) -> object:
    aliases = request.app[_REGISTRY].aliases
    return {
        "aliases": [
            {"alias_name": alias, "collection_name": name} for alias, name in aliases.items()
        ]
    }
