"""Open the embedding model that the settings name, and prove that it answers."""

from __future__ import annotations

from dataclasses import replace

from pydantic import SecretStr
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from shared.config import EmbeddingSettings
from shared.errors import ConfigError, PermanentError, TransientError, Unavailable
from shared.models.outbound import HARMLESS
from shared.models.providers.local import LocalEmbedding
from shared.models.providers.openai_client import connect
from shared.models.providers.openai_embedding import OpenAIEmbedding, sized_model
from shared.models.providers.placeholder import PlaceholderEmbedding
from shared.models.providers.voyage import VoyageEmbedding, served_dimension
from shared.models.types import EmbeddingModel, Endpoint
from shared.telemetry.log import get_logger

log = get_logger(__name__)

OLLAMA_URL = "http://localhost:11434"
OLLAMA_MODEL = "nomic-embed-text"
_BACKOFF = wait_random_exponential(multiplier=0.5, max=8)
_MODEL_SETTING = {"openai": "model", "voyage": "voyage_model", "ollama": "ollama_model"}


async def open_embedding(
    settings: EmbeddingSettings, size: int | None = None, *, preferred: int | None = None
) -> EmbeddingModel:
    """Open the model that EMBEDDING_PROVIDER names, after one successful call.

    `auto` is Voyage with a key, else OpenAI with a key or base URL, else Ollama with one of
    its variables, else the local model. `size` (VECTOR_SIZE) is required; `preferred`, a live
    generation's dimension, is used by a model that can serve several.

    Raises: ConfigError naming the variable to change, also if the provider does not answer.
    """
    provider = chosen_provider(settings)
    model: EmbeddingModel
    match provider:
        case "local":
            model = await LocalEmbedding.load(threads=settings.threads)
        case "openai":
            model = await _openai(settings, size, preferred)
        case "ollama":
            model = await _ollama(settings)
        case "voyage":
            model = await _voyage(settings, size, preferred)
        case "placeholder":
            model = PlaceholderEmbedding(size or preferred or 384)
        case _:
            raise ConfigError(f"EMBEDDING_PROVIDER: there is no provider {provider}")
    if size is not None and model.dimension != size:
        await model.close()
        raise ConfigError(
            f"VECTOR_SIZE is {size}, but {model.name} gives {model.dimension} dimensions:"
            f" unset VECTOR_SIZE or set it to {model.dimension}"
        )
    log.info("embedding.opened", provider=provider, model=model.name, dimension=model.dimension)
    return model


def chosen_provider(settings: EmbeddingSettings) -> str:
    """Return the provider that is named, or the one that `auto` stands for."""
    if settings.provider != "auto":
        return settings.provider
    if settings.voyage_api_key:
        return "voyage"
    if settings.openai_api_key or settings.openai_base_url:
        return "openai"
    if settings.ollama_base_url or settings.ollama_model:
        return "ollama"
    return "local"


def named(settings: EmbeddingSettings, provider: str, model: str | None) -> EmbeddingSettings:
    """Return the settings with that provider, and with that model where the provider has several.

    `model` may be an EmbeddingModel's `name`, whose dimension is left out here.
    """
    given: dict[str, object] = {"provider": provider}
    if model is not None and provider in _MODEL_SETTING:
        given[_MODEL_SETTING[provider]] = model.partition("@")[0]
    return settings.model_copy(update=given)


async def _openai(
    settings: EmbeddingSettings, size: int | None, preferred: int | None
) -> EmbeddingModel:
    if not settings.openai_api_key and not settings.openai_base_url:
        raise ConfigError("EMBEDDING_PROVIDER is openai, but OPENAI_API_KEY is not set")
    name, dimension = sized_model(settings.model, settings.openai_base_url, size, preferred)
    endpoint = _endpoint(settings, settings.openai_api_key, settings.openai_base_url)
    model = OpenAIEmbedding(name, await connect(endpoint), endpoint, dimension)
    return await _proven(model, "OPENAI_API_KEY, OPENAI_BASE_URL and EMBEDDING_MODEL")


async def _ollama(settings: EmbeddingSettings) -> EmbeddingModel:
    base = (settings.ollama_base_url or OLLAMA_URL).rstrip("/")
    endpoint = replace(
        _endpoint(settings, None, base if base.endswith("/v1") else f"{base}/v1"),
        timeout_s=settings.ollama_timeout_s,
    )
    name = settings.ollama_model or OLLAMA_MODEL
    model = OpenAIEmbedding(name, await connect(endpoint), endpoint)
    return await _proven(model, "OLLAMA_BASE_URL and OLLAMA_MODEL")


async def _voyage(
    settings: EmbeddingSettings, size: int | None, preferred: int | None
) -> EmbeddingModel:
    if not settings.voyage_api_key:
        raise ConfigError("EMBEDDING_PROVIDER is voyage, but VOYAGE_API_KEY is not set")
    model = VoyageEmbedding(
        settings.voyage_model,
        _endpoint(settings, settings.voyage_api_key, None),
        dimension=served_dimension(size, preferred),
    )
    return await _proven(model, "VOYAGE_API_KEY and VOYAGE_MODEL")


def _endpoint(settings: EmbeddingSettings, key: SecretStr | None, base_url: str | None) -> Endpoint:
    return Endpoint(key, base_url, settings.timeout_s, settings.concurrency, settings.prices)


async def _proven(model: EmbeddingModel, variables: str) -> EmbeddingModel:
    """Call the model once, so that a wrong key, address or model name is reported at start."""
    try:
        await retrying()(model.embed, [HARMLESS])
    except (PermanentError, TransientError) as error:
        await model.close()
        reached = "does not serve" if isinstance(error, Unavailable) else "refuses"
        raise ConfigError(
            f"the embedding provider {reached} ({error}); check {variables}"
        ) from error
    return model


def retrying() -> AsyncRetrying:
    """Return the retry policy of that call: at most six tries, within ten seconds.

    A worker does not retry inline: its job is delayed by the stream, which frees the slot.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(TransientError),
        wait=_wait_s,
        stop=stop_after_attempt(6) | stop_before_delay(10.0),
        reraise=True,
    )


def _wait_s(state: RetryCallState) -> float:
    """Return `retry_after_s` where the error names one, else an exponential pause with jitter."""
    error = state.outcome.exception() if state.outcome else None
    wished = error.retry_after_s if isinstance(error, TransientError) else None
    return _BACKOFF(state) if wished is None else wished
