"""Routes of points: searches, reads and changes."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

import qdrant_edge as edge
from aiohttp import web

from .app import Handler, add, body_of
from .collection_routes import collection_of, update_result
from .errors import NotFound, engine_objects, unsupported
from .fields import JsonObject, boolean, fields, items, optional, required, text, whole
from .filters import optional_filter
from .ids import path_id, point_id, point_ids
from .queries import QueryReader, order_by
from .records import (
    offset_json,
    payload_selection,
    record_json,
    scored_json,
    vector_selection,
)
from .shard import Collection
from .updates import READERS, Reader, batch

_RETRIEVE = frozenset({"ids", "with_payload", "with_vector", "shard_key"})
_SCROLL = frozenset(
    {"offset", "limit", "filter", "with_payload", "with_vector", "order_by", "shard_key"}
)
_COUNT = frozenset({"filter", "exact", "shard_key"})
_FACET = frozenset({"key", "limit", "filter", "exact", "shard_key"})
_PAGE = 10

_CHANGES = [
    ("PUT", "", "upsert"),
    ("POST", "/delete", "delete"),
    ("POST", "/payload", "set_payload"),
    ("PUT", "/payload", "overwrite_payload"),
    ("POST", "/payload/delete", "delete_payload"),
    ("POST", "/payload/clear", "clear_payload"),
    ("PUT", "/vectors", "update_vectors"),
    ("POST", "/vectors/delete", "delete_vectors"),
]


def add_point_routes(app: web.Application) -> None:
    points = "/collections/{name}/points"
    # aiohttp tries the routes in this order; searches are the most frequent.
    add(app, "POST", points + "/query/batch", _query_batch)
    add(app, "POST", points + "/query", _query)
    add(app, "POST", points, _retrieve)
    add(app, "POST", points + "/scroll", _scroll)
    add(app, "POST", points + "/count", _count)
    add(app, "POST", points + "/batch", _batch)
    add(app, "POST", "/collections/{name}/facet", _facet)
    for method, path, kind in _CHANGES:
        add(app, method, points + path, _change(READERS[kind]))
    add(app, "GET", points + "/{id}", _get)


async def _query(request: web.Request) -> object:
    collection = collection_of(request)
    reader = _reader(collection)
    body = await body_of(request)
    with engine_objects():
        query = reader.request(body)
    return _points_json(collection.read(lambda shard: shard.query(query)))


async def _query_batch(request: web.Request) -> object:
    collection = collection_of(request)
    reader = _reader(collection)
    body = fields(await body_of(request), "batch", frozenset({"searches"}))
    with engine_objects():
        queries = [
            reader.request(item) for item in items(required(body, "searches", "batch"), "searches")
        ]
        wanted = edge.QueryBatchRequest(queries)
    found = collection.read(lambda shard: shard.query_batch(wanted))
    return [_points_json(points) for points in found]


def _reader(collection: Collection) -> QueryReader:
    return QueryReader(collection.config, collection.stored_vector)


def _points_json(points: list[edge.ScoredPoint]) -> JsonObject:
    return {"points": [scored_json(point) for point in points]}


async def _retrieve(request: web.Request) -> object:
    collection = collection_of(request)
    body = _unsharded(fields(await body_of(request), "points", _RETRIEVE))
    with engine_objects():
        ids: list[edge.PointId] = [*point_ids(required(body, "ids", "points"), "ids")]
        with_payload = optional(body, "with_payload", payload_selection, True)
        with_vector = optional(body, "with_vector", vector_selection, False)
    found = collection.read(lambda shard: shard.retrieve(ids, with_payload, with_vector))
    return [record_json(record) for record in found]


async def _get(request: web.Request) -> object:
    collection = collection_of(request)
    wanted = path_id(request.match_info["id"])
    found = collection.read(lambda shard: shard.retrieve([wanted], True, True))
    if not found:
        raise NotFound(f"Not found: Point with id {wanted} does not exists!")
    return record_json(found[0])


async def _scroll(request: web.Request) -> object:
    collection = collection_of(request)
    body = _unsharded(fields(await body_of(request), "scroll", _SCROLL))
    with engine_objects():
        page = edge.ScrollRequest(
            offset=point_id(body["offset"]) if "offset" in body else None,
            limit=whole(body.get("limit", _PAGE), "limit", minimum=1),
            filter=optional_filter(body),
            with_payload=optional(body, "with_payload", payload_selection, True),
            with_vector=optional(body, "with_vector", vector_selection, False),
            order_by=order_by(body["order_by"], "order_by") if "order_by" in body else None,
        )
    records, following = collection.read(lambda shard: shard.scroll(page))
    return {
        "points": [record_json(record) for record in records],
        "next_page_offset": offset_json(following),
    }


async def _count(request: web.Request) -> object:
    collection = collection_of(request)
    body = _unsharded(fields(await body_of(request), "count", _COUNT))
    with engine_objects():
        wanted = edge.CountRequest(
            exact=optional(body, "exact", boolean, True), filter=optional_filter(body)
        )
    return {"count": collection.read(lambda shard: shard.count(wanted))}


async def _facet(request: web.Request) -> object:
    collection = collection_of(request)
    body = _unsharded(fields(await body_of(request), "facet", _FACET))
    with engine_objects():
        wanted = edge.FacetRequest(
            text(required(body, "key", "facet"), "key"),
            limit=whole(body.get("limit", _PAGE), "limit", minimum=1),
            exact=optional(body, "exact", boolean, False),
            filter=optional_filter(body),
        )
    found = collection.read(lambda shard: shard.facet(wanted))
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in found.hits]}


def _change(read: Reader) -> Handler:
    async def change(request: web.Request) -> object:
        collection = collection_of(request)
        body = await body_of(request)
        with engine_objects():
            updates = read(body, collection.config)
        return update_result(await collection.apply(updates))

    return change


async def _batch(request: web.Request) -> object:
    collection = collection_of(request)
    body = await body_of(request)
    with engine_objects():
        steps = batch(body, collection.config)
    return [update_result(await collection.apply(updates)) for updates in steps]


def _unsharded(body: JsonObject) -> JsonObject:
    if "shard_key" in body:
        raise unsupported("shard_key")
    return body
