"""GET /admin/queues: what waits in each stage, and who works on it. Of the whole instance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from services.api.http.answer_schemas import shape
from services.api.http.answers import json_answer
from services.api.http.route import Route
from shared.domain.memory import iso, now_ms
from shared.streams.job import Stage
from shared.streams.stream import RELEASED, Stream
from shared.streams.transitions import ConsumerState


class Queues:
    """The use case; three short calls per stage, all at once."""

    def __init__(self, streams: Mapping[Stage, Stream]) -> None:
        self._streams = streams

    async def report(self) -> list[dict[str, Any]]:
        return await asyncio.gather(*map(_of, self._streams.values()))


async def _of(stream: Stream) -> dict[str, Any]:
    depth, age_s, consumers = await asyncio.gather(
        stream.depth(), stream.oldest_age_s(), stream.consumers()
    )
    return {
        "stream": stream.stage.value,
        "depth": depth.live,
        "ready": depth.ready,
        "in_flight": depth.pending,
        "delayed": depth.delayed,
        "dead": depth.dead,
        "oldest_age_seconds": age_s,
        "consumers": [_consumer(stream, each) for each in consumers if each.name != RELEASED],
    }


def _consumer(stream: Stream, consumer: ConsumerState) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "pending": consumer.pending,
        "idle_seconds": consumer.idle_ms / 1000,
        "last_heartbeat": iso(now_ms() - consumer.idle_ms),
        "alive": stream.is_active(consumer),
    }


# -- HTTP -------------------------------------------------------------------------------

QUEUES: web.AppKey[Queues] = web.AppKey("queues", Queues)


async def queues(request: web.Request) -> web.Response:
    return json_answer({"status": "success", "streams": await request.app[QUEUES].report()})


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/admin/queues",
        queues,
        "What waits in every stage, and its consumers (of the whole instance)",
        scope="admin",
        returns=shape("Queues"),
        group="operations",
    ),
)
