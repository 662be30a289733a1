"""The ask stage against a scripted chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config import GraphSettings
from shared.domain.memory import Memory
from shared.models.chat import ChatModel
from shared.models.providers.openai_client import connect
from shared.models.types import Endpoint
from tests.support.providers import scripted
from tests.support.providers.scripted import Provider
from tests.support.workers.enriching import Enriching, enriching, typed_by_rule

HABIT = scripted.completion('{"type": "routine", "confidence": 0.8}')


def with_fallback_type(content: str = "plain text") -> Memory:
    memory = typed_by_rule(content)
    assert (memory.type, memory.confidence) == ("Memory", 0.3)
    return memory


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with scripted.running(Provider(HABIT)) as running:
        yield running


@pytest.fixture
async def work(
    clients: Any, make_stream: Any, settings: GraphSettings, provider: Provider
) -> AsyncIterator[Enriching]:
    endpoint = Endpoint(api_key=SecretStr("k"), base_url=provider.url, timeout_s=60.0)
    chat = ChatModel("c", await connect(endpoint), endpoint)
    async with enriching(clients, make_stream, settings, chat=chat) as work:
        yield work
    await chat.close()
