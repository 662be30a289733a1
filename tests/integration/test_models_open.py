"""Which model the settings get, and how a start without one is refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config import EmbeddingSettings
from shared.errors import ConfigError
from shared.models.open import chosen_provider, open_embedding
from tests.support.providers import scripted
from tests.support.providers.scripted import Provider

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "VOYAGE_API_KEY", "OLLAMA_BASE_URL", "OLLAMA_MODEL")


def settings(**variables: Any) -> EmbeddingSettings:
    return EmbeddingSettings(_env_file=None, **(dict.fromkeys(KEYS) | variables))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with scripted.running(Provider(scripted.embeddings(dimension=8))) as running:
        yield running


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "local"),
        ({"OLLAMA_MODEL": "m"}, "ollama"),
        ({"OPENAI_BASE_URL": "http://x", "OLLAMA_MODEL": "m"}, "openai"),
        ({"OPENAI_API_KEY": "k", "VOYAGE_API_KEY": "v"}, "voyage"),
        ({"OPENAI_API_KEY": "k", "EMBEDDING_PROVIDER": "local"}, "local"),
    ],
)
def test_auto_goes_by_what_is_configured(variables: dict[str, str], expected: str) -> None:
    assert chosen_provider(settings(**variables)) == expected


async def test_an_openai_compatible_model_tells_its_dimension(provider: Provider) -> None:
    model = await open_embedding(settings(OPENAI_BASE_URL=provider.url, EMBEDDING_MODEL="bge"))
    assert (model.name, model.dimension, model.paid) == ("bge", 8, True)
    await model.close()


async def test_ollama_is_asked_over_its_compatible_route(provider: Provider) -> None:
    model = await open_embedding(
        settings(EMBEDDING_PROVIDER="ollama", OLLAMA_BASE_URL=provider.url.removesuffix("/v1"))
    )
    assert (model.name, model.dimension) == ("nomic-embed-text", 8)
    await model.close()


async def test_another_vector_size_than_the_models_is_refused(provider: Provider) -> None:
    with pytest.raises(ConfigError, match="VECTOR_SIZE is 768, but bge gives 8"):
        await open_embedding(
            settings(OPENAI_BASE_URL=provider.url, EMBEDDING_MODEL="bge"), size=768
        )
    with pytest.raises(ConfigError, match="VECTOR_SIZE is 768"):
        await open_embedding(settings(), size=768)


async def test_a_live_dimension_is_only_adopted_by_who_can_serve_it() -> None:
    chosen = settings(EMBEDDING_PROVIDER="placeholder")
    assert (await open_embedding(chosen, preferred=64)).dimension == 64
    assert (await open_embedding(chosen, size=32, preferred=64)).dimension == 32
    local = await open_embedding(settings(), preferred=64)
    assert local.dimension == 384
    await local.close()


@pytest.mark.parametrize(
    ("name", "variable"), [("openai", "OPENAI_API_KEY"), ("voyage", "VOYAGE_API_KEY")]
)
async def test_a_provider_without_its_key_names_the_variable(name: str, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        await open_embedding(settings(EMBEDDING_PROVIDER=name))


async def test_a_refused_key_is_reported_at_start(provider: Provider) -> None:
    provider.otherwise = scripted.status(401, headers={"Retry-After": "0"})
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        await open_embedding(settings(OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="wrong"))


async def test_a_busy_provider_is_asked_again_at_start(provider: Provider) -> None:
    provider.script = [scripted.status(503, headers={"Retry-After": "0"})]
    model = await open_embedding(settings(OPENAI_BASE_URL=provider.url))
    await model.close()
    assert len(provider.requests) == 2
