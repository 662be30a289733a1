"""The running product against a provider that fails in every way we know.

Every memory but the refused one is embedded, every vector is the provider's own, and what
fails for all is nobody's attempt.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from qdrant_client.http.exceptions import UnexpectedResponse

from shared.config import Settings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.job import Stage
from shared.streams.policy import policy_for
from shared.streams.stream import Stream
from shared.streams.transitions import DeadJob
from tests.support.providers import scripted
from tests.support.providers.scripted import Answer, Provider, vector_of
from tests.support.stack.stack import Client, Stack, running
from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s

NAN = scripted.rows(lambda rows: [{**row, "embedding": [float("nan")] * 8} for row in rows])
FAILURES = {
    "429": scripted.status(429, headers={"Retry-After": "1"}),
    "500": scripted.status(500),
    "timeout": scripted.silent,
    "cut body": scripted.cut,
    "half a JSON": scripted.raw(b'{"data": [{"index": 0, "embed'),
    "wrong count": scripted.rows(lambda rows: rows[1:]),
    "wrong dimension": scripted.embeddings(dimension=9),
    "not a number": NAN,
}
_REFUSED = "unspeakable"


class Embeddings(Provider):
    """Scripted for embeddings only; the enricher's questions always get an answer."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/embeddings"):
            return await super().handle(request)
        verdict = scripted.completion('{"type": "Context", "confidence": 0.6}')
        response: web.Response = verdict(request, await request.json())
        response.force_close()
        return response


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with scripted.running(Embeddings(scripted.faithful())) as opened:
        yield opened


@pytest.fixture(scope="module")
async def stack(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    remote = {
        "EMBEDDING_PROVIDER": "openai",
        "OPENAI_BASE_URL": provider.url,
        "EMBEDDING_MODEL": "scripted",
        "EMBEDDING_BATCH_TIMEOUT_SECONDS": "0.2",
        "EUNOE_EMBEDDING_TIMEOUT_SECONDS": str(limit_s(1)),
    }
    folder = tmp_path_factory.mktemp("stack")
    roles = ("--only", "api,enricher,embedder,syncer")
    async with running(folder, remote, *roles) as started:
        await wait_until(lambda: searchable(started), "the first generation is made")
        yield started


@pytest.fixture
async def api(stack: Stack, provider: Provider) -> AsyncIterator[Client]:
    """A client; afterwards the provider serves again, and nothing is left of this test."""
    async with stack.client() as client:
        yield client
        provider.script.clear()
        provider.otherwise = scripted.faithful()
        answer = await client.ask("GET", "/memory/by-tag?tags=test&limit=200")
        assert answer.status == 200, answer
        for memory in answer.body["memories"]:
            await client.ask("DELETE", f"/memory/{memory['id']}")
        await wait_until(stack_empty(stack), "the vectors are gone")


@pytest.fixture
async def embed(stack: Stack) -> AsyncIterator[Stream]:
    """The embed stream, past the product's processes."""
    streams = StreamSettings(_env_file=None)
    clients = RedisClients.open(stack.store_settings()[0], streams)
    yield Stream(clients, policy_for(Stage.EMBED, Settings(streams=streams)))
    await clients.close()


async def searchable(stack: Stack) -> bool:
    try:
        await stack.stores().points()
    except UnexpectedResponse:
        return False
    return True


def stack_empty(stack: Stack) -> Any:
    async def empty() -> bool:
        return not await stack.stores().points()

    return empty


async def store(api: Client, texts: list[str]) -> dict[str, str]:
    """Id → content of new memories."""
    ids = await asyncio.gather(*(api.stored(text, tags=["test"]) for text in texts))
    return dict(zip(ids, texts, strict=True))


async def embedded(stack: Stack, wanted: dict[str, str], timeout_s: float = 60.0) -> None:
    """Wait for the points of `wanted`; each holds what the provider gives for its content."""
    seen: dict[str, Any] = {}

    async def there() -> bool:
        seen.clear()
        seen.update(await stack.stores().points(vectors=True))
        return all(
            each in seen and np.allclose(dense(seen[each]), vector_of(text), atol=1e-5)
            for each, text in wanted.items()
        )

    try:
        await wait_until(there, "all is embedded", timeout_s)
    except AssertionError as error:
        missing = [text for each, text in wanted.items() if each not in seen]
        raise AssertionError(f"{error}; missing {missing}\n{stack.log_tail()}") from None


async def dead_lettered(embed: Stream, memory_id: str) -> list[DeadJob]:
    """The dead jobs once all else is settled: one per version of this memory, and no other."""

    async def settled() -> bool:
        depth = await embed.depth()
        return bool(depth.dead) and not depth.live

    await wait_until(settled, "it is dead-lettered")
    dead = await embed.dead(limit=10)
    assert {each.job.memory_id for each in dead if each.job} == {memory_id}
    return dead


def dense(record: Any) -> list[float]:
    return list(record.vector["dense"])


async def no_vector_is_wrong(stack: Stack, contents: dict[str, str]) -> None:
    """Whatever points there are hold what the provider gives for their memory's content."""
    for key, record in (await stack.stores().points(vectors=True)).items():
        np.testing.assert_allclose(dense(record), vector_of(contents[key]), atol=1e-5)


def admin(stack: Stack, role: str, path: str) -> str:
    url = f"http://127.0.0.1:{stack.one(role).ports['admin']}{path}"
    with urllib.request.urlopen(url, timeout=limit_s()) as answer:
        return str(answer.read().decode())


def readiness(stack: Stack, role: str) -> dict[str, Any]:
    return dict(json.loads(admin(stack, role, "/readyz")))


def metric(stack: Stack, role: str, name: str) -> float:
    """The sum of a metric's samples in one process."""
    text = admin(stack, role, "/metrics")
    return sum(
        float(found) for found in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    )


async def attempts(stack: Stack) -> set[int]:
    """Attempts charged so far to the live jobs of the embed stage."""
    async with stack.stores().redis() as redis:
        entries: Any = await redis.xrange("eunoe:{embed}:jobs")
        delayed: Any = await redis.zrange("eunoe:{embed}:delayed", 0, -1)
    rows = [*(row.split("\n")[2] for row in delayed), *(fields["job"] for _, fields in entries)]
    return {json.loads(row)[4] for row in rows}


def held(gate: asyncio.Event, word: str) -> Answer:
    """The right answer, but what contains `word` waits for the gate."""

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        async def respond() -> web.StreamResponse:
            if any(word in text for text in body["input"]):
                await gate.wait()
            return scripted.faithful()(request, body)  # type: ignore[no-any-return]

        return respond()

    return answer


def broken_by(word: str, failure: Answer) -> Answer:
    """The right answer, but `failure` where an input contains `word`."""

    def answer(request: web.Request, body: dict[str, Any]) -> Any:
        broken = any(word in text for text in body["input"])
        return (failure if broken else scripted.faithful())(request, body)

    return answer


async def test_every_other_memory_is_embedded_and_the_refused_one_can_be_replayed(
    stack: Stack, provider: Provider, api: Client, embed: Stream
) -> None:
    refusing = scripted.faithful(refusing=_REFUSED)
    provider.otherwise = refusing
    # A good answer after each bad one: otherwise the waits would double.
    provider.script = [each for failure in FAILURES.values() for each in (failure, refusing)]
    texts = [f"statement {number} of many" for number in range(60)]
    texts[27] = f"an {_REFUSED} statement"
    contents = await store(api, texts)
    [refused] = [each for each, text in contents.items() if _REFUSED in text]
    others = {each: text for each, text in contents.items() if each != refused}
    more = 0
    while provider.script:  # as many batches as it takes to see every failure
        await asyncio.sleep(0.2)
        more += 1
        others |= await store(api, [f"late statement {more}"])
        await no_vector_is_wrong(stack, contents | others)
    await embedded(stack, others)

    dead = await dead_lettered(embed, refused)
    assert {each.reason for each in dead} == {"permanent"}
    assert all("content_refused" in each.error for each in dead)
    assert not any(_REFUSED in each.error for each in dead)
    assert refused not in await stack.stores().points()

    provider.otherwise = scripted.faithful()
    assert await embed.replay([each.entry_id for each in dead]) == len(dead)
    await embedded(stack, contents | others)
    assert not await embed.dead(limit=10)


async def test_a_provider_that_is_down_is_left_alone_and_charges_no_attempt(
    stack: Stack, provider: Provider, api: Client, embed: Stream
) -> None:
    provider.otherwise = scripted.status(500)
    provider.requests.clear()
    began = time.monotonic()
    contents = await store(api, [f"patient statement {number}" for number in range(100)])
    await wait_until(
        lambda: metric(stack, "embedder", "eunoe_model_circuit_open") == 1, "the circuit is open"
    )
    await asyncio.sleep(max(0.0, began + 6.0 - time.monotonic()))
    # At once one call per batch in flight, then one text after 1 s, 2 s, 4 s; each that failed
    # is followed by a harmless text, which tells that it is no text's fault.
    assert 6 <= len(provider.requests) <= 2 * (4 + 3)
    assert {len(each["input"]) for each in provider.requests[8:]} <= {1}
    assert await attempts(stack) == {0}
    assert metric(stack, "embedder", "eunoe_consumer_paused") == 1
    shown = readiness(stack, "embedder")
    assert shown["ok"], "a provider that is down is no reason to restart or to route around"
    assert shown["embedding"]["circuit"]["circuit"] in {"open", "half-open"}
    assert "500" in shown["embedding"]["circuit"]["error"]
    provider.otherwise = scripted.faithful()
    await embedded(stack, contents)
    assert metric(stack, "embedder", "eunoe_model_circuit_open") == 0
    assert (await embed.depth()).dead == 0


async def test_a_text_that_breaks_the_provider_is_dead_lettered_and_delays_no_other(
    stack: Stack, provider: Provider, api: Client, embed: Stream
) -> None:
    """Some servers answer 500 to a text they cannot embed: distinguished from being down by a
    harmless text, which they answer."""
    provider.otherwise = broken_by("breaking", scripted.status(500))
    contents = await store(api, [*(f"sound statement {n}" for n in range(40)), "breaking"])
    [breaking] = [each for each, text in contents.items() if text == "breaking"]
    await embedded(stack, {each: text for each, text in contents.items() if each != breaking})
    assert metric(stack, "embedder", "eunoe_consumer_paused") == 0
    assert metric(stack, "embedder", "eunoe_model_circuit_open") == 0

    dead = await dead_lettered(embed, breaking)
    assert {each.reason for each in dead} == {"exhausted"}
    assert all("HTTP 500" in each.error for each in dead)
    provider.otherwise = scripted.faithful()
    assert await embed.replay([each.entry_id for each in dead]) == len(dead)
    await embedded(stack, contents)


async def test_equal_texts_are_paid_for_once(stack: Stack, provider: Provider, api: Client) -> None:
    provider.requests.clear()
    text = f"said again and again {time.time()}"
    contents = await store(api, [text] * 10)
    await embedded(stack, contents)
    contents |= await store(api, [text] * 10)
    await embedded(stack, contents)
    sent_texts = [each for request in provider.requests for each in request["input"]]
    assert sent_texts.count(text) == 1
    assert metric(stack, "embedder", "eunoe_model_cache_total") > 0


async def test_recalls_do_not_wait_for_a_provider_that_is_down(
    stack: Stack, provider: Provider, api: Client
) -> None:
    before = asyncio.all_tasks()
    contents = await store(api, ["Ada prefers window seats"])
    await embedded(stack, contents)
    provider.otherwise = scripted.silent
    bodies: list[Any] = []

    async def recall_s() -> float:
        answer = await api.ask("GET", f"/recall?query=window+seats+{len(bodies)}")
        bodies.append(answer.body)
        return answer.seconds

    async def opened() -> bool:
        await recall_s()
        return metric(stack, "api", "eunoe_model_circuit_open") == 1

    await wait_until(opened, "the circuit is open")
    assert min([await recall_s() for _ in range(3)]) < limit_s(0.3)
    for body in bodies:
        assert body["degraded"] == ["vector"]
        assert [row["id"] for row in body["results"]] == [*contents]
    provider.otherwise = scripted.faithful()

    async def served() -> bool:
        answer = await api.ask("GET", "/recall?query=window+seats+again")
        return "degraded" not in answer.body

    await wait_until(served, "recall has its model back")
    await wait_until(lambda: not asyncio.all_tasks() - before, "no call of the provider waits")


async def test_a_change_during_a_delayed_embedding_wins(
    stack: Stack, provider: Provider, api: Client
) -> None:
    gate = asyncio.Event()
    provider.otherwise = held(gate, "old words")
    provider.requests.clear()
    [memory_id] = await store(api, ["the old words of a statement"])
    await wait_until(lambda: provider.requests, "the old text is with the provider")
    answer = await api.ask("PATCH", f"/memory/{memory_id}", json={"content": "entirely new"})
    assert answer.status == 200, answer
    await asyncio.sleep(0.3)  # less than the time the provider is given
    gate.set()
    await embedded(stack, {memory_id: "entirely new"})
    await stack.stores().all_done(1)
    await embedded(stack, {memory_id: "entirely new"}, timeout_s=1.0)


async def test_expired_memories_stay_hidden_once_embedded(
    stack: Stack, provider: Provider, api: Client
) -> None:
    text = "the office is in the old harbour"
    expired = await api.stored(text, tags=["test"], t_invalid="2020-01-01T00:00:00Z")
    future = await api.stored(
        f"{text} from next year", tags=["test"], t_valid="2099-01-01T00:00:00Z"
    )
    current = await api.stored(f"{text} no more", tags=["test"])
    contents = {expired: text, future: f"{text} from next year", current: f"{text} no more"}

    async def found() -> list[str]:
        answer = await api.ask("GET", "/recall?query=the+office+is+in+the+old+harbour&limit=10")
        return [row["id"] for row in answer.body["results"]]

    assert await found() == [current]
    await embedded(stack, contents)
    assert await found() == [current]
    answer = await api.ask("PATCH", f"/memory/{expired}", json={"tags": ["test", "moved"]})
    assert answer.status == 200, answer
    await stack.stores().all_done(3)
    assert await found() == [current]
