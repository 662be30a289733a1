"""GET /admin/queues: what waits in each stage of the instance, and its consumers."""

from __future__ import annotations

import asyncio

from aiohttp import web

from services.api.http.answers import Answer, Success, Time, json_answer
from services.api.http.route import Routes
from shared.domain.memory import now_ms
from shared.streams.stream import RELEASED, Stream
from shared.streams.transitions import ConsumerState


class ConsumerAnswer(Answer):
    """One reader."""

    name: str
    pending: int
    idle_seconds: float
    last_heartbeat: Time
    alive: bool

    @classmethod
    def of(cls, stream: Stream, consumer: ConsumerState) -> ConsumerAnswer:
        return cls(
            name=consumer.name,
            pending=consumer.pending,
            idle_seconds=consumer.idle_ms / 1000,
            last_heartbeat=now_ms() - consumer.idle_ms,
            alive=stream.is_active(consumer),
        )


class QueueAnswer(Answer):
    """One stage."""

    stream: str
    depth: int
    ready: int
    in_flight: int
    delayed: int
    dead: int
    oldest_age_seconds: float | None
    consumers: list[ConsumerAnswer]

    @classmethod
    async def read(cls, stream: Stream) -> QueueAnswer:
        depth, consumers = await asyncio.gather(stream.depth(), stream.consumers())
        return cls(
            stream=stream.stage.value,
            depth=depth.live,
            ready=depth.ready,
            in_flight=depth.pending,
            delayed=depth.delayed,
            dead=depth.dead,
            oldest_age_seconds=depth.oldest_age_s,
            consumers=[ConsumerAnswer.of(stream, c) for c in consumers if c.name != RELEASED],
        )


class QueuesAnswer(Success):
    """Of the whole instance."""

    streams: list[QueueAnswer]


STREAMS: web.AppKey[tuple[Stream, ...]] = web.AppKey("streams", tuple)
ROUTES = Routes(scope="admin", group="operations")


@ROUTES.add(
    "GET",
    "/admin/queues",
    "What waits in every stage, and its consumers (of the whole instance)",
    returns=QueuesAnswer,
)
async def queues(request: web.Request) -> web.Response:
    streams = request.app[STREAMS]
    rows = await asyncio.gather(*map(QueueAnswer.read, streams))
    return json_answer(QueuesAnswer(streams=rows))
