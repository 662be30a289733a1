"""GET /stream: the tenant's events as server-sent events, each with an id to resume from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web

from services.api.http.answers import Answer, json_answer
from services.api.http.middleware import TENANT
from services.api.http.parameters import Query, parsed
from services.api.http.route import Routes
from services.api.operations.event_feed import Entry, Feed, Subscription, parse_id
from shared.errors import TransientError

KEEPALIVE = b": keepalive\n\n"
# A client that takes nothing for this long is gone or too slow.
_WRITE_TIMEOUT_S = 10.0
# How soon a client that hung up is noticed between two keepalives.
_LOOK_EVERY_S = 1.0
FEED: web.AppKey[Feed] = web.AppKey("feed", Feed)
_EVENT = {"type": "string", "pattern": r"^\d{1,19}-\d{1,19}$"}
_LAST_ID = parsed(
    "last_event_id", "Resume after this event; as the header Last-Event-ID", parse_id, schema=_EVENT
)
_LAST_ID_HEADER = parsed("Last-Event-ID", "Resume after this event", parse_id, schema=_EVENT)
ROUTES = Routes(group="operations")


@ROUTES.add(
    "GET",
    "/stream",
    "Events as they happen (server-sent events)",
    query=(_LAST_ID,),
    headers=(_LAST_ID_HEADER,),
    answers={200: "An endless stream of events", 503: "Too many streams, or no Redis"},
    media_type="text/event-stream",
)
async def stream(request: web.Request) -> web.StreamResponse:
    feed = request.app[FEED]
    subscription = await feed.subscribe(request[TENANT], last_event_id(request))
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
    )
    try:
        await response.prepare(request)
        await _send_all(request, response, subscription, feed.settings.keepalive_s)
    except TransientError:
        pass  # Redis went away: the client comes back with the id of its last event
    except (ConnectionError, TimeoutError):
        subscription.too_slow = True
    finally:
        feed.leave(subscription)
    if subscription.too_slow and request.transport is not None:
        request.transport.abort()  # without waiting for a client that takes nothing
    return response


async def _send_all(
    request: web.Request,
    response: web.StreamResponse,
    subscription: Subscription,
    keepalive_s: float,
) -> None:
    """Send until the subscription ends (shutdown, or too slow) or the client is gone."""
    # Shows proxies and clients at once that the stream is open.
    await response.write(b": connected\n\n")
    wrote_at = time.monotonic()
    while not subscription.ended:
        entries = await subscription.next(min(_LOOK_EVERY_S, keepalive_s))
        if request.transport is None or request.transport.is_closing():
            return
        if entries or time.monotonic() - wrote_at >= keepalive_s:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await response.write(frames(entries) or KEEPALIVE)
            wrote_at = time.monotonic()


def frames(entries: Sequence[Entry]) -> bytes:
    """Return `entries` in the form of server-sent events; their JSON has no line breaks."""
    return "".join(f"id: {event_id}\ndata: {text}\n\n" for event_id, text in entries).encode()


def last_event_id(request: web.Request) -> str | None:
    """Return the header (what EventSource sends) or ?last_event_id=. Raises: InvalidInput."""
    header = request.headers.get("Last-Event-ID", "").strip()
    return parse_id(header) if header else Query.of(request)[_LAST_ID]


class SubscribersAnswer(Answer):
    """The subscribers of the token's tenant at this process."""

    subscribers: int


@ROUTES.add("GET", "/stream/status", "How many watch this tenant", returns=SubscribersAnswer)
async def stream_status(request: web.Request) -> web.Response:
    return json_answer(SubscribersAnswer(subscribers=request.app[FEED].count(request[TENANT])))
