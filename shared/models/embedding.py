"""EmbeddingModel, and which one the settings ask for.

Invariant: a vector that leaves this package is the model's own, unit length and of the
announced dimension; whatever a provider answers otherwise is an error, never a vector.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.config import EmbeddingSettings
from shared.errors import ConfigError, PermanentError, TransientError, Unavailable
from shared.telemetry.log import get_logger

if TYPE_CHECKING:
    from shared.models.circuit import Circuit

log = get_logger(__name__)

Vectors = NDArray[np.float32]

OLLAMA_URL = "http://localhost:11434"
OLLAMA_MODEL = "nomic-embed-text"
_MODEL_SETTING = {"openai": "model", "voyage": "voyage_model", "ollama": "ollama_model"}


class EmbeddingModel(Protocol):
    """Text in, unit vectors out."""

    @property
    def name(self) -> str:
        """Stable identity: part of each `text_hash` and of the generation."""

    @property
    def dimension(self) -> int: ...

    @property
    def paid(self) -> bool:
        """Whether a call costs money or travels, so that waiting for a full batch pays."""

    @property
    def circuit(self) -> Circuit | None:
        """What keeps calls from a provider that is down; None where nothing is called."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, in input order: len(texts) × dimension, float32.

        Raises:
            TransientError: try again, after `retry_after_s` if given; Unavailable: all would
                fail alike.
            PermanentError: at least one text was refused; bisect to find which.
        """

    async def embed_query(self, text: str) -> Vectors:
        """The vector (of `dimension`) of a question; may differ from `embed` of its text."""

    async def close(self) -> None: ...


async def open_embedding(
    settings: EmbeddingSettings, size: int | None = None, *, preferred: int | None = None
) -> EmbeddingModel:
    """The model that EMBEDDING_PROVIDER names, proven to answer.

    `auto` is Voyage with a key, else OpenAI with a key or base URL, else Ollama with one of
    its variables, else the local model. `size` (VECTOR_SIZE) is demanded; `preferred`, a
    live generation's, is only used by a model that can serve several.

    Raises: ConfigError naming the variable to change, also if the provider does not answer.
    """
    provider = chosen_provider(settings)
    model = await _OPENERS[provider](_Wish(settings, size, preferred))
    if size is not None and model.dimension != size:
        await model.close()
        raise ConfigError(
            f"VECTOR_SIZE is {size}, but {model.name} gives {model.dimension} dimensions:"
            f" unset VECTOR_SIZE or set it to {model.dimension}"
        )
    log.info("embedding.opened", provider=provider, model=model.name, dimension=model.dimension)
    return model


def chosen_provider(settings: EmbeddingSettings) -> str:
    """The provider after `auto` is resolved; never `placeholder` unless named."""
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
    """The settings with that provider, and with that model where it serves several.

    `model` may be an EmbeddingModel's `name`; its dimension is then given apart.
    """
    given: dict[str, object] = {"provider": provider}
    if model is not None and provider in _MODEL_SETTING:
        given[_MODEL_SETTING[provider]] = model.partition("@")[0]
    return settings.model_copy(update=given)


class _Wish(NamedTuple):
    settings: EmbeddingSettings
    size: int | None
    preferred: int | None


async def _local(wish: _Wish) -> EmbeddingModel:
    from shared.models.providers.local import LocalEmbedding

    return await LocalEmbedding.load(threads=wish.settings.threads)


async def _placeholder(wish: _Wish) -> EmbeddingModel:
    from shared.models.providers.placeholder import PlaceholderEmbedding

    return PlaceholderEmbedding(wish.size or wish.preferred or 384)


async def _openai(wish: _Wish) -> EmbeddingModel:
    from shared.models.providers.remote import OpenAIEmbedding, sized_model

    settings = wish.settings
    if not settings.openai_api_key and not settings.openai_base_url:
        raise ConfigError("EMBEDDING_PROVIDER is openai, but OPENAI_API_KEY is not set")
    name, dimension = sized_model(
        settings.model, settings.openai_base_url, wish.size, wish.preferred
    )
    key = settings.openai_api_key
    model = await OpenAIEmbedding.connect(
        name,
        api_key=key.get_secret_value() if key else None,
        base_url=settings.openai_base_url,
        requested_dimension=dimension,
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        prices=settings.prices,
    )
    return await _proven(model, "OPENAI_API_KEY, OPENAI_BASE_URL and EMBEDDING_MODEL")


async def _ollama(wish: _Wish) -> EmbeddingModel:
    from shared.models.providers.remote import OpenAIEmbedding

    base = (wish.settings.ollama_base_url or OLLAMA_URL).rstrip("/")
    model = await OpenAIEmbedding.connect(
        wish.settings.ollama_model or OLLAMA_MODEL,
        base_url=base if base.endswith("/v1") else f"{base}/v1",
        timeout_s=wish.settings.ollama_timeout_s,
        concurrency=wish.settings.concurrency,
        prices=wish.settings.prices,
    )
    return await _proven(model, "OLLAMA_BASE_URL and OLLAMA_MODEL")


async def _voyage(wish: _Wish) -> EmbeddingModel:
    from shared.models.providers.voyage import VoyageEmbedding, served_dimension

    if not wish.settings.voyage_api_key:
        raise ConfigError("EMBEDDING_PROVIDER is voyage, but VOYAGE_API_KEY is not set")
    model = VoyageEmbedding(
        wish.settings.voyage_model,
        api_key=wish.settings.voyage_api_key.get_secret_value(),
        dimension=served_dimension(wish.size, wish.preferred),
        timeout_s=wish.settings.timeout_s,
        concurrency=wish.settings.concurrency,
        prices=wish.settings.prices,
    )
    return await _proven(model, "VOYAGE_API_KEY and VOYAGE_MODEL")


async def _proven(model: EmbeddingModel, variables: str) -> EmbeddingModel:
    """Ask once: a wrong key, address or model name is told at start, not by a dead stream."""
    from shared.models.outbound import HARMLESS
    from shared.models.retry import with_retries

    try:
        await with_retries(lambda: model.embed([HARMLESS]), total_s=10.0)
    except (PermanentError, TransientError) as error:
        await model.close()
        reached = "does not serve" if isinstance(error, Unavailable) else "refuses"
        raise ConfigError(
            f"the embedding provider {reached} ({error}); check {variables}"
        ) from error
    return model


_Opener = Callable[[_Wish], Awaitable[EmbeddingModel]]
_OPENERS: dict[str, _Opener] = {
    "local": _local,
    "openai": _openai,
    "ollama": _ollama,
    "voyage": _voyage,
    "placeholder": _placeholder,
}
