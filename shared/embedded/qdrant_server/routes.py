"""The routes of Qdrant that the product calls, and a search matrix; any other answers 501."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from shutil import rmtree
from time import perf_counter
from typing import Any

import qdrant_edge as edge
from aiohttp import web
from pydantic_core import to_json

from .collection import Collection
from .config import CollectionConfig
from .errors import ServerError, engine_calls
from .reads import Count, MatrixOffsets, MatrixPairs, QueryBatch, Retrieve, Scroll
from .registry import AliasActions, Registry
from .updates import CreateIndex, Delete, UpdateBatch, Upsert
from .wire import read

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[object]]

_REGISTRY = web.AppKey("registry", Registry)
# qdrant-client 1.20 warns unless the server reports 1.19 to 1.21.
_VERSION = "1.19.0"
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_MAX_NAME_CHARS = 255
_REQUEST_TIMEOUT_S = 60.0
_Read = QueryBatch | Retrieve | Scroll | Count | MatrixPairs
_Change = Upsert | Delete | CreateIndex


def new_application(registry: Registry) -> web.Application:
    app = web.Application(client_max_size=_BODY_LIMIT_BYTES)
    app[_REGISTRY] = registry
    app.router.add_get("/", _root)
    app.router.add_get("/readyz", _ready)
    collection = "/collections/{name}"
    points = f"{collection}/points"
    # aiohttp tries the routes in this order; searches are the most frequent.
    routes: list[tuple[str, str, Handler]] = [
        ("POST", f"{points}/query/batch", _reading(QueryBatch)),
        ("POST", points, _reading(Retrieve)),
        ("POST", f"{points}/scroll", _reading(Scroll)),
        ("POST", f"{points}/count", _reading(Count)),
        ("POST", f"{points}/search/matrix/pairs", _reading(MatrixPairs)),
        ("POST", f"{points}/search/matrix/offsets", _reading(MatrixOffsets)),
        ("PUT", points, _changing(Upsert)),
        ("POST", f"{points}/delete", _changing(Delete)),
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
        app.router.add_route(method, path, _enveloped(handler))
    return app


def _enveloped(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return an aiohttp handler that answers with what `handler` returns as the `result`."""

    async def handle(request: web.Request) -> web.Response:
        started_s = perf_counter()
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                result = await handler(request)
        except ServerError as error:
            return _refusal(error.status, str(error), started_s)
        except web.HTTPException as error:  # aiohttp's own: the body is too large
            return _refusal(error.status, error.reason, started_s)
        except TimeoutError:
            return _refusal(408, f"Timeout: not done in {_REQUEST_TIMEOUT_S:g} s", started_s)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return _refusal(500, "Service internal error: see the server's log", started_s)
        return _answer({"result": result, "status": "ok", "time": perf_counter() - started_s})

    return handle


def _refusal(status: int, text: str, started_s: float) -> web.Response:
    return _answer({"status": {"error": text}, "time": perf_counter() - started_s}, status)


def _answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(body), status=status, content_type="application/json")


async def _root(_request: web.Request) -> web.Response:
    return _answer({"title": "qdrant - vector search engine", "version": _VERSION})


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
    names = sorted(collection.name for collection in request.app[_REGISTRY].collections)
    return {"collections": [{"name": name} for name in names]}


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
        "config": collection.config.as_answer(),
        "payload_schema": {key: _schema_json(index) for key, index in info.payload_schema.items()},
    }


def _schema_json(info: edge.PayloadIndexInfo) -> dict[str, Any]:
    # The engine's enums are no enum.Enum, whatever the stub says.
    kind = str(info.data_type).rpartition(".")[2].lower()
    body: dict[str, Any] = {"data_type": kind, "points": info.points}
    if isinstance(info.params, edge.KeywordIndexParams):
        body["params"] = {"type": kind, "is_tenant": bool(info.params.is_tenant)}
    return body


async def _change_aliases(request: web.Request) -> object:
    wanted = read(AliasActions, await request.read())
    request.app[_REGISTRY].change_aliases(wanted.actions)
    return True


async def _aliases(request: web.Request) -> object:
    aliases = request.app[_REGISTRY].aliases
    return {
        "aliases": [
            {"alias_name": alias, "collection_name": name} for alias, name in aliases.items()
        ]
    }
