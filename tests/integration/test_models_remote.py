"""Remote embeddings against a provider that answers wrongly in every way we know."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from shared.errors import PermanentError, PoisonInput, TransientError, Unavailable
from shared.models.outbound import HARMLESS
from shared.models.providers.openai_client import connect
from shared.models.providers.openai_embedding import OpenAIEmbedding, sized_model
from shared.models.providers.voyage import VoyageEmbedding
from shared.models.types import Endpoint
from tests.support.providers import scripted
from tests.support.providers.scripted import Answer, Provider
from tests.support.waiting.pace import limit_s

NAN = scripted.rows(lambda rows: [{**row, "embedding": [float("nan")] * 8} for row in rows])
ZERO = scripted.rows(lambda rows: [{**row, "embedding": [0.0] * 8} for row in rows])
RAGGED = scripted.rows(lambda rows: [{**rows[0], "embedding": [1.0]}, *rows[1:]])
SAME_INDEX = scripted.rows(lambda rows: [{**row, "index": 0} for row in rows])


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with scripted.running(Provider(scripted.embeddings())) as running:
        yield running


async def connected(
    model: str, endpoint: Endpoint, *, requested_dimension: int | None = None
) -> OpenAIEmbedding:
    return OpenAIEmbedding(model, await connect(endpoint), endpoint, requested_dimension)


@pytest.fixture
async def model(provider: Provider) -> AsyncIterator[OpenAIEmbedding]:
    opened = await connected(
        "m", Endpoint(api_key=SecretStr("k"), base_url=provider.url, timeout_s=limit_s(3.0))
    )
    await opened.embed(["the first answer tells the dimension"])
    provider.requests.clear()
    yield opened
    await opened.close()


@pytest.fixture
async def voyage(provider: Provider) -> AsyncIterator[VoyageEmbedding]:
    opened = VoyageEmbedding(
        "v",
        Endpoint(api_key=SecretStr("k"), base_url=provider.url, timeout_s=limit_s(3.0)),
        dimension=8,
    )
    yield opened
    await opened.close()


def expected(texts: list[str]) -> Any:
    rows = [np.arange(1, 9) + len(text) + at for at, text in enumerate(texts)]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


async def test_vectors_come_in_input_order_at_unit_length(model: OpenAIEmbedding) -> None:
    texts = ["one", "three", "fifteen"]
    found = await model.embed(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(texts), atol=1e-6)
    np.testing.assert_allclose(await model.embed_query("one"), expected(["one"])[0], atol=1e-6)
    assert model.dimension == 8


async def test_no_texts_ask_nobody(model: OpenAIEmbedding, provider: Provider) -> None:
    assert (await model.embed([])).shape == (0, 8)
    assert provider.requests == []


async def test_compatible_servers_get_neither_dimensions_nor_base64(
    model: OpenAIEmbedding, provider: Provider
) -> None:
    await model.embed(["x"])
    assert provider.requests == [{"input": ["x"], "model": "m", "encoding_format": "float"}]


def test_only_openais_own_models_are_asked_for_a_dimension() -> None:
    small, ours = "text-embedding-3-small", "http://localhost:1/v1"
    assert sized_model(small, None, None, None) == (small, 1536)
    assert sized_model(small, None, 512, 384) == (small, 512)
    assert sized_model(small, None, None, 384) == (small, 384)
    assert sized_model(small, None, None, 4096) == (small, 1536)
    assert sized_model(small, None, 2048, None) == ("text-embedding-3-large", 2048)
    assert sized_model(small, ours, 512, 384) == (small, None)
    assert sized_model("bge-m3", None, 512, None) == ("bge-m3", None)


async def test_a_shortened_model_has_a_name_of_its_own() -> None:
    for size, name in ((1536, "text-embedding-3-small"), (512, "text-embedding-3-small@512")):
        model = await connected("text-embedding-3-small", Endpoint(), requested_dimension=size)
        await model.close()
        assert model.name == name


async def test_rate_limit_says_when_to_come_back(
    model: OpenAIEmbedding, provider: Provider
) -> None:
    provider.script = [scripted.status(429, headers={"Retry-After": "7"})]
    with pytest.raises(TransientError) as caught:
        await model.embed(["x"])
    assert caught.value.retry_after_s == 7
    assert isinstance(caught.value, Unavailable)  # no job's fault: charges no attempt
    assert len(provider.requests) == 1  # no retry of its own


async def test_a_rate_limit_holds_for_everybody(model: OpenAIEmbedding, provider: Provider) -> None:
    in_a_while = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    provider.script = [scripted.status(429, headers={"Retry-After": in_a_while})]
    with pytest.raises(Unavailable):
        await model.embed(["x"])
    with pytest.raises(Unavailable, match="not called") as caught:
        await model.embed_query("y")
    assert caught.value.retry_after_s is not None
    assert 25 < caught.value.retry_after_s <= 30
    assert len(provider.requests) == 1


async def test_an_exhausted_quota_stops_everything(
    model: OpenAIEmbedding, provider: Provider
) -> None:
    provider.script = [scripted.status(429, error={"code": "insufficient_quota"})]
    with pytest.raises(Unavailable, match="insufficient_quota"):
        await model.embed(["x"])


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_refused_input_is_permanent(
    model: OpenAIEmbedding, provider: Provider, code: int
) -> None:
    provider.script = [scripted.status(code, error={"message": "secret text", "code": "too_long"})]
    with pytest.raises(PermanentError, match="too_long") as caught:
        await model.embed(["secret text"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("code", [401, 403, 404, 500, 502, 503])
async def test_what_fails_for_all_charges_no_attempt(
    model: OpenAIEmbedding, provider: Provider, code: int
) -> None:
    provider.otherwise = scripted.status(code)
    with pytest.raises(Unavailable, match=str(code)) as caught:
        await model.embed(["x"])
    assert caught.value.dependency == "embedding"
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("code", [500, 502, 503])
async def test_a_server_that_fails_at_these_texts_alone_is_not_down(
    model: OpenAIEmbedding, provider: Provider, code: int
) -> None:
    provider.script = [scripted.status(code)]
    with pytest.raises(PoisonInput, match=str(code)):
        await model.embed(["x", "y"])
    assert [each["input"] for each in provider.requests] == [["x", "y"], [HARMLESS]]
    assert model.circuit.state == "closed"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (scripted.rows(lambda rows: rows[1:]), TransientError),
        (scripted.rows(lambda rows: [*rows, rows[0]]), TransientError),
        (SAME_INDEX, TransientError),
        (NAN, TransientError),
        (ZERO, TransientError),
        (RAGGED, TransientError),
        (scripted.embeddings(dimension=9), Unavailable),
        (scripted.rows(lambda _: None), TransientError),
        (scripted.raw(b'{"data": [{"index": 0, "embed'), TransientError),
        (scripted.raw(b"[]"), TransientError),
        (scripted.raw(b"<html>busy</html>", "text/html"), TransientError),
        (scripted.cut, Unavailable),
        (scripted.silent, Unavailable),
    ],
)
async def test_an_unusable_answer_is_an_error_never_a_vector(
    model: OpenAIEmbedding, provider: Provider, answer: Answer, error: type[Exception]
) -> None:
    provider.script = [answer]
    with pytest.raises(error):
        await model.embed(["one", "two"])
    assert (await model.embed(["one", "two"])).shape == (2, 8)  # and the next call is fine


async def test_a_provider_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:  # bound, not listening: refuses every connection
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        model = await connected(
            "m", Endpoint(api_key=SecretStr("k"), base_url=url, timeout_s=limit_s(3.0))
        )
        with pytest.raises(Unavailable):
            await model.embed(["x"])
        await model.close()


async def test_calls_in_flight_are_bounded(provider: Provider) -> None:
    now = most = 0

    def slow(request: Any, body: Any) -> Any:
        async def respond() -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1
            return scripted.embeddings()(request, body)

        return respond()

    provider.otherwise = slow
    model = await connected(
        "m", Endpoint(api_key=SecretStr("k"), base_url=provider.url, concurrency=2)
    )
    await asyncio.gather(*(model.embed([str(at)]) for at in range(8)))
    await model.close()
    assert most == 2


async def test_tokens_are_counted(model: OpenAIEmbedding) -> None:
    def spent() -> float:
        labels = {"model": "m", "direction": "input"}
        return REGISTRY.get_sample_value("eunoe_model_tokens_total", labels) or 0.0

    before = spent()
    await model.embed(["one", "two"])
    assert spent() - before == 6


async def test_a_paid_models_cost_is_counted(provider: Provider) -> None:
    def spent(name: str) -> float | None:
        return REGISTRY.get_sample_value("eunoe_model_cost_usd_total", {"model": name})

    for name, prices, usd in (
        ("text-embedding-3-large", None, 0.13 * 3e-6),
        ("text-embedding-3-small", {"text-embedding-3-small": 7.0}, 7.0 * 3e-6),
        ("my-own-model", None, None),
    ):
        before = spent(name)
        model = await connected(name, Endpoint(base_url=provider.url, prices=prices))
        await model.embed(["one"])
        await model.close()
        assert spent(name) == (None if usd is None else pytest.approx((before or 0) + usd))


async def test_voyage_tells_questions_from_documents(
    voyage: VoyageEmbedding, provider: Provider
) -> None:
    np.testing.assert_allclose(
        await voyage.embed(["one", "three"]), expected(["one", "three"]), atol=1e-6
    )
    await voyage.embed_query("one")
    assert [each["input_type"] for each in provider.requests] == ["document", "query"]
    assert {each["output_dimension"] for each in provider.requests} == {8}


async def test_voyage_splits_what_is_beyond_its_limit(
    voyage: VoyageEmbedding, provider: Provider
) -> None:
    texts = [f"text {at}" for at in range(300)]
    assert (await voyage.embed(texts)).shape == (300, 8)
    assert [len(each["input"]) for each in provider.requests] == [128, 128, 44]
    assert (await voyage.embed([])).shape == (0, 8)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (scripted.status(429, headers={"Retry-After": "0"}), Unavailable),
        (scripted.status(500), PoisonInput),
        (scripted.status(500, headers={"Retry-After": "0"}), Unavailable),
        (scripted.status(401), Unavailable),
        (scripted.status(400), PermanentError),
        (scripted.cut, TransientError),
        (scripted.silent, Unavailable),
        (NAN, TransientError),
    ],
)
async def test_voyages_failures_are_ours(
    voyage: VoyageEmbedding, provider: Provider, answer: Answer, error: type[Exception]
) -> None:
    provider.script = [answer]
    with pytest.raises(error) as caught:
        await voyage.embed(["x"])
    assert type(caught.value) is error
    assert (await voyage.embed(["x"])).shape == (1, 8)
