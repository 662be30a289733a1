"""ChatModel against a scripted provider: a validated object, or an error."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, SecretStr

from shared.config import ChatSettings, EmbeddingSettings
from shared.errors import PermanentError, PoisonInput, TransientError, Unavailable
from shared.models.chat import ChatModel, open_chat
from shared.models.providers.openai_client import connect
from shared.models.types import Endpoint
from tests.support.providers import scripted
from tests.support.providers.scripted import Answer, Provider
from tests.support.waiting.pace import limit_s


class Verdict(BaseModel):
    type: str
    confidence: Annotated[float, Field(ge=0, le=1)]


GOOD = scripted.completion('{"type": "Decision", "confidence": 0.9}')


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with scripted.running(Provider(GOOD)) as running:
        yield running


@pytest.fixture
async def chat(provider: Provider) -> AsyncIterator[ChatModel]:
    endpoint = Endpoint(api_key=SecretStr("k"), base_url=provider.url, timeout_s=limit_s(3.0))
    opened = ChatModel("c", await connect(endpoint), endpoint)
    yield opened
    await opened.close()


async def test_an_answer_is_validated(chat: ChatModel, provider: Provider) -> None:
    verdict = await chat.ask("classify", "We chose Redis", Verdict, max_tokens=50)
    assert verdict == Verdict(type="Decision", confidence=0.9)
    (request,) = provider.requests
    assert request["max_tokens"] == 50
    assert [each["role"] for each in request["messages"]] == ["system", "user"]
    assert request["response_format"]["json_schema"]["schema"]["required"] == ["type", "confidence"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (scripted.completion('{"type": "Decision", "confidence": 7}'), TransientError),
        (scripted.completion("sure! here it is"), TransientError),
        (scripted.completion(None), TransientError),
        (scripted.completion(None, refusal="no"), PermanentError),
        (scripted.completion('{"type": "De', finish_reason="length"), PermanentError),
        (scripted.raw(b"{}"), TransientError),
        (scripted.raw(b'{"choices": []}'), TransientError),
        (scripted.raw(b"<html>", "text/html"), TransientError),
        (scripted.raw(b'{"cut'), TransientError),
        (scripted.status(429, headers={"Retry-After": "0"}), Unavailable),
        (scripted.status(500), PoisonInput),
        (scripted.status(500, headers={"Retry-After": "0"}), Unavailable),
        (scripted.status(401), Unavailable),
        (scripted.status(400), PermanentError),
        # It has no chat: a question asked again would find none either.
        (scripted.status(404), PermanentError),
        (scripted.silent, Unavailable),
        (scripted.cut, Unavailable),
    ],
)
async def test_anything_else_is_an_error(
    chat: ChatModel, provider: Provider, answer: Answer, error: type[Exception]
) -> None:
    provider.script = [answer]
    with pytest.raises(error) as caught:
        await chat.ask("classify", "secret text", Verdict)
    assert type(caught.value) is error
    assert "secret" not in str(caught.value)
    assert (await chat.ask("classify", "x", Verdict)).type == "Decision"


async def test_without_key_and_address_there_is_no_chat() -> None:
    assert await open_chat(ChatSettings(_env_file=None), _settings()) is None


@pytest.mark.parametrize("model", ["none", "NONE", " "])
async def test_a_model_named_none_switches_chat_off(model: str) -> None:
    settings = ChatSettings(_env_file=None, CLASSIFICATION_MODEL=model)
    assert await open_chat(settings, _settings("http://localhost:1/v1")) is None


async def test_an_address_is_enough() -> None:
    chat = await open_chat(ChatSettings(_env_file=None), _settings("http://localhost:1/v1"))
    assert chat is not None
    assert chat.name == "gpt-4o-mini"
    await chat.close()


def _settings(base_url: str | None = None) -> EmbeddingSettings:
    return EmbeddingSettings(_env_file=None, OPENAI_BASE_URL=base_url, OPENAI_API_KEY=None)
